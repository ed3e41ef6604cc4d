// A photograph from the camera, in a dialogue; nothing is recorded.

import { pixelsOf } from './photograph.js';

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Whether the browser lets this page ask for a camera. */
export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * Show the camera, and return the pixels of the photograph that is taken; null where the reader cancels.
 * @returns {Promise<import('./resample.js').Pixels | null>}
 */
export async function takePhotograph() {
  const dialogue = /** @type {HTMLDialogElement} */ (byId('camera'));
  const video = /** @type {HTMLVideoElement} */ (byId('viewfinder'));
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' }, audio: false });
  try {
    video.srcObject = stream;
    dialogue.showModal();
    await video.play();
    return await new Promise((resolve) => {
      byId('take').onclick = () => resolve(pixelsOf(video, video.videoWidth, video.videoHeight));
      byId('leave-camera').onclick = () => resolve(null);
      dialogue.onclose = () => resolve(null); // the Escape key
    });
  } finally {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
    dialogue.close();
  }
}
