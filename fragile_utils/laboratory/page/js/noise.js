// Noise of the size of what an attack added: `attacks.matched_noise`, for one image.

const ROUNDS = 30; // of the search for the amplitude, which what is cut off at black and white makes larger

/**
 * Random signs, the same for the same seed (the generator "mulberry32").
 * @param {number} count @param {number} seed
 */
export function signs(count, seed) {
  let state = seed | 0;
  return Float32Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) < 0 ? -1 : 1;
  });
}

/**
 * The root mean square of the difference of two images.
 * @param {Float32Array} a @param {Float32Array} b
 */
export function rms(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return Math.sqrt(sum / a.length);
}

/**
 * The original with random signs added, within [0, 1], at a distance of `size` as a root mean square.
 * @param {Float32Array} original @param {number} size @param {number} seed
 */
export function noisy(original, size, seed = 0) {
  const direction = signs(original.length, seed),
    image = new Float32Array(original.length);
  for (let round = 0, amplitude = size; round < ROUNDS; round++) {
    for (let i = 0; i < image.length; i++) {
      image[i] = Math.max(0, Math.min(1, original[i] + amplitude * direction[i]));
    }
    const reached = rms(image, original);
    if (reached === 0 || Math.abs(reached / size - 1) < 1e-6) break;
    amplitude *= size / reached;
  }
  return image;
}
