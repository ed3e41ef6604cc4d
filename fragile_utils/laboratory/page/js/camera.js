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
  const take = /** @type {HTMLButtonElement} */ (byId('take'));
  const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment' }, audio: false });
  try {
    take.disabled = true; // until there is a picture to take
    const answer = new Promise((resolve) => {
      take.onclick = () => resolve(pixelsOf(video, video.videoWidth, video.videoHeight));
      byId('leave-camera').onclick = () => resolve(null);
      dialogue.onclose = () => resolve(null); // the Escape key
    });
    video.srcObject = stream;
    dialogue.showModal();
    const playing = video.play().then(() => {
      take.disabled = false;
      take.focus();
      return answer;
    });
    return await Promise.race([answer, playing]);
  } finally {
    for (const track of stream.getTracks()) track.stop();
    video.srcObject = null;
    dialogue.close();
  }
}
