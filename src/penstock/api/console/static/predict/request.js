/**
 * V2 requests as documents and as text.
 *
 * @typedef {import("./values.js").Tensor} Tensor
 * @typedef {{inputs: Tensor[]}} InferRequest
 */

/**
 * The request with these inputs.
 * @param {Tensor[]} inputs
 * @returns {InferRequest}
 */
export function requestOf(inputs) {
  return { inputs };
}

/**
 * A request as JSON; whole numbers of 64 bits keep all of their digits.
 * @param {InferRequest} request
 * @param {boolean} [spaced] with spaces, for people
 */
export function requestText(request, spaced = false) {
  const inputs = request.inputs.map((tensor) => tensorJson(tensor, spaced));
  const gap = spaced ? " " : "";
  return `{"inputs":${gap}[${inputs.join(`,${gap}`)}]}`;
}

/**
 * @param {Tensor} tensor
 * @param {boolean} spaced
 */
function tensorJson(tensor, spaced) {
  const gap = spaced ? " " : "";
  const data = tensor.data.map((value) => (typeof value === "bigint" ? value.toString() : JSON.stringify(value)));
  const parts = [
    `"name":${gap}${JSON.stringify(tensor.name)}`,
    `"datatype":${gap}${JSON.stringify(tensor.datatype)}`,
    `"shape":${gap}[${tensor.shape.join(`,${gap}`)}]`,
    `"data":${gap}[${data.join(`,${gap}`)}]`,
  ];
  return `{${parts.join(`,${gap}`)}}`;
}
