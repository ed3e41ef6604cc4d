// The laboratory: what happens when the reader presses what.

import { showButtons } from './buttons.js';
import { Choices } from './choices.js';
import { Client } from './client.js';
import { Computing } from './computing.js';
import { partsOf } from './engine.js';
import { asFragment, fromFragment, methodKey, publish } from './link.js';
import { arrived, ended, expect } from './loading.js';
import { listenForPhotographs } from './own.js';
import { forNetwork, loadExample } from './photograph.js';
import { asFile, save, throughJpeg } from './save.js';
import { NONE, View } from './view.js';
import { SENTENCES, afterJpeg, asFileName, compared, explained, megabytes, progress, saved, verdict } from './words.js';

/** @typedef {import('./types.js').Manifest} Manifest @typedef {import('./types.js').Example} Example */
/** @typedef {import('./types.js').Outcome} Outcome @typedef {import('./view.js').Row} Row */
/** @typedef {import('./resample.js').Pixels} Pixels */
/** @typedef {{ pixels: Pixels, name: string, example: Example | null, note: string }} Photograph */

const PACE = 110; // milliseconds for which each iterate is seen at least
const CALM_PACE = 1000; // between pictures, where the reader wants less motion
const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
const pause = (/** @type {number} */ time) => new Promise((resolve) => setTimeout(resolve, time));

export class Laboratory {
  /** @type {Client | null} there once the reader has pressed start */ client = null;
  /** @type {Photograph | null} */ photograph = null;
  /** @type {Outcome | null} */ original = null;
  /** @type {Outcome[]} from the original on */ iterates = [];
  /** @type {Record<Row, Outcome | null>} */ rows = { ...NONE };
  /** @type {Row} */ shown = 'latest';
  success = false;
  running = false;
  stepping = false;
  repeats = false; // whether a link asks for an attack after the start
  turn = 0; // counts what makes answers that are still on their way obsolete
  painted = 0; // when
  computing = new Computing();

  /** @param {Manifest} manifest */
  constructor(manifest) {
    this.manifest = manifest;
    this.choices = new Choices(manifest, {
      example: (example) => this.attempt(() => this.takeExample(example)),
      network: () => this.attempt(() => this.takeNetwork()),
      aim: () => this.attempt(() => this.restart()),
      steps: () => this.refresh(),
    });
    this.view = new View((row) => {
      this.shown = row;
      this.paint(true);
    });
    listenForPhotographs((found) =>
      this.attempt(async () => {
        const own = await found;
        if (own) await this.take({ ...own, example: null });
      }),
    );
    const actions = {
      start: () => this.start(),
      play: () => (this.running ? this.halt() : this.play()),
      'one-step': () => this.oneStep(),
      again: () => this.restart(),
      noise: () => this.addNoise(),
      'through-jpeg': () => this.throughJpeg(),
      accelerate: () => this.computing.accelerate(/** @type {Client} */ (this.client)),
      'save-before': () => this.save('original', 'image/png'),
      'save-now': () => this.save('attacked', 'image/png'),
      'save-jpeg': () => this.save('attacked', 'image/jpeg'),
      'copy-link': () => this.copyLink(),
    };
    for (const [id, action] of Object.entries(actions)) {
      byId(id).addEventListener('click', () => this.attempt(async () => action()));
    }
  }

  /** Do something, and say in a sentence what goes wrong. @param {() => Promise<unknown>} action */
  async attempt(action) {
    try {
      await action();
    } catch (error) {
      this.running = this.stepping = false;
      ended();
      if (this.client?.ended) this.lose();
      this.say(error instanceof Error ? error.message : String(error), true);
    }
    this.refresh();
  }

  /** @param {string} text @param {boolean} trouble */
  say(text, trouble = false) {
    byId('status').textContent = text;
    byId('status').classList.toggle('trouble', trouble);
  }

  // --- The photograph, the network ---------------------------------------------------------------

  async open() {
    const choice = fromFragment(location.hash, this.manifest);
    if (choice) this.choices.take(choice);
    const example = this.choices.examples.find(({ file }) => file === choice?.example) ?? this.choices.examples[0];
    if (example) await this.takeExample(example);
    this.repeats = choice !== null;
    if (choice) this.say(SENTENCES.repeat);
    else if (location.hash.length > 1) this.say(SENTENCES.strangeLink);
    else this.say(SENTENCES.ready);
  }

