/**
 * An explanation for people: what each feature adds to one column of the answer to one row, the largest first.
 *
 * @typedef {{feature: string, value: number, error: number | null}} Attribution `error` is the standard error, 0 if exact
 * @typedef {{rows: number, columns: number, base: number, prediction: number, parts: Attribution[]}} ShownExplanation
 */

/** The most features that are shown by themselves. */
export const MOST_FEATURES = 50;

/**
 * One row and column of the tensors of an explanation; the features that are not shown are one part.
 * @param {Record<string, any>} document
 * @param {number} row
 * @param {number} column
 * @returns {ShownExplanation}
 */
export function explanationOf(document, row, column) {
  const tensors = Object.fromEntries(document.outputs.map((/** @type {any} */ tensor) => [tensor.name, tensor]));
  const { attributions, base_value: base, prediction, error, features } = tensors;
  const columns = base.data.length;
  const parts = features.data.map((/** @type {string} */ feature, /** @type {number} */ index) => {
    const at = (row * features.data.length + index) * columns + column;
    return { feature, value: attributions.data[at], error: error.data[at] };
  });
  parts.sort((/** @type {Attribution} */ a, /** @type {Attribution} */ b) => Math.abs(b.value) - Math.abs(a.value));
  const others = parts.splice(MOST_FEATURES);
  if (others.length) parts.push({ feature: `${others.length} others`, value: sumOf(others), error: null });
  return { rows: attributions.shape[0], columns, base: base.data[column], prediction: prediction.data[row * columns + column], parts };
}

/** @param {Attribution[]} parts */
function sumOf(parts) {
  return parts.reduce((sum, part) => sum + part.value, 0);
}
