// ONNX Runtime Web, and the graphs of one network in it. No mathematics stand here: the graphs are the package's own.

import { bring } from './parts.js';

/** @typedef {import('./types.js').Network} Network @typedef {import('./types.js').Method} Method */
/** @typedef {import('./types.js').Part} Part */
/** @typedef {{ map: Float32Array, logits: Float32Array, label: number }} Explanation */
/** @typedef {{ next: Float32Array, map: Float32Array, logits: Float32Array, d: number }} Step */

const HERE = new URL('..', import.meta.url);
const VENDOR = new URL('vendor/ort/', HERE);
const THREADS = 4; // at most; more bring little on graphs as small as these

/**
 * ONNX Runtime Web 1.30.0: its module, what it computes with, and its machine code, with the size as it is sent and the
 * hash as it is used.
 * @typedef {{ module: string, provider: 'wasm' | 'webgpu', code: Part }} Runtime
 */

/** @type {Runtime} */
export const WASM = {
  module: 'ort.wasm.min.mjs',
  provider: 'wasm',
  code: {
    file: 'ort-wasm-simd-threaded.wasm.gz',
    bytes: 3659927,
    sha256: '3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2',
  },
};

/** With the graphics card; loaded only where the reader asks for it. @type {Runtime} */
export const WEBGPU = {
  module: 'ort.webgpu.min.mjs',
  provider: 'webgpu',
  code: {
    file: 'ort-wasm-simd-threaded.asyncify.wasm.gz',
    bytes: 6578684,
    sha256: '39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da',
  },
};

/**
 * What a network needs, for some of its methods.
 * @param {Network} network @param {Method[]} methods
 */
export const partsOf = (network, methods) => [
  WASM.code,
  network.weights,
  ...methods.flatMap(({ graphs }) => Object.values(graphs)),
];

/** @param {string} module of the runtime */
const load = (module) =>
  import(new URL(module, VENDOR).href).catch(() => {
    throw new Error(`${module} could not be loaded. Is the connection there?`);
  });

export class Engine {
  /** @type {any} the runtime, once it is there */ ort = null;
  /** @type {Map<string, any>} the sessions of the chosen network and method, by the name of their graph */
  sessions = new Map();
  /** @type {Network | null} */ network = null;
  /** @type {Method | null} */ method = null;
  /** @type {Uint8Array | null} */ weights = null;

  /** @param {Runtime} runtime */
  constructor(runtime = WASM) {
    this.runtime = runtime;
  }

  /** How many threads compute: more than one only where the page is isolated from other sites. */
  get threads() {
    return globalThis.crossOriginIsolated ? Math.min(THREADS, navigator.hardwareConcurrency || 1) : 1;
  }

  /**
   * Load what a network and a method need, where it is not there yet.
   * @param {Network} network @param {Method} method @param {(bytes: number) => void} arrived
   * @param {string} graph what is needed first
   */
  async open(network, method, arrived = () => undefined, graph = 'explain') {
    if (!this.ort) {
      const { module, code: part } = this.runtime;
      const code = bring(new URL(part.file, VENDOR), part, arrived);
      const second = load(part.file.replace('.wasm.gz', '.mjs')); // the first asks for it, but keeps a failure for ever
      const [ort, binary] = await Promise.all([load(module), code, second]);
      ort.env.wasm.numThreads = this.threads;
      ort.env.wasm.wasmPaths = VENDOR.href;
      ort.env.wasm.wasmBinary = binary;
      this.ort = ort;
    }
    if (this.network !== network || this.method !== method) await this.#close();
    if (this.network !== network) {
      this.weights = await bring(new URL(`models/${network.weights.file}`, HERE), network.weights, arrived);
    }
    this.network = network;
    this.method = method;
    await this.#session(graph, arrived);
  }

  async #close() {
    for (const session of this.sessions.values()) await session.release();
    this.sessions.clear();
  }

  /** @param {string} graph @param {(bytes: number) => void} arrived */
  async #session(graph, arrived = () => undefined) {
    if (!this.sessions.has(graph)) {
      const { network, method, ort } = this;
      const part = method?.graphs[graph];
      if (!part) throw new Error(`There is no graph "${graph}" for this method.`);
      const model = await bring(new URL(`models/${part.file}`, HERE), part, arrived);
      const externalData = [{ path: network?.weights.file, data: this.weights }];
      const options = { executionProviders: [this.runtime.provider], externalData, logSeverityLevel: 3 };
      this.sessions.set(graph, await ort.InferenceSession.create(model, options));
    }
    return this.sessions.get(graph);
  }

  /** @param {Float32Array} values @param {number[]} shape */
  #numbers(values, shape) {
    return new this.ort.Tensor('float32', values, shape);
  }

  /**
   * The map of an image, and what the network says of it.
   * @param {Float32Array} image
   * @returns {Promise<Explanation>}
   */
  async explain(image) {
    const side = this.method?.size ?? 0,
      session = await this.#session('explain');
    const { map, logits, label } = await session.run({ x: this.#numbers(image, [1, 3, side, side]) });
    return { map: map.data, logits: logits.data, label: Number(label.data[0]) };
  }

  /**
   * One step of the attack: the next image; and of the given one the map, the logits and D.
   * @param {'topk' | 'centre'} graph
   * @param {object} given
   * @param {Float32Array} given.image
   * @param {Float32Array} given.original
   * @param {number} given.label
   * @param {Float32Array} given.reference what the attack remembers of the first map: a mask, or its centre
   * @param {number} given.eps
   * @param {number} given.stepSize in units of images in [0, 1], as eps
   * @returns {Promise<Step>}
   */
  async step(graph, { image, original, label, reference, eps, stepSize }) {
    const side = this.method?.size ?? 0,
      session = await this.#session(graph),
      shape = [1, 3, side, side];
    const { next, map, logits, d } = await session.run({
      x: this.#numbers(image, shape),
      x0: this.#numbers(original, shape),
      label: new this.ort.Tensor('int64', BigInt64Array.of(BigInt(label)), [1]),
      reference: this.#numbers(reference, graph === 'centre' ? [1, 2] : [1, side, side]),
      eps: this.#numbers(Float32Array.of(eps), []),
      step_size: this.#numbers(Float32Array.of(stepSize), []),
    });
    return { next: next.data, map: map.data, logits: logits.data, d: d.data[0] };
  }
}
