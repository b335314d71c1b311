/**
 * What a form needs to know of a model's inputs: how a value is typed, whether a row is a line of boxes, whether an
 * input can be an image.
 *
 * @typedef {{name: string, datatype: string, shape: number[]}} TensorSpec
 * @typedef {"number" | "integer" | "flag" | "text"} ValueKind
 * @typedef {{channels: number, height: number, width: number, first: boolean, batch: boolean}} ImageShape
 *   `first`: the channels come before height and width; a size is 0 if any will do.
 */

/** The most boxes of one row; beyond, values are pasted. */
export const MOST_BOXES = 64;

/** @type {Record<string, [bigint, bigint]>} */
export const INTEGER_RANGES = {
  INT8: [-128n, 127n],
  INT16: [-32768n, 32767n],
  INT32: [-2147483648n, 2147483647n],
  INT64: [-(2n ** 63n), 2n ** 63n - 1n],
  UINT8: [0n, 255n],
  UINT16: [0n, 65535n],
  UINT32: [0n, 4294967295n],
  UINT64: [0n, 2n ** 64n - 1n],
};

const FLOATS = new Set(["FP16", "FP32", "FP64", "BF16"]);
const IMAGE_CHANNELS = [1, 3, 4];
const SMALLEST_IMAGE = 8;

/**
 * How a value of a datatype is typed.
 * @param {string} datatype
 * @returns {ValueKind}
 */
export function kindOf(datatype) {
  if (FLOATS.has(datatype)) return "number";
  if (datatype in INTEGER_RANGES) return "integer";
  return datatype === "BOOL" ? "flag" : "text";
}

/**
 * A shape for people: `[rows, 30]`, with `any` for a free dimension that is not the first.
 * @param {number[]} shape
 */
export function shapeText(shape) {
  return `[${shape.map((size, index) => (size >= 0 ? String(size) : index ? "any" : "rows")).join(", ")}]`;
}

/**
 * The boxes of one row of an input: so many, or 0 if its values have to be pasted.
 * @param {TensorSpec} spec
 */
export function boxesOf(spec) {
  const [first, ...rest] = spec.shape;
  if (first === undefined) return 1;
  if (spec.shape.length === 1) return first < 0 ? 1 : first <= MOST_BOXES ? first : 0;
  const elements = rest.reduce((product, size) => product * size, 1);
  const isRow = (first < 0 || first === 1) && rest.every((size) => size > 0);
  return isRow && elements <= MOST_BOXES ? elements : 0;
}

/**
 * The labels of the boxes of one row: the features of the graph or the card where their number fits, else numbers.
 * @param {TensorSpec} spec
 * @param {readonly string[]} features
 */
export function labelsOf(spec, features) {
  const boxes = boxesOf(spec);
  if (boxes === 1) return [spec.name];
  const named = features.length === boxes && new Set(features).size === boxes;
  return Array.from({ length: boxes }, (_, index) => (named ? features[index] ?? "" : String(index)));
}

/**
 * How an image fits an input, null if it does not: three or four dimensions, with one, three or four channels first or
 * last, of a type that holds pixels.
 * @param {TensorSpec} spec
 * @returns {ImageShape | null}
 */
export function imageShape(spec) {
  if (!FLOATS.has(spec.datatype) && spec.datatype !== "UINT8") return null;
  const batch = spec.shape.length === 4;
  const dims = batch ? spec.shape.slice(1) : spec.shape;
  if (dims.length !== 3 || (batch && (spec.shape[0] ?? 0) > 1)) return null;
  const [a = 0, b = 0, c = 0] = dims;
  if (IMAGE_CHANNELS.includes(a) && isSide(b) && isSide(c)) return image(a, b, c, true, batch);
  if (IMAGE_CHANNELS.includes(c) && isSide(a) && isSide(b)) return image(c, a, b, false, batch);
  return null;
}

/** @param {number} size */
function isSide(size) {
  return size < 0 || size >= SMALLEST_IMAGE;
}

/**
 * @param {number} channels
 * @param {number} height
 * @param {number} width
 * @param {boolean} first
 * @param {boolean} batch
 * @returns {ImageShape}
 */
function image(channels, height, width, first, batch) {
  return { channels, height: Math.max(0, height), width: Math.max(0, width), first, batch };
}
