// The region of the targeted attack: drawn on a picture with a pointer, or set by four sliders. Both say the same.

/** @typedef {import('./types.js').Region} Region */

const SIDES = /** @type {const} */ (['top', 'bottom', 'left', 'right']);

export class RegionPicker {
  /**
   * @param {HTMLElement} frame of the picture that is drawn on
   * @param {HTMLElement[]} outlines that show the region, each within a frame
   * @param {() => void} changed
   */
  constructor(frame, outlines, changed) {
    this.frame = frame;
    this.outlines = outlines;
    this.changed = changed;
    this.size = 1;
    /** @type {Region} */ this.value = { top: 0, left: 0, bottom: 1, right: 1 };
    this.sliders = Object.fromEntries(SIDES.map((side) => [side, slider(side)]));
    for (const side of SIDES) this.sliders[side].addEventListener('input', () => this.#slide(side));
    this.#listen();
  }

  /** Forget the region: by default the middle of the lower right quarter. @param {number} size of the pictures */
  resize(size) {
    if (size === this.size) return;
    this.size = size;
    const [low, high] = [Math.round(0.6 * size), Math.round(0.9 * size)];
    this.set({ top: low, left: low, bottom: high, right: high });
  }

  /** @param {Region} region */
  set(region) {
    this.value = region;
    for (const side of SIDES) {
      const control = this.sliders[side],
        far = side === 'bottom' || side === 'right' ? 1 : 0;
      control.min = String(far);
      control.max = String(this.size - 1 + far);
      control.value = String(region[side]);
      /** @type {HTMLOutputElement} */ (control.nextElementSibling).value = control.value;
    }
    const share = (/** @type {number} */ pixels) => `${(100 * pixels) / this.size}%`;
    for (const { style } of this.outlines) {
      style.top = share(region.top);
      style.left = share(region.left);
      style.height = share(region.bottom - region.top);
      style.width = share(region.right - region.left);
    }
  }

  /** @param {boolean} on whether the region counts */
  show(on) {
    this.frame.classList.toggle('drawing', on);
    for (const outline of this.outlines) outline.hidden = !on;
  }

  /** A side that is pushed over its opposite takes that along. @param {typeof SIDES[number]} side */
  #slide(side) {
    const region = { ...this.value, [side]: Number(this.sliders[side].value) };
    if (side === 'top') region.bottom = Math.max(region.bottom, region.top + 1);
    if (side === 'left') region.right = Math.max(region.right, region.left + 1);
    if (side === 'bottom') region.top = Math.min(region.top, region.bottom - 1);
    if (side === 'right') region.left = Math.min(region.left, region.right - 1);
    this.set(region);
    this.changed();
  }

  #listen() {
    /** @type {number[] | null} where the pointer went down: row and column */
    let from = null;
    const place = (/** @type {PointerEvent} */ { clientX, clientY }) => {
      const { left, top, width } = this.frame.getBoundingClientRect();
      return [clientY - top, clientX - left].map((distance) =>
        Math.min(this.size - 1, Math.max(0, Math.floor((this.size * distance) / width))),
      );
    };
    this.frame.addEventListener('pointerdown', (event) => {
      if (!this.frame.classList.contains('drawing')) return;
      from = place(event);
      this.frame.setPointerCapture(event.pointerId);
    });
    this.frame.addEventListener('pointermove', (event) => {
      if (!from) return;
      const to = place(event),
        [row, column] = from;
      this.set({
        top: Math.min(row, to[0]),
        bottom: Math.max(row, to[0]) + 1,
        left: Math.min(column, to[1]),
        right: Math.max(column, to[1]) + 1,
      });
    });
    this.frame.addEventListener('pointerup', () => {
      if (from) this.changed();
      from = null;
    });
    this.frame.addEventListener('pointercancel', () => {
      from = null;
    });
  }
}

/** @param {string} side @returns {HTMLInputElement} */
const slider = (side) => /** @type {HTMLInputElement} */ (document.getElementById(`region-${side}`));
