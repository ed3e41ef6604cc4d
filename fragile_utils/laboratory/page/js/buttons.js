// The buttons of the bench: which are there, and what stands on them.

import { megabytes } from './words.js';

const button = (/** @type {string} */ id) => /** @type {HTMLButtonElement} */ (document.getElementById(id));

/**
 * Show the buttons as they are now.
 * @param {object} state
 * @param {boolean} state.ready whether there is an explanation to attack
 * @param {boolean} state.loading
 * @param {number} state.bytes that Start would load
 * @param {boolean} state.running @param {number} state.iterate @param {number} state.steps
 */
export function showButtons({ ready, loading, bytes, running, iterate, steps }) {
  button('start').hidden = ready;
  button('start').disabled = loading;
  button('start').textContent = bytes ? `Start (loads ${megabytes(bytes)} once)` : 'Start';
  for (const id of ['play', 'one-step', 'again']) button(id).hidden = !ready;
  const next = !iterate ? 'Attack' : iterate >= steps ? 'Attack again' : 'Go on';
  button('play').textContent = running ? 'Pause' : next;
}
