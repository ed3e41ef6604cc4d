// What the page says: sentences and numbers in plain English. No element of the page stands here.

/** @typedef {import('./types.js').Outcome} Outcome @typedef {import('./types.js').Objective} Objective */

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

/** @type {Record<Objective, string>} what D is, as short as it goes */
export const CLIMBED = {
  top: 'D, minus weight in the top',
  centre: 'D, distance of the centre',
  region: 'D, weight in the region',
};

/**
 * What there is to know of an explanation before the attack.
 * @param {Outcome} original @param {string[]} classes @param {number | null} label of an example; null of a reader's own
 */
export function explained(original, classes, label) {
  const name = classes[original.predicted];
  if (label === null) {
    const unsure = original.confidence < 0.5 ? `It is not sure (${percent(original.confidence)}). ` : '';
    return `The network says “${name}”. ${unsure}It knows ${classes.length.toLocaleString('en-GB')} classes and nothing ` +
      'else: what is none of them gets the name of the nearest. The attack keeps this answer, right or wrong.';
  }
  if (label !== original.predicted) {
    return `The network says “${name}”, and is wrong: it is a ${classes[label]}. The attack keeps the network’s answer.`;
  }
  return `The network says “${name}”, and the map shows why. Now attack this explanation.`;
}

/**
 * What an attack has come to.
 * @param {{ latest: Outcome, best: Outcome | null, success: boolean }} state
 * @param {Objective} objective @param {string[]} classes @param {number} k
 */
export function verdict({ latest, best, success }, objective, classes, k) {
  const steps = counted(latest.iterate, 'step');
  if (!best) {
    return `After ${steps} no iterate has kept the answer, so that Algorithm 1 returns nothing. ` +
      'Try a smaller budget, more steps, or another photograph.';
  }
  if (!success) return `After ${steps} no iterate has brought the attack nearer to its aim.`;
  const gone = {
    top: `${inWords(best.intersection)} of the explanation’s ${k.toLocaleString('en-GB')} most salient pixels are where they were`,
    centre: `the centre of the explanation has moved by ${fixed(best.shift, 1)} pixels`,
    region: `${inWords(best.d)} of the explanation’s weight is in your region`,
  }[objective];
  const which = best.iterate === latest.iterate ? '' : ` (The best iterate that keeps the answer is ${best.iterate}, and is shown.)`;
  return `After ${steps} the network still says “${classes[best.predicted]}” (${percent(best.confidence)}), ` +
    `no colour of any pixel has moved by more than ${counted(Math.round(best.largest), 'level')} of 255, ` +
    `and ${gone}.${which}`;
}

/**
 * A short name for a file.
 * @param {string} name
 */
export const asFileName = (name) =>
  name.replace(/\.[^.]*$/, '').toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '') || 'photograph';
