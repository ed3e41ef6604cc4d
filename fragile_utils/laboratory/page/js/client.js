// The page's side of the worker: jobs as promises.

export class Client {
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
      const error = new Error(event.message || 'The browser ended the computation, perhaps for want of memory.');
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
    };
  }

  /**
   * Have a job done; see `worker.js` for which there are.
   * @param {string} job @param {object} given
   * @returns {Promise<any>}
   */
  do(job, given = {}) {
    const id = ++this.#last;
    this.#worker.postMessage({ id, job, given });
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }
}
