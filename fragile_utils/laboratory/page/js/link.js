// A link that repeats an experiment on an example photograph: everything that was chosen, in the address's fragment.

/** @typedef {import('./types.js').Manifest} Manifest @typedef {import('./types.js').Region} Region */
/** @typedef {import('./types.js').Objective} Objective */
/**
 * @typedef {object} Choice
 * @property {string} network
 * @property {string} method its key, as `methodKey` makes it
 * @property {string} example the name of its file
 * @property {Objective} objective
 * @property {number} levels
 * @property {number} steps
 * @property {Region | null} region
 */

/** @type {Objective[]} */ const OBJECTIVES = ['top', 'centre', 'region'];
export const LIMITS = { levels: [1, 16], steps: [1, 100] };

/** One network may have a method at two sizes. @param {import('./types.js').Method} method */
export const methodKey = ({ name, size }) => `${name}-${size}`;

/** @param {Choice} choice */
export function asFragment({ network, method, example, objective, levels, steps, region }) {
  const parts = new URLSearchParams({
    network,
    method,
    example,
    aim: objective,
    levels: `${levels}`,
    steps: `${steps}`,
  });
  if (objective === 'region' && region) {
    parts.set('region', [region.top, region.left, region.bottom, region.right].join('.'));
  }
  return `#${parts}`;
}

/**
 * Make a fragment part of the page's address, and copy that.
 * @param {string} fragment
 * @returns {Promise<boolean>} whether the browser let it be copied
 */
export async function publish(fragment) {
  history.replaceState(null, '', fragment);
  const copying = navigator.clipboard?.writeText(location.href).then(() => true);
  return (await copying?.catch(() => false)) ?? false;
}

/**
 * Read a fragment; null where it is none of ours, or names what this laboratory does not have.
 * @param {string} fragment @param {Manifest} manifest
 * @returns {Choice | null}
 */
export function fromFragment(fragment, manifest) {
  const parts = new URLSearchParams(fragment.replace(/^#/, ''));
  const whole = (/** @type {'levels' | 'steps'} */ name) => {
    const text = parts.get(name) ?? '',
      [low, high] = LIMITS[name];
    return /^\d{1,3}$/.test(text) && Number(text) >= low && Number(text) <= high ? Number(text) : null;
  };
  const network = manifest.networks.find(({ name }) => name === parts.get('network'));
  const method = network?.methods.find((one) => methodKey(one) === parts.get('method'));
  const example = manifest.examples.find((one) => one.file === parts.get('example') && one.network === network?.name);
  const objective = OBJECTIVES.find((one) => one === parts.get('aim'));
  const levels = whole('levels'),
    steps = whole('steps');
  if (!network || !method || !example || !objective || levels === null || steps === null) return null;
  const region = objective === 'region' ? readRegion(parts.get('region') ?? '', method.size) : null;
  if (objective === 'region' && !region) return null;
  return { network: network.name, method: methodKey(method), example: example.file, objective, levels, steps, region };
}

/** @param {string} text @param {number} size @returns {Region | null} */
function readRegion(text, size) {
  if (!/^\d{1,4}(\.\d{1,4}){3}$/.test(text)) return null;
  const [top, left, bottom, right] = text.split('.').map(Number);
  return top < bottom && left < right && bottom <= size && right <= size ? { top, left, bottom, right } : null;
}
