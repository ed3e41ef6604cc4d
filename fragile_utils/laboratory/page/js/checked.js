// A fast engine beside one that is sure: it computes the steps only where it has shown that it computes the same.

/** @typedef {import('./engine.js').Engine} Engine @typedef {import('./engine.js').Step} Step */
/** @typedef {import('./types.js').Network} Network @typedef {import('./types.js').Method} Method */
/** @typedef {import('./types.js').Verdict} Verdict */

// What the tests of the page ask of WebAssembly against Python, its next image and D and map, is asked here again.
const BOUNDS = { signs: 0.995, d: 5e-3, pixels: 0.05, map: 5e-3 };
const SAME = 1e-4; // of the values of images, whose steps are 1 / 255
const PATIENCE = 1; // a step may take at most this times as long as that of the engine that is sure

/**
 * Whether a fast engine's first step of a graph is right, and faster.
 * @param {'topk' | 'centre'} graph @param {Step} expected @param {Step} found
 * @param {number} slow milliseconds of the step that is sure @param {number} quick of the other
 * @returns {Verdict}
 */
export function judged(graph, expected, found, slow, quick) {
  const same = expected.next.reduce((sum, value, i) => sum + Number(Math.abs(value - found.next[i]) < SAME), 0);
  const apart = expected.map.reduce((sum, value, i) => sum + Math.abs(value - found.map[i]), 0);
  const signs = same / expected.next.length,
    bound = graph === 'centre' ? BOUNDS.pixels : BOUNDS.d * Math.abs(expected.d); // the centre's D begins at 0
  const right = signs >= BOUNDS.signs && apart <= BOUNDS.map && Math.abs(expected.d - found.d) <= bound;
  return { right, trusted: right && quick <= PATIENCE * slow, signs, slow, quick, error: '' };
}

export class Checked {
  /** @type {Map<string, Verdict>} of each graph of the chosen network and method */ #verdicts = new Map();
  /** @type {Verdict | null} on the graph of the latest step */ verdict = null;

  /** @param {Engine} sure @param {Engine} fast @param {(bytes: number) => void} arrived */
  constructor(sure, fast, arrived = () => undefined) {
    this.sure = sure;
    this.fast = fast;
    this.arrived = arrived;
  }

  get method() {
    return this.sure.method;
  }

  get threads() {
    return this.sure.threads;
  }

  /** @param {Network} network @param {Method} method @param {(bytes: number) => void} arrived */
  async open(network, method, arrived) {
    if (network !== this.sure.network || method !== this.sure.method) this.#verdicts.clear();
    await this.sure.open(network, method, arrived);
  }

  /** @param {Float32Array} image */
  explain(image) {
    return this.sure.explain(image);
  }

  /** One step, as of an `Engine`. @type {Engine['step']} */
  async step(graph, given) {
    const known = this.verdict?.error ? this.verdict : this.#verdicts.get(graph);
    if (!known) return this.#examine(graph, given);
    this.verdict = known;
    if (!known.trusted) return this.sure.step(graph, given);
    try {
      return await this.fast.step(graph, given);
    } catch (error) {
      this.verdict = failed(error);
      return this.sure.step(graph, given);
    }
  }

  /** The first step with a graph, by both. @type {Engine['step']} */
  async #examine(graph, given) {
    const { network, method } = this.sure;
    const [expected, slow] = await timed(() => this.sure.step(graph, given));
    try {
      await this.fast.open(/** @type {Network} */ (network), /** @type {Method} */ (method), this.arrived, graph);
      await this.fast.step(graph, given); // a graphics card first makes its programs
      const [found, quick] = await timed(() => this.fast.step(graph, given));
      this.verdict = judged(graph, expected, found, slow, quick);
      this.#verdicts.set(graph, this.verdict);
    } catch (error) {
      this.verdict = failed(error);
    }
    return expected;
  }
}

/** What fails once is not tried again. @param {unknown} error @returns {Verdict} */
function failed(error) {
  const said = error instanceof Error ? error.message : String(error);
  return { right: false, trusted: false, signs: NaN, slow: NaN, quick: NaN, error: said || 'no reason was given' };
}

/** @template T @param {() => Promise<T>} work @returns {Promise<[T, number]>} */
async function timed(work) {
  const start = performance.now();
  const result = await work();
  return [result, performance.now() - start];
}
