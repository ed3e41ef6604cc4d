// The beginning: whether this browser can, and what the laboratory has.

import { WEBGPU, partsOf } from './engine.js';
import { Laboratory } from './laboratory.js';
import { forgetOthers } from './parts.js';
import { SENTENCES } from './words.js';

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

async function main() {
  if (typeof WebAssembly !== 'object' || typeof DecompressionStream !== 'function') {
    byId('why').textContent = SENTENCES.tooOld;
    return;
  }
  const answer = await fetch(new URL('../models/manifest.json', import.meta.url)).catch(() => null);
  /** @type {import('./types.js').Manifest | null} */
  const manifest = answer?.ok ? await answer.json().catch(() => null) : null;
  if (!manifest) {
    byId('why').textContent = SENTENCES.noManifest;
    return;
  }
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