  /** @param {Example} example */
  async takeExample(example) {
    const { pixels } = await loadExample(example);
    await this.take({ pixels, name: example.title, example, note: '' });
  }

  /** @param {Photograph} photograph */
  async take(photograph) {
    this.photograph = photograph;
    this.choices.mark(photograph.example);
    this.forget();
    if (this.client) await this.explain(this.client);
    else this.say(`${photograph.note} ${SENTENCES.ready}`.trim());
  }

  async takeNetwork() {
    const own = this.photograph && !this.photograph.example;
    if (own || this.photograph?.example?.network === this.choices.network.name) {
      await this.take(/** @type {Photograph} */ (this.photograph));
    } else if (this.choices.examples.length) await this.takeExample(this.choices.examples[0]);
  }

  get image() {
    return forNetwork(/** @type {Photograph} */ (this.photograph).pixels, this.choices.method.size);
  }

  forget() {
    this.running = false;
    this.original = null;
    this.clearAttack();
    this.view.photograph(this.image, this.photograph?.name ?? '');
  }

  clearAttack() {
    this.turn++;
    this.rows = { ...NONE };
    this.shown = 'latest';
    this.success = false;
    this.iterates = this.original ? [this.original] : [];
  }

  /** Without its worker nothing is left but the photograph; Start begins anew. */
  lose() {
    this.client = null;
    this.computing = new Computing();
    this.forget();
  }

  // --- The explanation ---------------------------------------------------------------

  async start() {
    if (!this.photograph) throw new Error(SENTENCES.noPhotograph);
    const client = (this.client ??= new Client(arrived));
    if (matchMedia('(max-width: 60rem)').matches) byId('bench').scrollIntoView();
    await this.explain(client);
    if (document.activeElement === document.body || document.activeElement === byId('start')) byId('play').focus();
    await this.computing.look();
    if (this.repeats) await this.play();
  }

  /** What the network and method still need: the parts, and their bytes. */
  get missing() {
    const { network, method } = this.choices;
    const parts = partsOf(network, [method]).filter(({ sha256 }) => !this.client?.loaded.has(sha256));
    return { parts, bytes: parts.reduce((sum, part) => sum + part.bytes, 0) };
  }

  /** @param {Client} client */
  async explain(client) {
    const turn = this.turn,
      { network, method } = this.choices;
    const { parts, bytes } = this.missing;
    if (parts.length) {
      expect(bytes);
      this.say(`Loading ${megabytes(bytes)}; the browser keeps it for the next time.`);
    }
    this.refresh();
    this.computing.threads = await client.open(network, method, parts);
    if (turn !== this.turn) return;
    ended();
    this.say('Explaining …');
    const original = await client.do('explain', { image: this.image });
    if (turn !== this.turn) return;
    this.original = original;
    this.clearAttack();
    await client.do('restart', { aim: this.choices.aim });
    const { example, note } = /** @type {Photograph} */ (this.photograph);
    this.say(`${note} ${explained(original, network.classes, example?.label ?? null)}`.trim());
    this.paint(true);
    this.refresh();
  }

  // --- The attack ---------------------------------------------------------------

  /** Begin again from the original, with what is chosen now. */
  async restart() {
    this.running = this.stepping = false;
    this.clearAttack();
    if (!this.original) return;
    this.view.photograph(this.original.image, this.photograph?.name ?? '');
    this.paint(true);
    this.say(SENTENCES.again);
    this.refresh(); // now, not when a step that is under way has ended
    await this.client?.do('restart', { aim: this.choices.aim });
  }

  /** What the attack has found: the best iterate, or the latest where none kept the answer. */
  get attacked() {
    return this.rows.best ?? this.rows.latest;
  }

  halt() {
    this.running = false;
    this.conclude();
  }

  get iterate() {
    return this.rows.latest?.iterate ?? 0;
  }

  async play() {
    if (this.iterate >= this.choices.steps) await this.restart();
    this.running = true;
    this.shown = 'latest';
    const turn = this.turn;
    this.say(`Attacking “${this.choices.network.classes[this.original?.predicted ?? 0]}” …`);
    this.refresh();
    while (this.running && turn === this.turn && this.iterate < this.choices.steps) {
      const start = performance.now();
      await this.advance();
      if (!this.running && turn === this.turn) this.conclude(); // paused meanwhile, and this step came after that
      await pause(Math.max(0, PACE - (performance.now() - start))); // at the least, lets a click in
    }
    if (turn !== this.turn || !this.running) return;
    this.running = false;
    if (this.rows.best) this.shown = 'best';
    this.conclude();
  }

