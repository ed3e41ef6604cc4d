// The bar that shows how much of what is loaded has arrived.

const bar = () => /** @type {HTMLProgressElement} */ (document.getElementById('progress'));

/** @param {number} bytes of all that is to come */
export const expect = (bytes) => Object.assign(bar(), { hidden: false, max: bytes, value: 0 });

/** @param {number} bytes of one more piece */
export const arrived = (bytes) => {
  bar().value += bytes;
};

export const ended = () => {
  bar().hidden = true;
};
