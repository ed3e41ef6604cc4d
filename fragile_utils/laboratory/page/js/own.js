// A photograph of the reader's own: chosen, dropped, pasted or taken with the camera.

import { hasCamera, takePhotograph } from './camera.js';
import { readPhotograph } from './photograph.js';

/** @typedef {{ pixels: import('./resample.js').Pixels, name: string, note: string }} Own */

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/**
 * Listen for photographs.
 * @param {(found: Promise<Own | null>) => void} take called with each; null where the reader thought better of it
 */
export function listenForPhotographs(take) {
  const read = async (/** @type {File} */ file) => ({ ...(await readPhotograph(file, file.name)), name: file.name });
  const first = (/** @type {FileList | null | undefined} */ files) => {
    if (files?.length) take(read(files[0]));
  };

  const chooser = /** @type {HTMLInputElement} */ (byId('file'));
  byId('open-file').addEventListener('click', () => chooser.click());
  chooser.addEventListener('change', () => {
    first(chooser.files);
    chooser.value = ''; // so that the same file may be chosen again
  });

  document.addEventListener('paste', (event) => first(event.clipboardData?.files));
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    document.body.classList.toggle('dropping', event.dataTransfer?.types.includes('Files'));
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) document.body.classList.remove('dropping');
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    document.body.classList.remove('dropping');
    first(event.dataTransfer?.files);
  });

  byId('open-camera').hidden = !hasCamera();
  byId('open-camera').addEventListener('click', () => take(fromCamera()));
}

/** @returns {Promise<Own | null>} */
async function fromCamera() {
  try {
    const pixels = await takePhotograph();
    return pixels && { pixels, name: 'camera', note: '' };
  } catch {
    throw new Error('The browser gives this page no camera: there is none, it is in use, or it was not allowed.');
  }
}
