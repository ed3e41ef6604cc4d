// Photographs as files: PNG keeps every level, JPEG does not.

import { forNetwork, readPhotograph } from './photograph.js';
import { asPicture } from './resample.js';

/**
 * An image as a file.
 * @param {Float32Array} image @param {'image/png' | 'image/jpeg'} type
 * @returns {Promise<Blob>}
 */
export async function asFile(image, type) {
  const bytes = asPicture(image),
    canvas = document.createElement('canvas');
  canvas.width = canvas.height = Math.sqrt(bytes.length / 4);
  canvas
    .getContext('2d')
    ?.putImageData(
      new ImageData(/** @type {Uint8ClampedArray<ArrayBuffer>} */ (bytes), canvas.width, canvas.height),
      0,
      0,
    );
  const file = await new Promise((/** @type {(blob: Blob | null) => void} */ resolve) =>
    canvas.toBlob(resolve, type, 0.9),
  );
  if (file?.type !== type) throw new Error('The browser cannot write this kind of file.');
  return file;
}

/** @param {Blob} file @param {string} name */
export function save(file, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // once the browser has taken it
}

/**
 * An image as it comes back from a JPEG, of the same size.
 * @param {Float32Array} image
 */
export async function throughJpeg(image) {
  const { pixels } = await readPhotograph(await asFile(image, 'image/jpeg'), 'JPEG');
  return forNetwork(pixels, pixels.width);
}
