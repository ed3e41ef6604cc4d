// What the first bytes of a file say of the picture in it, so that what is too large is refused before it is decoded.

/** @typedef {{ kind: string, width: number, height: number, animated: boolean }} Header sizes are 0 where unknown */

const ascii = (/** @type {DataView} */ view, /** @type {number} */ at, /** @type {number} */ length) =>
  Array.from({ length: Math.max(0, Math.min(length, view.byteLength - at)) }, (_, i) =>
    String.fromCharCode(view.getUint8(at + i)),
  ).join('');

/**
 * Read a file's header; null where it is not of a kind that this page knows.
 * @param {ArrayBuffer} buffer the whole file, or enough of its beginning
 * @returns {Header | null}
 */
export function readHeader(buffer) {
  const view = new DataView(buffer);
  try {
    if (ascii(view, 1, 3) === 'PNG') return png(view);
    if (view.getUint16(0) === 0xffd8) return jpeg(view);
    if (ascii(view, 0, 3) === 'GIF') return gif(view);
    if (ascii(view, 0, 4) === 'RIFF' && ascii(view, 8, 4) === 'WEBP') return webp(view);
    if (ascii(view, 0, 2) === 'BM') {
      return still('BMP', Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true)));
    }
    if (ascii(view, 4, 4) === 'ftyp' && /avi[fs]|hei[cxs]|mif1/.test(ascii(view, 8, 32))) {
      return { ...still('AVIF or HEIC', 0, 0), animated: /^(avis|hevc|msf1)/.test(ascii(view, 8, 4)) };
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // the file ends within its header
  }
  return null;
}

/** @param {string} kind @param {number} width @param {number} height */
const still = (kind, width, height) => ({ kind, width, height, animated: false });

/** @param {DataView} view */
function png(view) {
  const found = still('PNG', view.getUint32(16), view.getUint32(20));
  for (let at = 8; at + 8 <= view.byteLength; at += 12 + view.getUint32(at)) {
    const chunk = ascii(view, at + 4, 4);
    if (chunk === 'acTL') found.animated = true;
    if (chunk === 'IDAT') break; // an animation says so before its first picture
  }
  return found;
}

/** @param {DataView} view */
function jpeg(view) {
  for (let at = 2; ;) {
    const marker = view.getUint8(at + 1);
    const frame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (frame) return still('JPEG', view.getUint16(at + 7), view.getUint16(at + 5));
    at += marker === 0xff ? 1 : 2 + view.getUint16(at + 2);
  }
}

/** @param {DataView} view */
function gif(view) {
  const found = still('GIF', view.getUint16(6, true), view.getUint16(8, true));
  const table = (/** @type {number} */ flags) => (flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  const afterBlocks = (/** @type {number} */ at) => {
    while (view.getUint8(at)) at += view.getUint8(at) + 1;
    return at + 1;
  };
  let pictures = 0;
  try {
    for (let at = 13 + table(view.getUint8(10)); view.getUint8(at) !== 0x3b && pictures < 2;) {
      if (view.getUint8(at) === 0x2c) {
        pictures++;
        at = afterBlocks(at + 11 + table(view.getUint8(at + 9)));
      } else at = afterBlocks(at + 2);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // cut short: what was counted until then counts
  }
  return { ...found, animated: pictures > 1 };
}

/** @param {DataView} view */
function webp(view) {
  const u24 = (/** @type {number} */ at) => view.getUint16(at, true) + (view.getUint8(at + 2) << 16);
  const chunk = ascii(view, 12, 4);
  if (chunk === 'VP8X') {
    return { ...still('WebP', u24(24) + 1, u24(27) + 1), animated: (view.getUint8(20) & 2) !== 0 };
  }
  if (chunk === 'VP8L') {
    const bits = view.getUint32(21, true);
    return still('WebP', (bits & 0x3fff) + 1, ((bits >>> 14) & 0x3fff) + 1);
  }
  return still('WebP', view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff);
}
