// Small curves over the steps: one for each measure, drawn as SVG.

const WIDTH = 160,
  HEIGHT = 90,
  LEFT = 6,
  RIGHT = 154,
  TOP = 8,
  BOTTOM = 76;

/**
 * @param {string} name @param {Record<string, string | number>} attributes @param {string} text
 * @returns {SVGElement}
 */
function element(name, attributes, text = '') {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.textContent = text;
  return made;
}

export class Curve {
  /**
   * @param {HTMLElement} place
   * @param {string} title
   * @param {{ range?: [number, number], format: (value: number) => string }} how the range that is shown at least
   */
  constructor(place, title, { range, format }) {
    this.range = range;
    this.format = format;
    const figure = document.createElement('figure'),
      caption = document.createElement('figcaption');
    this.name = document.createElement('span');
    this.value = document.createElement('strong');
    this.svg = element('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img' });
    figure.className = 'curve';
    caption.append(this.name, this.value);
    figure.append(caption, this.svg);
    place.append(figure);
    this.rename(title);
  }

  /** @param {string} title */
  rename(title) {
    this.name.textContent = this.title = title;
  }

  /**
   * Draw what is known.
   * @param {object} known
   * @param {number[]} known.values of the original and of each iterate
   * @param {number} known.steps how many there will be
   * @param {number} known.best which iterate is the best, or 0
   * @param {number | null} known.noise
   * @param {number} known.shown the value of what the pictures show
   */
  draw({ values, steps, best, noise, shown }) {
    const finite = [...values, ...(this.range ?? []), noise ?? NaN].filter(Number.isFinite);
    const low = Math.min(...finite),
      high = Math.max(...finite, low + 1e-9);
    const x = (/** @type {number} */ i) => LEFT + ((RIGHT - LEFT) * i) / Math.max(steps, values.length - 1, 1);
    const y = (/** @type {number} */ value) => BOTTOM - ((BOTTOM - TOP) * (value - low)) / (high - low);
    const drawn = [
      element('line', { class: 'grid', x1: LEFT, x2: RIGHT, y1: BOTTOM, y2: BOTTOM }),
      element('text', { x: LEFT, y: HEIGHT - 3 }, '0'),
      element('text', { x: RIGHT, y: HEIGHT - 3, 'text-anchor': 'end' }, `${steps} steps`),
    ];
    if (noise !== null && Number.isFinite(noise)) {
      drawn.push(element('line', { class: 'noise', x1: LEFT, x2: RIGHT, y1: y(noise), y2: y(noise) }));
    }
    const points = values.map((value, i) => [x(i), y(value)]).filter(([, height]) => Number.isFinite(height));
    drawn.push(element('polyline', { class: 'path', points: points.map((point) => point.join(',')).join(' ') }));
    if (best && Number.isFinite(values[best])) {
      drawn.push(element('circle', { class: 'best', cx: x(best), cy: y(values[best]), r: 4 }));
    }
    this.svg.replaceChildren(...drawn);
    const written = (/** @type {number} */ value) => (Number.isFinite(value) ? this.format(value) : '–');
    this.value.textContent = written(shown);
    const noiseWords = noise === null ? '' : `; noise of the same size: ${this.format(noise)}`;
    const bestWords = best ? `; the best iterate, ${best}: ${this.format(values[best])}` : '';
    const words = `${this.title} after ${values.length - 1} steps: ${written(values[values.length - 1])}`;
    this.svg.setAttribute('aria-label', words + bestWords + noiseWords);
  }
}
