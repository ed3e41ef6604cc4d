// How much two saliency maps differ: `fragile_utils.metrics`, for one pair of maps; tests hold the numbers together.
// A map is a Float32Array of size x size pixels, row by row, non-negative.

/**
 * Mark the k most salient pixels: 1 where chosen, else 0. Between equal values at the threshold the first ones count.
 * @param {Float32Array} map
 * @param {number} k
 * @returns {Float32Array}
 */
export function topMask(map, k) {
  const threshold = Float32Array.from(map).sort()[map.length - k];
  const mask = new Float32Array(map.length);
  let left = k;
  for (let i = 0; i < map.length; i++)
    if (map[i] > threshold) {
      mask[i] = 1;
      left--;
    }
  for (let i = 0; left > 0; i++)
    if (map[i] === threshold) {
      mask[i] = 1;
      left--;
    }
  return mask;
}

/**
 * The share of the pixels of one mask that are in another, of as many pixels.
 * @param {Float32Array} before @param {Float32Array} after @param {number} k
 */
export function intersection(before, after, k) {
  let shared = 0;
  for (let i = 0; i < before.length; i++) shared += before[i] * after[i];
  return shared / k;
}

const PLACES = 2 ** 21; // more than a map has pixels; a value's 32 bits and a place fit into the 53 bits of a number

/**
 * The rank of each pixel, from 0; equal values share their average rank.
 * @param {Float32Array} map
 * @returns {Float64Array}
 */
export function ranks(map) {
  const n = map.length;
  const bits = new Uint32Array(Float32Array.from(map).buffer); // of non-negative numbers they have the same order
  const keys = Float64Array.from(bits, (value, i) => value * PLACES + i).sort();
  const found = new Float64Array(n);
  for (let first = 0, next; first < n; first = next) {
    const value = Math.floor(keys[first] / PLACES);
    for (next = first + 1; next < n && Math.floor(keys[next] / PLACES) === value;) next++;
    for (let i = first; i < next; i++) found[keys[i] % PLACES] = (first + next - 1) / 2;
  }
  return found;
}

/**
 * Spearman's correlation of two maps, given as their ranks; NaN where one is constant.
 * @param {Float64Array} a @param {Float64Array} b
 */
export function correlation(a, b) {
  const mean = (a.length - 1) / 2;
  let ab = 0,
    aa = 0,
    bb = 0;
  for (let i = 0; i < a.length; i++) {
    const u = a[i] - mean,
      v = b[i] - mean;
    ab += u * v;
    aa += u * u;
    bb += v * v;
  }
  return Math.max(-1, Math.min(1, ab / Math.sqrt(aa * bb)));
}

/**
 * The centre of mass, as row and column in pixels.
 * @param {Float32Array} map @param {number} size
 * @returns {[number, number]}
 */
export function centre(map, size) {
  let row = 0,
    column = 0,
    total = 0;
  for (let i = 0; i < map.length; i++) {
    row += map[i] * Math.floor(i / size);
    column += map[i] * (i % size);
    total += map[i];
  }
  return [row / total, column / total];
}

/**
 * The distance of two centres, in pixels.
 * @param {[number, number]} a @param {[number, number]} b
 */
export const shift = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/**
 * The loss of a class: minus the logarithm of its probability.
 * @param {Float32Array} logits @param {number} label
 */
export function loss(logits, label) {
  const top = logits.reduce((a, b) => Math.max(a, b));
  return Math.log(logits.reduce((sum, value) => sum + Math.exp(value - top), 0)) + top - logits[label];
}

/** @param {ArrayLike<number>} values */
export function argmax(values) {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i] > values[best]) best = i;
  return best;
}

/**
 * The value below which a share of the map lies, between two pixels on the straight line: NumPy's `quantile`.
 * @param {Float32Array} map @param {number} share
 */
export function quantile(map, share) {
  const sorted = Float32Array.from(map).sort(),
    place = share * (map.length - 1),
    low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}
