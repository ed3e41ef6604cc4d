// All heavy work: a module worker that does the jobs it is sent, one after the other, and answers each.

import { Checked } from './checked.js';
import { Engine, WEBGPU } from './engine.js';
import { Experiment } from './experiment.js';

/** @typedef {import('./types.js').Aim} Aim @typedef {import('./types.js').Network} Network */
/** @typedef {import('./types.js').Method} Method */

const arrived = (/** @type {number} */ bytes) => self.postMessage({ arrived: bytes });

/** @type {Engine | Checked} */
let engine = new Engine();
/** @type {Map<string, { network: Network, method: Method }>} one object for each pair, however often it is sent */
const pairs = new Map();
/** @type {Experiment | null} */
let experiment = null;

function current() {
  if (!experiment) throw new Error('Nothing has been explained yet.');
  return experiment;
}

const verdict = () => (engine instanceof Checked ? engine.verdict : null);

const state = () => {
  const { latest, best, success, start } = current();
  return { latest, best, success, start, verdict: verdict() };
};

/** @type {Record<string, (given: any) => Promise<unknown>>} */
const jobs = {
  /** @param {{ network: Network, method: Method }} given */
  async open({ network, method }) {
    const key = `${network.name} ${method.name} ${method.size}`;
    const sameNetwork = [...pairs.values()].find((pair) => pair.network.name === network.name);
    if (!pairs.has(key)) pairs.set(key, { network: sameNetwork?.network ?? network, method });
    const pair = /** @type {{ network: Network, method: Method }} */ (pairs.get(key));
    await engine.open(pair.network, pair.method, arrived);
    return { threads: engine.threads };
  },
  /** @param {{ image: Float32Array }} given */
  async explain({ image }) {
    experiment = new Experiment(engine, image);
    return experiment.begin();
  },
  /** @param {{ aim: Aim }} given */
  async restart({ aim }) {
    current().restart(aim);
  },
  /** Have the graphics card compute, where it takes the first step as WebAssembly does. */
  async accelerate() {
    if (engine instanceof Engine) engine = new Checked(engine, new Engine(WEBGPU), arrived);
    current().engine = engine;
    await current().look(current().image);
    return { verdict: verdict() };
  },
  async advance() {
    await current().advance();
    return state();
  },
  async noise() {
    return current().noise();
  },
  /** @param {{ image: Float32Array }} given */
  async look({ image }) {
    return current().look(image);
  },
};

let queue = Promise.resolve();
self.onmessage = ({ data: { id, job, given } }) => {
  queue = queue.then(async () => {
    try {
      self.postMessage({ id, result: await jobs[job](given) });
    } catch (error) {
      self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
    }
  });
};
