// What the page says: sentences and numbers in plain English. No element of the page stands here.

/** @typedef {import('./types.js').Outcome} Outcome @typedef {import('./types.js').Objective} Objective */

export const SENTENCES = {
  ready: 'Press Start to see which pixels of this photograph matter to the network.',
  noPhotograph: 'Choose a photograph first.',
  repeat: 'This link holds an experiment. Press Start to repeat it.',
  strangeLink: 'The link names what this laboratory does not have; here is its first example.',
  noLink: 'A link repeats experiments on the examples alone: your photograph stays on your machine.',
  copied: 'The link is copied; it is the address of this page now.',
  linked: 'The address of this page is now the link.',
  again: 'The attack begins again from the original.',
  tooOld: 'This browser is too old for the laboratory: it lacks WebAssembly, or a part of it.',
  noManifest:
    'The list of what this laboratory holds, models/manifest.json, could not be loaded. Is the connection there? ' +
    'Load the page again.',
};

/** @param {number} share */
export const percent = (share) => (share > 0 && share < 0.01 ? '< 1 %' : `${Math.round(100 * share)} %`);

/** @param {number} share */
export const inWords = (share) => percent(share).replace('<', 'less than');

/** @param {number} value @param {number} digits */
export const fixed = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits).replace('-', '−') : '–');

/** @param {number} bytes */
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** @param {number} count @param {string} noun */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** How far an attack is. @param {Outcome} latest @param {number} steps */
export const progress = ({ iterate, milliseconds }, steps) =>
  `step ${iterate} of ${Math.max(iterate, steps)}, ${Math.round(milliseconds)} ms`;

/**
 * What computes the steps.
 * @param {number} threads of WebAssembly
 * @param {import('./types.js').Verdict | null} verdict on the graphics card, where it was tried
 */
export function computedBy(threads, verdict) {
  const wasm = `WebAssembly${threads > 1 ? `, ${threads} threads` : ''}`;
  if (!verdict) return `Computed by ${wasm}.`;
  const { right, trusted, signs, slow, quick, error } = verdict;
  if (error) return `Computed by ${wasm}: the graphics card failed (${error}).`;
  // A share just below the bound must not be rounded up to one that would do.
  const share = `${fixed(Math.floor(1000 * signs) / 10, 1)} %`;
  if (!right) {
    return `Computed by ${wasm}: the graphics card’s first step is another one (${share} of its signs are the same).`;
  }
  const times = `${Math.round(quick)} ms a step instead of ${Math.round(slow)}`;
  if (!trusted) return `Computed by ${wasm}: the graphics card is right, but slower here, with ${times}.`;
  return `Computed by the graphics card: ${times}, and ${share} of the first step’s signs are the same.`;
}

/** @type {Record<Objective, string>} what D is, as short as it goes */
export const CLIMBED = {
  top: 'D, minus weight in the top',
  centre: 'D, distance of the centre',
  region: 'D, weight in the region',
};

/**
 * What there is to know of an explanation before the attack.
 * @param {Outcome} original @param {string[]} classes
 * @param {number | null} label of an example; null of a reader's own
 */
export function explained(original, classes, label) {
  const name = classes[original.predicted];
  if (label === null) {
    const unsure = original.confidence < 0.5 ? `It is not sure (${percent(original.confidence)}). ` : '';
    return (
      `The network says “${name}”. ${unsure}It knows ${classes.length.toLocaleString('en-GB')} classes and nothing ` +
      'else: what is none of them gets the name of the nearest. The attack keeps this answer, right or wrong.'
    );
  }
  if (label !== original.predicted) {
    return `The network says “${name}”, and is wrong: it is a ${classes[label]}. The attack keeps its answer.`;
  }
  return `The network says “${name}”, and the map shows why. Now attack this explanation.`;
}

/**
 * What an attack has come to.
 * @param {{ latest: Outcome, best: Outcome | null, success: boolean, shown: string }} state and which row is shown
 * @param {Objective} objective @param {string[]} classes @param {number} k
 */
export function verdict({ latest, best, success, shown }, objective, classes, k) {
  const steps = counted(latest.iterate, 'step');
  if (!best) {
    return (
      `After ${steps} no iterate has kept the answer, so that the attack has failed, and Algorithm 1 returns the ` +
      'original. What is shown is the latest iterate. Try another budget, more steps, or another photograph.'
    );
  }
  if (!success) return `After ${steps} no iterate has brought the attack nearer to its aim.`;
  const many = k.toLocaleString('en-GB');
  const gone = {
    top: `${inWords(best.intersection)} of the explanation’s ${many} most salient pixels are where they were`,
    centre: `the centre of the explanation has moved by ${fixed(best.shift, 1)} pixels`,
    region: `${inWords(best.d)} of the explanation’s weight is in your region`,
  }[objective];
  const where = shown === 'best' ? 'which is shown' : 'which the table below has';
  const which = best.iterate === latest.iterate ? '' : ` (This is iterate ${best.iterate}, ${where}: the best so far.)`;
  return (
    `After ${steps} the network still says “${classes[best.predicted]}” (${percent(best.confidence)}), ` +
    `no colour of any pixel has moved by more than ${counted(Math.round(best.largest), 'level')} of 255, ` +
    `and ${gone}.${which}`
  );
}

/**
 * What there is to say of an image beside the attack.
 * @param {string} what was done @param {Outcome} outcome @param {string[]} classes
 */
export const compared = (what, { predicted, intersection }, classes) =>
  `${what} the network says “${classes[predicted]}”, and ${inWords(intersection)} of the top pixels are in place.`;

/**
 * What JPEG has done.
 * @param {Outcome} attacked @param {Outcome} original each after it @param {string[]} classes
 */
export const afterJpeg = (attacked, original, classes) =>
  `${compared('After JPEG', attacked, classes).slice(0, -1)}; ` +
  `of the original after JPEG, which nobody attacked, ${inWords(original.intersection)}.`;

/** @param {string} name of a file */
export const saved = (name) =>
  `Saved as ${name}. ` +
  (name.endsWith('png') ? 'PNG keeps every level.' : 'JPEG does not keep every level: load it again, and look.');

/**
 * A short name for a file.
 * @param {string} name
 */
export const asFileName = (name) =>
  name
    .replace(/\.[^.]*$/, '')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-|-$/g, '') || 'photograph';
