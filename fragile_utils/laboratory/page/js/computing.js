// What computes the steps: a line that says so, and the button with which the reader asks for the graphics card.

import { WEBGPU } from './engine.js';
import { ended, expect } from './loading.js';
import { computedBy, megabytes } from './words.js';

/** @typedef {import('./client.js').Client} Client @typedef {import('./types.js').Verdict} Verdict */

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class Computing {
  threads = 1; // of WebAssembly
  /** @type {Verdict | null} on the graphics card, once the reader has asked for it */ verdict = null;
  asked = false;
  /** @type {boolean | null} whether there is a graphics card to ask for; null where nobody has looked */ #there = null;

  /** Look whether there is a graphics card. */
  async look() {
    this.#there ??= Boolean(await navigator.gpu?.requestAdapter().catch(() => null));
  }

  /** Have the graphics card compute, where it does so rightly and faster. @param {Client} client */
  async accelerate(client) {
    this.asked = true;
    expect(WEBGPU.code.bytes);
    byId('play').focus(); // the button that had the focus goes
    this.show(true);
    byId('computed').textContent = 'Trying the graphics card …';
    try {
      this.verdict = (await client.do('accelerate')).verdict;
    } finally {
      ended();
    }
  }

  /** @param {boolean} ready whether there is anything to compute */
  show(ready) {
    byId('computing').hidden = !ready;
    byId('computed').textContent = computedBy(this.threads, this.verdict);
    byId('accelerate').hidden = this.asked || !this.#there;
    byId('accelerate').textContent = `Try the graphics card (loads ${megabytes(WEBGPU.code.bytes)} once)`;
  }
}
