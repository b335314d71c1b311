// Two answers to one request, element by element, so that what differs can be shown side by side.

/** @typedef {{name: string, datatype: string, shape: number[], data: any[]}} Tensor */
/** @typedef {{place: string, answer: string, shadow: string, differs: boolean, difference: number | null}} Pair */
/** @typedef {{name: string, datatype: string, shape: string, pairs: Pair[], left: number, differing: number}} Comparison */

/** Elements of an output that are shown; those that differ come first if there are more. */
export const SHOWN = 32;

/**
 * Returns the outputs of two answers side by side, by name.
 * @param {Tensor[]} answer
 * @param {Tensor[]} shadow
 * @returns {Comparison[]}
 */
export function compareOutputs(answer, shadow) {
  const names = [...new Set([...answer, ...shadow].map((tensor) => tensor.name))];
  return names.map((name) => compareOutput(name, findOutput(answer, name), findOutput(shadow, name)));
}

/**
 * @param {Tensor[]} tensors
 * @param {string} name
 */
function findOutput(tensors, name) {
  return tensors.find((tensor) => tensor.name === name);
}

/**
 * @param {string} name
 * @param {Tensor | undefined} answer
 * @param {Tensor | undefined} shadow
 * @returns {Comparison}
 */
function compareOutput(name, answer, shadow) {
  const known = answer || shadow;
  const [one, other] = [flattenOutput(answer?.data), flattenOutput(shadow?.data)];
  const count = Math.max(one.length, other.length);
  const pairs = Array.from({ length: count }, (_, index) => pairOf(one[index], other[index], index, known?.shape || []));
  const differing = pairs.filter((pair) => pair.differs);
  const shown = pairs.length <= SHOWN ? pairs : [...differing, ...pairs.filter((pair) => !pair.differs)].slice(0, SHOWN);
  return {
    name, datatype: known?.datatype || "", shape: outputShape(answer, shadow), pairs: shown, left: count - shown.length, differing: differing.length,
  };
}

/**
 * @param {Tensor | undefined} answer
 * @param {Tensor | undefined} shadow
 */
function outputShape(answer, shadow) {
  const [one, other] = [answer, shadow].map((tensor) => (tensor ? `[${tensor.shape.join(", ")}]` : "none"));
  return one === other ? `${one}` : `${one} and ${other}`;
}

/**
 * @param {any} one
 * @param {any} other
 * @param {number} index
 * @param {number[]} shape
 * @returns {Pair}
 */
function pairOf(one, other, index, shape) {
  const numeric = typeof one === "number" && typeof other === "number";
  return {
    place: elementPlace(index, shape),
    answer: textOf(one),
    shadow: textOf(other),
    differs: !Object.is(one, other),
    difference: numeric ? other - one : null,
  };
}

/**
 * Returns the indices of an element of a tensor: element 5 of shape [2, 3] is "1, 2".
 * @param {number} index
 * @param {number[]} shape
 */
export function elementPlace(index, shape) {
  const places = [];
  let rest = index;
  for (const size of [...shape].reverse()) {
    places.unshift(size > 0 ? rest % size : 0);
    rest = size > 0 ? Math.floor(rest / size) : 0;
  }
  return places.join(", ") || String(index);
}

/** @param {any} value */
export function textOf(value) {
  if (value === undefined) return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(7)));
  return typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * @param {any} data
 * @returns {any[]}
 */
function flattenOutput(data) {
  return Array.isArray(data) ? data.flat(Infinity) : data === undefined || data === null ? [] : [data];
}

/**
 * Returns a tensor as one line of text, cut after so many elements.
 * @param {Tensor} tensor
 * @param {number} [most]
 */
export function tensorText(tensor, most = 16) {
  const values = flattenOutput(tensor.data);
  const shown = values.slice(0, most).map(textOf).join(", ");
  return values.length > most ? `${shown}, … (${values.length - most} more)` : shown;
}
