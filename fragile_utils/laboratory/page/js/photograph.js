// From a file to pixels: upright, on white, and refused with a sentence where that cannot be.

import { readHeader } from './header.js';
import { asPlanes, middleSquare, resample } from './resample.js';

/** @typedef {import('./resample.js').Pixels} Pixels */

export const LARGEST = 50_000_000; // pixels of a photograph
const CANVAS = 16_777_216; // pixels of a canvas that every browser can have; what is larger is brought there first
const BEGINNING = 16 * 2 ** 20; // bytes in which the header is looked for

/** What a reader is told of a file that cannot be used. */
export class Refusal extends Error {}

/**
 * Read a photograph.
 * @param {Blob} file @param {string} name
 * @returns {Promise<{ pixels: Pixels, note: string }>} the note says what there is to know of it, if anything
 */
export async function readPhotograph(file, name) {
  const header = readHeader(await file.slice(0, BEGINNING).arrayBuffer());
  if (!header) {
    throw new Refusal(`“${name}” is no photograph that this page can read: it takes JPEG, PNG, WebP, GIF, AVIF.`);
  }
  refuseHuge(header.width, header.height, name);
  const bitmap = await decode(file, name, header.kind);
  refuseHuge(bitmap.width, bitmap.height, name);
  const pixels = pixelsOf(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  const note = header.animated ? `“${name}” is an animation: the page takes its first picture alone.` : '';
  return { pixels, note };
}

/**
 * Load an example.
 * @param {import('./types.js').Example} example
 */
export async function loadExample({ file, title }) {
  const answer = await fetch(new URL(`../examples/${file}`, import.meta.url)).catch(() => null);
  if (!answer?.ok) {
    const why = answer ? ` (${answer.status})` : '. Is the connection there?';
    throw new Error(`The photograph ${file} could not be loaded${why}`);
  }
  return readPhotograph(await answer.blob(), title);
}

/** @param {number} width @param {number} height @param {string} name */
function refuseHuge(width, height, name) {
  if (width * height <= LARGEST) return;
  const millions = Math.round((width * height) / 1e6);
  throw new Refusal(
    `“${name}” has ${millions} million pixels, and the page takes ${LARGEST / 1e6} million. Save it smaller.`,
  );
}

/** @param {Blob} file @param {string} name @param {string} kind */
async function decode(file, name, kind) {
  try {
    // Upright, as the camera was held; and the numbers that stand in the file, as Pillow has them.
    return await createImageBitmap(file, { imageOrientation: 'from-image', colorSpaceConversion: 'none' });
  } catch {
    throw new Refusal(
      `“${name}” is of the kind ${kind}, but this browser cannot read it: it may be damaged. ` +
        'Another program may save it as JPEG.',
    );
  }
}

/**
 * The pixels of a picture, transparent ones on white.
 * @param {CanvasImageSource} picture @param {number} width @param {number} height
 * @returns {Pixels}
 */
export function pixelsOf(picture, width, height) {
  const shrink = Math.min(1, Math.sqrt(CANVAS / (width * height)));
  const canvas = document.createElement('canvas');
  canvas.width = Math.max(1, Math.floor(width * shrink));
  canvas.height = Math.max(1, Math.floor(height * shrink));
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new Refusal('The browser has no room for a photograph of this size.');
  context.fillStyle = '#fff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = 'high';
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/**
 * A photograph as a network takes it: the square in its middle, brought to size x size, as three planes in [0, 1].
 * @param {Pixels} pixels @param {number} size
 */
export function forNetwork(pixels, size) {
  return asPlanes(resample(pixels, size, middleSquare(pixels.width, pixels.height)));
}
