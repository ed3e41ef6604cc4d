// Pictures of images, changes and maps, as `fragile_utils.plots.maps` draws them: bytes for a canvas.

import { BLACK, BLUE, MAGMA, ORANGE, WHITE } from './colours.js';
import { quantile } from './measures.js';
import { asPicture } from './resample.js';

const SHARE = 0.995; // the value from which on a map shows its lightest colour

/** @param {Float32Array} map */
export const ceiling = (map) => quantile(map, SHARE);

/**
 * How many times a change is amplified, so that its largest value spans the range.
 * @param {Float32Array} before @param {Float32Array} after
 */
export function gain(before, after) {
  let largest = 0;
  for (let i = 0; i < before.length; i++) largest = Math.max(largest, Math.abs(after[i] - before[i]));
  return largest > 0 ? 0.5 / largest : 1;
}

/** @param {Float32Array} before @param {Float32Array} after */
export function changePicture(before, after) {
  const factor = gain(before, after);
  return asPicture(before.map((value, i) => Math.min(1, Math.max(0, 0.5 + factor * (after[i] - value)))));
}

/** @param {Float32Array} map @param {number} top the value from which on it shows the lightest colour */
export function mapPicture(map, top) {
  const bytes = new Uint8ClampedArray(4 * map.length).fill(255);
  for (let i = 0; i < map.length; i++) {
    const colour = 3 * Math.min(255, Math.floor((256 * map[i]) / (top || 1)));
    for (let c = 0; c < 3; c++) bytes[4 * i + c] = MAGMA[colour + c];
  }
  return bytes;
}

/** @param {Float32Array} before @param {Float32Array} after masks of the most salient pixels */
export function topPicture(before, after) {
  const colours = [WHITE, BLUE, ORANGE, BLACK],
    bytes = new Uint8ClampedArray(4 * before.length).fill(255);
  for (let i = 0; i < before.length; i++) bytes.set(colours[before[i] + 2 * after[i]], 4 * i);
  return bytes;
}

/**
 * Show a picture.
 * @param {HTMLCanvasElement} canvas @param {Uint8ClampedArray} bytes @param {string} words for those who do not see it
 */
export function draw(canvas, bytes, words) {
  const size = Math.sqrt(bytes.length / 4);
  if (canvas.width !== size) canvas.width = canvas.height = size;
  const picture = new ImageData(/** @type {Uint8ClampedArray<ArrayBuffer>} */ (bytes), size, size);
  canvas.getContext('2d')?.putImageData(picture, 0, 0);
  canvas.setAttribute('aria-label', words);
  delete canvas.dataset.empty;
}

/** @param {HTMLCanvasElement} canvas @param {string} words */
export function clear(canvas, words) {
  canvas.dataset.empty = '';
  canvas.setAttribute('aria-label', words);
}
