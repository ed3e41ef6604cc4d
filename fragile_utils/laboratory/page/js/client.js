// The page's side of the worker: jobs as promises.

/** @typedef {import('./types.js').Network} Network @typedef {import('./types.js').Method} Method */
/** @typedef {import('./types.js').Part} Part */

const ENDED =
  'The browser ended the computation, or could not begin it, for want of memory or of a connection. ' +
  'Press Start again.';

export class Client {
  /** @type {Error | null} why the worker is no more; then a new client is needed */ ended = null;
  /** @type {Set<string>} hashes of what was loaded */ loaded = new Set();
  #last = 0;
  /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
  #waiting = new Map();
  /** @type {Worker} */ #worker;

  /** @param {(bytes: number) => void} arrived called with the bytes of each piece of a file that has arrived */
  constructor(arrived) {
    this.#worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
    this.#worker.onmessage = ({ data }) => {
      if ('arrived' in data) return arrived(data.arrived);
      const { resolve, reject } = this.#waiting.get(data.id) ?? {};
      this.#waiting.delete(data.id);
      if ('error' in data) reject?.(new Error(data.error));
      else resolve?.(data.result);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault(); // it is said on the page
      this.end(new Error(event.message || ENDED));
    };
  }

  /** End the worker, and tell all that wait for it why. @param {Error} reason */
  end(reason) {
    this.ended = reason;
    this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(reason);
    this.#waiting.clear();
  }

  /**
   * Open a network and one of its methods. Where that fails the worker ends, as it may never load a module again.
   * @param {Network} network @param {Method} method @param {Part[]} parts what is still to be loaded
   * @returns {Promise<number>} how many threads compute
   */
  async open(network, method, parts) {
    try {
      const { threads } = await this.do('open', { network, method });
      for (const { sha256 } of parts) this.loaded.add(sha256);
      return threads;
    } catch (error) {
      this.end(/** @type {Error} */ (error));
      throw error;
    }
  }

  /**
   * Have a job done; see `worker.js` for which there are.
   * @param {string} job @param {object} given
   * @returns {Promise<any>}
   */
  do(job, given = {}) {
    if (this.ended) return Promise.reject(this.ended);
    const id = ++this.#last;
    this.#worker.postMessage({ id, job, given });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}
