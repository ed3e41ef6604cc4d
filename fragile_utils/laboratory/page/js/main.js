// The beginning: whether this browser can, and what the laboratory has.

import { WEBGPU, partsOf } from './engine.js';
import { Laboratory } from './laboratory.js';
import { forgetOthers } from './parts.js';
import { SENTENCES } from './words.js';

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

async function main() {
  if (typeof WebAssembly !== 'object' || typeof DecompressionStream !== 'function') {
    byId('unable').firstChild?.replaceWith(SENTENCES.tooOld);
    return;
  }
  const answer = await fetch(new URL('../models/manifest.json', import.meta.url));
  if (!answer.ok) throw new Error(`models/manifest.json: ${answer.status}`);
  /** @type {import('./types.js').Manifest} */
  const manifest = await answer.json();
  byId('unable').hidden = true;
  byId('laboratory').hidden = false;
  if (matchMedia('(max-width: 60rem)').matches) byId('choices').removeAttribute('open');
  const laboratory = new Laboratory(manifest);
  addEventListener('hashchange', () => location.reload());
  await laboratory.attempt(() => laboratory.open());
  const parts = manifest.networks.flatMap((network) => partsOf(network, network.methods));
  await forgetOthers([...parts, WEBGPU.code]);
}

await main();
