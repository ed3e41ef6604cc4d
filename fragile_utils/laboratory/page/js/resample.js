// Bring a photograph to the size of a network, exactly as the package does: Pillow's bilinear filter with
// antialiasing, in its integers (Pillow, src/libImaging/Resample.c), so that both see the same image.

const BITS = 22; // of the weights

/** @typedef {{ data: Uint8ClampedArray, width: number, height: number }} Pixels red, green, blue, alpha, row by row */

/**
 * Which pixels of a line each pixel of the new line takes, from `first` on, and with what weights.
 * @param {number} length @param {number} from @param {number} to @param {number} size
 */
function weights(length, from, to, size) {
  const scale = (to - from) / size,
    reach = Math.max(1, scale);
  return Array.from({ length: size }, (_, place) => {
    const middle = from + (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(middle - reach + 0.5));
    const last = Math.min(length, Math.trunc(middle + reach + 0.5));
    const triangle = Array.from({ length: last - first }, (_, i) =>
      Math.max(0, 1 - Math.abs((i + first - middle + 0.5) / reach)),
    );
    const sum = triangle.reduce((a, b) => a + b, 0);
    return { first, parts: Int32Array.from(triangle, (part) => Math.trunc(0.5 + (part / sum) * 2 ** BITS)) };
  });
}

/**
 * The largest square in the middle, as `PIL.ImageOps.fit` takes it: left, top, right, bottom.
 * @param {number} width @param {number} height
 */
export function middleSquare(width, height) {
  const side = Math.min(width, height),
    left = (width - side) * 0.5,
    top = (height - side) * 0.5;
  return [left, top, left + side, top + side];
}

/**
 * The pixels within a box, brought to size x size: bytes of red, green and blue.
 * @param {Pixels} pixels @param {number} size @param {number[]} box left, top, right, bottom
 */
export function resample({ data, width, height }, size, [left, top, right, bottom]) {
  const columns = weights(width, left, right, size),
    rows = weights(height, top, bottom, size);
  const start = rows[0].first,
    end = rows[size - 1].first + rows[size - 1].parts.length;
  const narrow = new Uint8ClampedArray((end - start) * size * 3);
  for (let y = start, to = 0; y < end; y++) {
    for (const { first, parts } of columns) {
      let red = 1 << (BITS - 1),
        green = red,
        blue = red;
      for (let i = 0, from = 4 * (y * width + first); i < parts.length; i++, from += 4) {
        red += data[from] * parts[i];
        green += data[from + 1] * parts[i];
        blue += data[from + 2] * parts[i];
      }
      narrow[to++] = red >> BITS;
      narrow[to++] = green >> BITS;
      narrow[to++] = blue >> BITS;
    }
  }
  const result = new Uint8ClampedArray(size * size * 3),
    line = size * 3;
  for (let y = 0; y < size; y++) {
    const { first, parts } = rows[y];
    for (let x = 0; x < line; x++) {
      let sum = 1 << (BITS - 1);
      for (let i = 0; i < parts.length; i++) sum += narrow[(first - start + i) * line + x] * parts[i];
      result[y * line + x] = sum >> BITS;
    }
  }
  return result;
}

/**
 * Bytes of red, green and blue, pixel by pixel, as a network takes them: plane by plane, in [0, 1].
 * @param {Uint8ClampedArray} bytes
 */
export function asPlanes(bytes) {
  const area = bytes.length / 3,
    planes = new Float32Array(bytes.length);
  for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) planes[c * area + i] = bytes[3 * i + c] / 255;
  return planes;
}

/**
 * Planes in [0, 1] as what a canvas takes, rounded to whole levels.
 * @param {Float32Array} planes
 */
export function asPicture(planes) {
  const area = planes.length / 3,
    bytes = new Uint8ClampedArray(4 * area).fill(255);
  for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) bytes[4 * i + c] = Math.round(255 * planes[c * area + i]);
  return bytes;
}
