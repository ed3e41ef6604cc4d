// The files of the laboratory: fetched from where the page is, with progress, verified, and kept by the browser.

/** @typedef {import('./types.js').Part} Part */

const SHELF = `laboratory ${new URL('..', import.meta.url).pathname}`; // the name of this page's cache

/**
 * Return the contents of a file, from the browser's cache where they are there.
 * @param {URL} address
 * @param {Part} part what the file must be, after inflation where its name ends in .gz
 * @param {(bytes: number) => void} arrived called with the number of bytes of each piece that has arrived
 * @returns {Promise<Uint8Array>}
 */
export async function bring(address, part, arrived) {
  // The cache and the hash exist on secure pages alone: https, or this machine.
  const shelf = globalThis.caches ? await caches.open(SHELF).catch(() => null) : null;
  const name = new URL(address);
  name.searchParams.set('sha256', part.sha256);
  const kept = await shelf?.match(name);
  const file = kept ? await kept.blob() : await download(address, part, arrived);
  if (kept) arrived(part.bytes);
  const contents = await inflated(file);
  if (!(await isWhole(contents, part))) {
    await shelf?.delete(name);
    throw new Error(`${part.file} is not the file that this page was made with. Load the page again.`);
  }
  // A full disk, or a private window, is no reason to stop.
  if (!kept) await shelf?.put(name, new Response(file)).catch(() => undefined);
  return contents;
}

/** @param {URL} address @param {Part} part @param {(bytes: number) => void} arrived */
async function download(address, part, arrived) {
  const answer = await fetch(address).catch(() => null);
  if (!answer?.ok || !answer.body) {
    throw new Error(`${part.file} could not be loaded${answer ? ` (${answer.status})` : ''}. Is the connection there?`);
  }
  const reader = answer.body.getReader();
  const pieces = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Blob(pieces);
    pieces.push(value);
    arrived(value.length);
  }
}

/** @param {Blob} file A server may have inflated it already. */
async function inflated(file) {
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const zipped = first === 0x1f && second === 0x8b;
  const stream = zipped ? file.stream().pipeThrough(new DecompressionStream('gzip')) : file.stream();
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @param {Uint8Array} contents @param {Part} part */
async function isWhole(contents, part) {
  if (!globalThis.crypto?.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', /** @type {BufferSource} */ (contents)));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('') === part.sha256;
}

/**
 * Forget what the browser keeps of earlier versions of this page.
 * @param {Part[]} parts those of this version
 */
export async function forgetOthers(parts) {
  const shelf = globalThis.caches ? await caches.open(SHELF).catch(() => null) : null;
  const wanted = new Set(parts.map((part) => part.sha256));
  for (const { url } of (await shelf?.keys()) ?? []) {
    if (!wanted.has(new URL(url).searchParams.get('sha256') ?? '')) await shelf?.delete(url);
  }
}
