// What the modules hand to each other. Types alone: JSDoc says who uses which.

/**
 * A file of the laboratory, with what it must be.
 * @typedef {{ file: string, bytes: number, sha256: string }} Part
 *
 * @typedef {{ name: string, title: string, size: number, k: number, graphs: Record<string, Part> }} Method
 * @typedef {{ name: string, title: string, classes: string[], weights: Part, methods: Method[] }} Network
 * @typedef {{ file: string, network: string, label: number, title: string, thumbnail?: string }} Example
 * @typedef {{ version: number, networks: Network[], examples: Example[] }} Manifest models/manifest.json
 *
 * A rectangle of pixels: rows top to bottom - 1, columns left to right - 1.
 * @typedef {{ top: number, left: number, bottom: number, right: number }} Region
 *
 * @typedef {'top' | 'centre' | 'region'} Objective what the attack makes large
 * @typedef {{ objective: Objective, region: Region, levels: number }} Aim
 *
 * What there is to say of one image. `d` is NaN as long as nothing is attacked.
 * @typedef {object} Outcome
 * @property {number} iterate 0 for the original
 * @property {Float32Array} image three planes in [0, 1]
 * @property {Float32Array} map
 * @property {Float32Array} top the mask of the map's k most salient pixels
 * @property {number} predicted
 * @property {number} confidence the probability of what is predicted
 * @property {number} loss of the label that is to be kept
 * @property {boolean} kept whether the label is predicted
 * @property {number} d
 * @property {number} intersection
 * @property {number} correlation
 * @property {number} shift in pixels
 * @property {number} largest change of a colour of a pixel, in levels
 * @property {number} size of the change as a root mean square, in levels
 * @property {number} milliseconds that the network took
 *
 * What the first step on the graphics card was like, beside the same step by WebAssembly.
 * @typedef {object} Verdict
 * @property {boolean} right whether it was the same
 * @property {boolean} trusted whether the graphics card goes on
 * @property {number} signs the share of equal values of the next image
 * @property {number} slow milliseconds of a step by WebAssembly
 * @property {number} quick milliseconds of a step by the graphics card
 * @property {string} error what went wrong; empty if nothing did
 */
export {};