  async oneStep() {
    this.running = false;
    this.shown = 'latest';
    await this.advance();
    this.conclude();
  }

  async advance() {
    if (this.stepping || !this.client) return;
    this.stepping = true;
    const turn = this.turn,
      { latest, best, success, start, verdict } = await this.client.do('advance');
    this.computing.verdict = verdict;
    if (turn !== this.turn) return;
    this.stepping = false;
    this.rows = { ...NONE, latest, best };
    this.success = success;
    if (this.iterates[0]) this.iterates[0] = { ...this.iterates[0], d: start };
    this.iterates.push(latest);
    this.paint(false);
    this.refresh();
  }

  conclude() {
    this.paint(true);
    const { latest, best } = this.rows,
      { aim, network, method } = this.choices;
    const state = { best, success: this.success, shown: this.shown };
    if (latest) this.say(verdict({ latest, ...state }, aim.objective, network.classes, method.k));
  }

  // --- Beside the attack ---------------------------------------------------------------

  async addNoise() {
    const noise = await this.compare('noise', () => this.client?.do('noise'));
    if (noise) this.say(compared('With noise of the same size', noise, this.choices.network.classes));
  }

  /** The original as well, since JPEG changes what nobody attacked. */
  async throughJpeg() {
    const { original, attacked } = this;
    if (!original || !attacked) return;
    const look = async (/** @type {Outcome} */ { image }) =>
      this.client?.do('look', { image: await throughJpeg(image) });
    const plain = await this.compare('plain', () => look(original));
    const jpeg = plain && (await this.compare('jpeg', () => look(attacked)));
    if (jpeg) this.say(afterJpeg(jpeg, plain, this.choices.network.classes));
  }

  /** @param {Row} row @param {() => Promise<Outcome | null> | undefined} make */
  async compare(row, make) {
    this.running = false;
    const turn = this.turn,
      outcome = (await make()) ?? null;
    if (turn !== this.turn || !outcome) return null;
    this.rows[row] = outcome;
    this.shown = row;
    this.paint(true);
    return outcome;
  }

  /** @param {'original' | 'attacked'} which @param {'image/png' | 'image/jpeg'} type */
  async save(which, type) {
    const outcome = which === 'original' ? this.original : this.attacked;
    if (!outcome) return;
    const budget = which === 'original' ? '' : `-${this.choices.aim.levels}-levels`;
    const name = `${asFileName(this.photograph?.name ?? '')}-${which}${budget}.${type === 'image/png' ? 'png' : 'jpg'}`;
    save(await asFile(outcome.image, type), name);
    this.say(saved(name));
  }

  async copyLink() {
    const example = this.photograph?.example;
    if (!example) throw new Error(SENTENCES.noLink);
    const { aim, steps, network, method } = this.choices;
    const choice = { network: network.name, method: methodKey(method), example: example.file, ...aim, steps };
    this.say((await publish(asFragment(choice))) ? SENTENCES.copied : SENTENCES.linked);
  }

  // --- What is shown ---------------------------------------------------------------

  /** @param {boolean} now or only as often as the reader likes motion */
  paint(now) {
    if (!this.original) return;
    const { network, method } = this.choices,
      shown = this.rows[this.shown];
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    if (now || !calm || performance.now() - this.painted > CALM_PACE) {
      this.painted = performance.now();
      this.view.pictures(this.original, shown, this.shown, method.k);
    }
    this.view.answers(this.original, shown, this.shown, network.classes);
    this.curves();
    this.view.table(this.rows, this.shown, network.classes);
  }

  curves() {
    const { aim, steps } = this.choices;
    this.view.measures(this.iterates, steps, aim.objective, this.rows, this.shown);
  }

  refresh() {
    const ready = this.original !== null;
    const loading = this.client !== null && !ready && !byId('progress').hidden;
    const { running, iterate, choices, missing } = this;
    showButtons({ ready, loading, bytes: missing.bytes, running, iterate, steps: choices.steps });
    this.computing.show(ready);
    byId('counter').textContent = this.rows.latest ? progress(this.rows.latest, this.choices.steps) : '';
    if (ready) this.curves();
  }
}
