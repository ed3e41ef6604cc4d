// What there is to see of an experiment: the six pictures, the answers, the curves and the table.

import { Curve } from './curves.js';
import { ceiling, changePicture, clear, draw, gain, mapPicture, topPicture } from './paint.js';
import { asPicture } from './resample.js';
import { CLIMBED, fixed, percent } from './words.js';

/** @typedef {import('./types.js').Outcome} Outcome @typedef {import('./types.js').Objective} Objective */
/** @typedef {'latest' | 'best' | 'noise' | 'plain' | 'jpeg'} Row what can be shown beside the original */

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const canvas = (/** @type {string} */ id) => /** @type {HTMLCanvasElement} */ (byId(id));

/** @type {Record<Row, Outcome | null>} */
export const NONE = { latest: null, best: null, noise: null, plain: null, jpeg: null };
/** @type {Record<Row, string>} */
const NAMES = {
  latest: 'latest iterate',
  best: 'best that keeps the answer',
  noise: 'noise of the same size',
  plain: 'the original, through JPEG',
  jpeg: 'the attacked, through JPEG',
};
const MEASURES = /** @type {const} */ (['intersection', 'correlation', 'shift', 'd']);

export class View {
  /** @param {(row: Row) => void} choose called when the reader wants to see another row */
  constructor(choose) {
    this.choose = choose;
    const place = byId('curves');
    this.curves = {
      intersection: new Curve(place, 'top pixels in place', { range: [0, 1], format: percent }),
      correlation: new Curve(place, 'rank correlation', { range: [0, 1], format: (value) => fixed(value, 2) }),
      shift: new Curve(place, 'centre shift, in pixels', { format: (value) => fixed(value, 1) }),
      d: new Curve(place, CLIMBED.top, { format: (value) => fixed(value, 3) }),
    };
  }

  /** Show a photograph that is not explained yet. @param {Float32Array} image @param {string} name */
  photograph(image, name) {
    draw(canvas('photo-before'), asPicture(image), `The photograph: ${name}`);
    for (const [id, words] of [
      ['photo-now', 'The photograph under attack'],
      ['change', 'The change, amplified'],
      ['map-before', 'The explanation before'],
      ['map-now', 'The explanation now'],
      ['top', 'The most salient pixels'],
    ]) {
      clear(canvas(id), `${words}: nothing yet`);
    }
    byId('change-caption').textContent = 'The change, amplified';
    byId('answers').hidden = byId('results').hidden = true;
  }

  /**
   * Show an image beside the original, or the original alone.
   * @param {Outcome} original @param {Outcome | null} shown @param {Row} row @param {number} k
   */
  pictures(original, shown, row, k) {
    const top = Math.max(ceiling(original.map), shown ? ceiling(shown.map) : 0); // one scale for both maps
    draw(canvas('map-before'), mapPicture(original.map, top), 'Saliency map of the original photograph');
    byId('top-caption').textContent = `The ${k.toLocaleString('en-GB')} most salient pixels`;
    if (!shown) return;
    const words = row === 'latest' ? `step ${shown.iterate}` : NAMES[row];
    const times = Math.round(gain(original.image, shown.image));
    draw(canvas('photo-now'), asPicture(shown.image), `The photograph, ${words}`);
    draw(
      canvas('change'),
      changePicture(original.image, shown.image),
      `The change, ${times} times amplified, ${words}`,
    );
    draw(canvas('map-now'), mapPicture(shown.map, top), `Saliency map, ${words}`);
    draw(
      canvas('top'),
      topPicture(original.top, shown.top),
      `Most salient pixels before and now: ${percent(shown.intersection)} are in place, ${words}`,
    );
    byId('change-caption').textContent = `The change, ${times} times amplified`;
  }

  /** @param {Outcome} original @param {Outcome | null} shown @param {Row} row @param {string[]} classes */
  answers(original, shown, row, classes) {
    byId('answers').hidden = false;
    byId('answer-before').replaceChildren(...answer(original, classes));
    byId('answer-title').textContent = row === 'latest' ? 'and now' : `and now, ${NAMES[row]}`;
    const now = shown ? answer(shown, classes) : ['nothing is attacked yet'];
    const name = classes[original.predicted];
    if (shown) now.push(' ', small(shown.kept ? 'kept' : `no longer “${name}”`, shown.kept ? 'kept' : 'lost'));
    byId('answer-now').replaceChildren(...now);
  }

  /**
   * Draw the curves.
   * @param {Outcome[]} iterates from the original on @param {number} steps @param {Objective} objective
   * @param {Record<Row, Outcome | null>} rows @param {Row} shown whose values are written above the curves
   */
  measures(iterates, steps, objective, rows, shown) {
    byId('results').hidden = iterates.length < 2;
    const { best, noise } = rows,
      seen = rows[shown];
    this.curves.d.rename(CLIMBED[objective]);
    for (const measure of MEASURES) {
      const values = iterates.map((outcome) => outcome[measure]);
      this.curves[measure].draw({
        values,
        steps,
        best: best?.iterate ?? 0,
        noise: noise ? noise[measure] : null,
        shown: seen ? seen[measure] : NaN,
      });
    }
  }

  /**
   * Write the table; a row of it is shown in the pictures.
   * @param {Partial<Record<Row, Outcome | null>>} rows @param {Row} shown @param {string[]} classes
   */
  table(rows, shown, classes) {
    const focused = document.activeElement instanceof HTMLInputElement ? document.activeElement.value : '';
    const made = Object.entries(rows).flatMap(([name, outcome]) =>
      outcome ? [this.#row(/** @type {Row} */ (name), outcome, name === shown, classes)] : [],
    );
    byId('rows').replaceChildren(...made);
    /** @type {HTMLInputElement | null} */ (byId('rows').querySelector(`[value="${focused}"]`))?.focus();
  }

  /** @param {Row} name @param {Outcome} outcome @param {boolean} checked @param {string[]} classes */
  #row(name, outcome, checked, classes) {
    const row = document.createElement('tr'),
      head = document.createElement('th'),
      label = document.createElement('label');
    const radio = Object.assign(document.createElement('input'), {
      type: 'radio',
      name: 'shown',
      value: name,
      checked,
    });
    radio.addEventListener('change', () => this.choose(name));
    head.scope = 'row';
    label.append(radio, NAMES[name] + (Number.isFinite(outcome.iterate) ? ` (${outcome.iterate})` : ''));
    head.append(label);
    row.append(
      head,
      ...[
        `${classes[outcome.predicted]}, ${percent(outcome.confidence).replaceAll(' ', '\u00a0')}`, // one word
        fixed(outcome.loss, 2),
        percent(outcome.intersection),
        fixed(outcome.correlation, 2),
        `${fixed(outcome.shift, 1)} px`,
        fixed(outcome.d, 3),
        `${fixed(outcome.largest, 0)}, ${fixed(outcome.size, 1)} levels`,
      ].map((text) => Object.assign(document.createElement('td'), { textContent: text })),
    );
    return row;
  }
}

/** @param {Outcome} outcome @param {string[]} classes @returns {(string | HTMLElement)[]} */
function answer({ predicted, confidence, loss }, classes) {
  return [classes[predicted], ' ', small(`${percent(confidence)}, loss of the label ${fixed(loss, 2)}`)];
}

/** @param {string} text @param {string} kind */
const small = (text, kind = '') =>
  Object.assign(document.createElement('small'), { textContent: text, className: kind });
