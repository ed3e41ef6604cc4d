// One photograph under attack: Algorithm 1 of the paper, iterate by iterate, and the measures of each.

import { argmax, centre, correlation, intersection, loss, ranks, shift, topMask } from './measures.js';
import { noisy, rms } from './noise.js';

/** @typedef {import('./engine.js').Engine} Engine @typedef {import('./checked.js').Checked} Checked */
/** @typedef {import('./types.js').Aim} Aim */
/** @typedef {import('./types.js').Outcome} Outcome @typedef {import('./types.js').Region} Region */

const LEVEL = 1 / 255;
export const STEP = 1; // levels: with whole levels every iterate is an image of 8 bits, and PNG keeps it

export class Experiment {
  /** @type {Outcome | null} the iterate with the largest D among those that keep the label, as Algorithm 1 says */
  best = null;
  /** @type {Outcome | null} */ latest = null;
  /** @type {Float32Array | null} the iterate after the latest */ next = null;
  drawn = 0; // how often noise was added beside this attack

  /** @param {Engine | Checked} engine @param {Float32Array} image three planes in [0, 1] */
  constructor(engine, image) {
    this.engine = engine;
    this.image = image;
    this.size = engine.method?.size ?? 0;
    this.k = engine.method?.k ?? 0;
    /** @type {Aim} */
    this.aim = { objective: 'top', region: { top: 0, left: 0, bottom: 1, right: 1 }, levels: 8 };
    this.label = -1;
  }

  /** Explain the original. @returns {Promise<Outcome>} */
  async begin() {
    const start = performance.now();
    const { map, logits, label } = await this.engine.explain(this.image);
    this.label = label;
    this.before = { top: topMask(map, this.k), ranks: ranks(map), centre: centre(map, this.size) };
    this.original = this.#outcome(this.image, map, logits, NaN, 0, performance.now() - start);
    return this.original;
  }

  /** Attack with this aim, from the original on. @param {Aim} aim */
  restart(aim) {
    this.aim = aim;
    this.best = this.latest = this.next = null;
    this.drawn = 0;
  }

  /** Take one step, and return what there is to say of the new iterate. @returns {Promise<Outcome>} */
  async advance() {
    const from = this.next ?? (await this.#measure(this.image, 0)).next;
    const { outcome, next } = await this.#measure(from, (this.latest?.iterate ?? 0) + 1);
    this.next = next;
    this.latest = outcome;
    if (outcome.kept && outcome.d > (this.best?.d ?? -Infinity)) this.best = outcome;
    return outcome;
  }

  /** Whether the best iterate raised D above that of the original, so that the attack counts as a success. */
  get success() {
    return this.best !== null && this.best.d > (this.start ?? Infinity);
  }

  /** The original with noise of the size of what the attack added, drawn anew. @returns {Promise<Outcome>} */
  async noise() {
    const attacked = this.best ?? this.latest;
    const image = attacked ? noisy(this.image, rms(attacked.image, this.image), this.drawn++) : this.image;
    return (await this.#measure(image, NaN)).outcome;
  }

  /** What there is to say of any other image, with this label and this aim. @param {Float32Array} image */
  async look(image) {
    return (await this.#measure(image, NaN)).outcome;
  }

  get #reference() {
    const { objective, region } = this.aim;
    if (objective === 'centre') return Float32Array.from(this.before?.centre ?? []);
    // The graph's D is minus the mass in the reference: minus the region makes it the mass in the region.
    return objective === 'region' ? mask(region, this.size, -1) : /** @type {Float32Array} */ (this.before?.top);
  }

  /** @param {Float32Array} image @param {number} iterate */
  async #measure(image, iterate) {
    const start = performance.now();
    const { next, map, logits, d } = await this.engine.step(this.aim.objective === 'centre' ? 'centre' : 'topk', {
      image,
      original: this.image,
      label: this.label,
      reference: this.#reference,
      eps: this.aim.levels * LEVEL,
      stepSize: STEP * LEVEL,
    });
    if (iterate === 0) this.start = d;
    return { next, outcome: this.#outcome(image, map, logits, d, iterate, performance.now() - start) };
  }

  /**
   * @param {Float32Array} image @param {Float32Array} map @param {Float32Array} logits @param {number} d
   * @param {number} iterate @param {number} milliseconds
   * @returns {Outcome}
   */
  #outcome(image, map, logits, d, iterate, milliseconds) {
    const top = topMask(map, this.k),
      predicted = argmax(logits);
    const before = /** @type {NonNullable<typeof this.before>} */ (this.before);
    return {
      iterate,
      image,
      map,
      top,
      predicted,
      d,
      milliseconds,
      confidence: Math.exp(-loss(logits, predicted)),
      loss: loss(logits, this.label),
      kept: predicted === this.label && map.some((value) => value > 0),
      intersection: intersection(before.top, top, this.k),
      correlation: correlation(before.ranks, ranks(map)),
      shift: shift(before.centre, centre(map, this.size)),
      largest: 255 * image.reduce((most, value, i) => Math.max(most, Math.abs(value - this.image[i])), 0),
      size: 255 * rms(image, this.image),
    };
  }
}

/**
 * A region as a mask: `inside` in it, else 0.
 * @param {Region} region @param {number} size @param {number} inside
 */
export function mask({ top, left, bottom, right }, size, inside = 1) {
  const found = new Float32Array(size * size);
  for (let row = top; row < bottom; row++) found.fill(inside, row * size + left, row * size + right);
  return found;
}
