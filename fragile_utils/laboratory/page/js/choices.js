// The form: which photograph, network, explanation and aim the reader has chosen.

import { LIMITS, methodKey } from './link.js';
import { RegionPicker } from './region.js';

/** @typedef {import('./types.js').Manifest} Manifest @typedef {import('./types.js').Example} Example */
/** @typedef {import('./types.js').Aim} Aim @typedef {import('./types.js').Objective} Objective */

const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const input = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (byId(id));
const select = (/** @type {string} */ id) => /** @type {HTMLSelectElement} */ (byId(id));

export class Choices {
  /**
   * @param {Manifest} manifest
   * @param {object} tell
   * @param {(example: Example) => void} tell.example another example was chosen
   * @param {() => void} tell.network another network or method was chosen
   * @param {() => void} tell.aim another aim or budget was chosen
   * @param {() => void} tell.steps another number of steps was chosen
   */
  constructor(manifest, tell) {
    this.manifest = manifest;
    this.tell = tell;
    const frame = /** @type {HTMLElement} */ (document.querySelector('.before .frame'));
    const outlines = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('.region')]);
    this.region = new RegionPicker(frame, outlines, tell.aim);
    select('network').replaceChildren(...manifest.networks.map(({ title, name }) => new Option(title, name)));
    select('network').addEventListener('change', () => {
      this.#showNetwork();
      tell.network();
    });
    select('method').addEventListener('change', () => {
      this.#showMethod();
      tell.network();
    });
    for (const radio of this.#radios())
      radio.addEventListener('change', () => {
        this.#showObjective();
        tell.aim();
      });
    for (const id of /** @type {const} */ (['levels', 'steps'])) {
      input(id).addEventListener('input', () => {
        this.#showNumber(id);
        tell[id === 'levels' ? 'aim' : 'steps']();
      });
    }
    for (const id of /** @type {const} */ (['levels', 'steps'])) this.#showNumber(id);
    this.#showNetwork();
  }

  get network() {
    return this.manifest.networks.find(({ name }) => name === select('network').value) ?? this.manifest.networks[0];
  }

  get method() {
    return this.network.methods.find((one) => methodKey(one) === select('method').value) ?? this.network.methods[0];
  }

  get examples() {
    return this.manifest.examples.filter(({ network }) => network === this.network.name);
  }

  get steps() {
    return Number(input('steps').value);
  }

  /** @returns {Aim} */
  get aim() {
    const objective = /** @type {Objective} */ (this.#radios().find((radio) => radio.checked)?.value ?? 'top');
    return { objective, region: this.region.value, levels: Number(input('levels').value) };
  }

  /** @param {import('./link.js').Choice} choice of a link */
  take(choice) {
    select('network').value = choice.network;
    this.#showNetwork();
    select('method').value = choice.method;
    this.#showMethod();
    for (const radio of this.#radios()) radio.checked = radio.value === choice.objective;
    this.#showObjective();
    if (choice.region) this.region.set(choice.region);
    for (const id of /** @type {const} */ (['levels', 'steps'])) {
      if (id === 'steps') input(id).step = input(id).min = '1'; // a link may name any number
      input(id).value = String(choice[id]);
      this.#showNumber(id);
    }
  }

  /** Mark an example as chosen; null where the photograph is the reader's own. @param {Example | null} example */
  mark(example) {
    for (const radio of /** @type {NodeListOf<HTMLInputElement>} */ (byId('examples').querySelectorAll('input'))) {
      radio.checked = radio.value === example?.file;
    }
  }

  #radios() {
    return /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll('[name=objective]')]);
  }

  #showNetwork() {
    select('method').replaceChildren(
      ...this.network.methods.map((method) => {
        const shared = this.network.methods.some(({ size }) => size !== method.size);
        return new Option(method.title + (shared ? `, ${method.size} pixels` : ''), methodKey(method));
      }),
    );
    byId('examples').replaceChildren(...this.examples.map((example) => this.#thumbnail(example)));
    this.#showMethod();
  }

  #showMethod() {
    this.region.resize(this.method.size);
    for (const radio of this.#radios()) {
      const graph = radio.value === 'centre' ? 'centre' : 'topk';
      radio.disabled = !(graph in this.method.graphs);
    }
    const [first] = this.#radios().filter((radio) => !radio.disabled);
    if (this.#radios().some((radio) => radio.checked && radio.disabled)) first.checked = true;
    this.#showObjective();
  }

  #showObjective() {
    const drawn = this.aim.objective === 'region';
    byId('region-sliders').hidden = !drawn;
    this.region.show(drawn);
  }

  /** @param {keyof typeof LIMITS} id */
  #showNumber(id) {
    /** @type {HTMLOutputElement} */ (input(id).nextElementSibling).value = input(id).value;
  }

  /** @param {Example} example */
  #thumbnail(example) {
    const label = document.createElement('label'),
      radio = document.createElement('input'),
      picture = new Image(64, 64);
    label.className = 'example';
    Object.assign(radio, { type: 'radio', name: 'example', value: example.file });
    radio.addEventListener('change', () => this.tell.example(example));
    Object.assign(picture, { loading: 'lazy', alt: example.title, title: example.title });
    picture.src = example.thumbnail ?? `examples/${example.file}`;
    label.append(radio, picture);
    return label;
  }
}
