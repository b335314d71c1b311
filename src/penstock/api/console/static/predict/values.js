/**
 * Reads what people type, paste or drop as tensors of a V2 request: boxes, JSON and CSV. A fault is a sentence that says
 * what was expected.
 *
 * @typedef {import("./signature.js").TensorSpec} TensorSpec
 * @typedef {number | bigint | boolean | string | null} Value null in a tensor of floats is NaN
 * @typedef {{name: string, datatype: string, shape: number[], data: Value[]}} Tensor
 */

import { INTEGER_RANGES, kindOf, shapeText } from "./signature.js";

/** The most values that are read; more are for a client, not for a page. */
export const MOST_VALUES = 2_000_000;

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;
const INTEGER = /^[+-]?\d+$/;

/** What is wrong with an input, in a sentence. */
export class InputFault extends Error {}

/**
 * One value of a datatype from text.
 * @param {string} text
 * @param {string} datatype
 * @returns {Value}
 * @throws {InputFault}
 */
export function readValue(text, datatype) {
  const kind = kindOf(datatype);
  const word = text.trim();
  if (kind === "text") return text;
  if (kind === "flag") return readFlag(word);
  if (kind === "integer") return readInteger(word, datatype);
  return parseNumber(word, datatype);
}

/**
 * @param {string} word
 * @returns {boolean}
 */
function readFlag(word) {
  const flag = { true: true, 1: true, false: false, 0: false }[word.toLowerCase()];
  if (flag === undefined) throw new InputFault(`'${shorten(word)}' is not true or false`);
  return flag;
}

/**
 * @param {string} word
 * @param {string} datatype
 * @returns {number | bigint}
 */
function readInteger(word, datatype) {
  if (!INTEGER.test(word)) throw new InputFault(`'${shorten(word)}' is not a whole number`);
  const value = BigInt(word.replace(/^\+/, ""));
  const [least, most] = INTEGER_RANGES[datatype] ?? [value, value];
  if (value < least || value > most) throw new InputFault(`${shorten(word)} is not between ${least} and ${most} (${datatype})`);
  return Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

/**
 * @param {string} word
 * @param {string} datatype
 * @returns {number | null}
 */
function parseNumber(word, datatype) {
  if (word === "" || /^nan$/i.test(word)) return missing(datatype);
  if (!NUMBER.test(word)) throw new InputFault(`'${shorten(word)}' is not a number`);
  const value = Number(word);
  if (!Number.isFinite(value)) throw new InputFault(`'${shorten(word)}' is too large`);
  return value;
}

/** @param {string} datatype */
function missing(datatype) {
  if (datatype === "FP32" || datatype === "FP64") return null;
  throw new InputFault("a value is missing");
}

/**
 * A tensor from nested lists, or from a flat list where only one dimension is free.
 * @param {TensorSpec} spec
 * @param {unknown} values
 * @returns {Tensor}
 * @throws {InputFault}
 */
export function tensorOf(spec, values) {
  /** @type {unknown[]} */
  const flat = [];
  const nested = flatten(values, flat);
  const data = flat.map((value) => checkValue(value, spec.datatype));
  const shape = nested.length === spec.shape.length ? nested : fitShape(spec, flat.length, nested);
  checkShape(spec, shape);
  return { name: spec.name, datatype: spec.datatype, shape, data };
}

/**
 * Append the values of nested lists to a flat one; return the shape.
 * @param {unknown} values
 * @param {unknown[]} flat
 * @returns {number[]}
 */
function flatten(values, flat) {
  if (!Array.isArray(values)) {
    if (flat.length >= MOST_VALUES) throw new InputFault(`more than ${MOST_VALUES} values; send them by a client`);
    flat.push(values);
    return [];
  }
  const shapes = values.map((item) => flatten(item, flat));
  const inner = shapes[0] ?? [];
  if (shapes.some((shape) => shape.length !== inner.length || shape.some((size, index) => size !== inner[index])))
    throw new InputFault("the lists inside a list differ in length");
  return [values.length, ...inner];
}

/**
 * The shape of flat values: the sizes of the input, with its only free dimension filled.
 * @param {TensorSpec} spec
 * @param {number} count
 * @param {number[]} nested
 */
function fitShape(spec, count, nested) {
  const fixed = spec.shape.filter((size) => size >= 0).reduce((product, size) => product * size, 1);
  const free = spec.shape.filter((size) => size < 0).length;
  const fits = free === 0 ? count === fixed : free === 1 && fixed > 0 && count % fixed === 0;
  if (nested.length > 1 || !fits) throw new InputFault(`got ${countText(count)} in ${shapeText(nested)}; expected ${describeValue(spec)}`);
  return spec.shape.map((size) => (size < 0 ? count / fixed : size));
}

/**
 * @param {TensorSpec} spec
 * @param {number[]} shape
 */
function checkShape(spec, shape) {
  if (spec.shape.some((size, index) => size >= 0 && shape[index] !== size))
    throw new InputFault(`got the shape [${shape.join(", ")}]; expected ${describeValue(spec)}`);
}

/** @param {TensorSpec} spec */
function describeValue(spec) {
  return `'${spec.name}' ${spec.datatype} ${shapeText(spec.shape)}`;
}

/** @param {number} count */
function countText(count) {
  return count === 1 ? "1 value" : `${count} values`;
}

/**
 * @param {unknown} value
 * @param {string} datatype
 * @returns {Value}
 */
function checkValue(value, datatype) {
  const kind = kindOf(datatype);
  if (typeof value === "string") return readValue(value, datatype);
  if (value === null && kind === "number") return missing(datatype);
  if (typeof value === "boolean" && kind === "flag") return value;
  if (typeof value === "number" && kind === "number") return value;
  if (typeof value === "number" && kind === "integer") return checkInteger(value, datatype);
  throw new InputFault(`${shorten(JSON.stringify(value) ?? "nothing")} is not a value of ${datatype}`);
}

/**
 * @param {number} value
 * @param {string} datatype
 */
function checkInteger(value, datatype) {
  if (Number.isInteger(value) && !Number.isSafeInteger(value))
    throw new InputFault(`${value} is too long for JSON in a browser; write it as a text: "${value}"`);
  return readInteger(String(value), datatype);
}

/**
 * The tensors in pasted JSON: a V2 request, values by the names of inputs, or the values of the only input.
 * @param {string} text
 * @param {TensorSpec[]} specs
 * @returns {Tensor[]}
 * @throws {InputFault}
 */
export function readJson(text, specs) {
  const document = parse(text);
  const only = specs.length === 1 ? specs[0] : undefined;
  if (!isObject(document)) {
    if (only === undefined) throw new InputFault(`expected an object with ${specs.map((spec) => `"${spec.name}"`).join(", ")}`);
    return [tensorOf(only, document)];
  }
  if (Array.isArray(document.inputs) && !specs.some((spec) => spec.name === "inputs"))
    return readInputs(document.inputs, specs);
  return Object.entries(document).map(([name, values]) => nameFault(name, () => tensorOf(specNamed(name, specs), values)));
}

/** @param {string} text */
function parse(text) {
  try {
    return /** @type {unknown} */ (JSON.parse(text));
  } catch {
    throw new InputFault("this is not JSON; expected lists of values, or a V2 request");
  }
}

/**
 * @param {unknown[]} inputs
 * @param {TensorSpec[]} specs
 */
function readInputs(inputs, specs) {
  return inputs.map((item) => {
    if (!isObject(item) || typeof item.name !== "string") throw new InputFault("an input of the request has no name");
    const [spec, shape] = [specNamed(item.name, specs), item.shape];
    const tensor = nameFault(spec.name, () => tensorOf(spec, item.data));
    return Array.isArray(shape) ? { ...tensor, shape: shape.map(Number) } : tensor;
  });
}

/**
 * @param {string} name
 * @param {TensorSpec[]} specs
 */
function specNamed(name, specs) {
  const spec = specs.find((item) => item.name === name);
  if (!spec) throw new InputFault(`the model has no input '${shorten(name)}'; it takes ${specs.map(describeValue).join(", ")}`);
  return spec;
}

/**
 * Name the input in a fault.
 * @template T
 * @param {string} name
 * @param {() => T} read
 * @returns {T}
 */
function nameFault(name, read) {
  try {
    return read();
  } catch (fault) {
    throw fault instanceof InputFault ? new InputFault(`input '${shorten(name)}': ${fault.message}`) : fault;
  }
}

/**
 * The tensors in CSV: one line for each row. With several inputs of one value a row, the first line names them; with one
 * input, a first line that names the features puts the columns in their order, and any other line of words is left out.
 * @param {string} text
 * @param {TensorSpec[]} specs
 * @param {readonly string[]} features
 * @returns {Tensor[]}
 * @throws {InputFault}
 */
export function readCsv(text, specs, features = []) {
  const lines = splitCsv(text);
  const [only] = specs;
  if (!lines.length || !only) throw new InputFault("there is no line of values");
  return specs.length === 1 ? [readRows(only, lines, features)] : readColumns(specs, lines);
}

/**
 * @param {TensorSpec} spec
 * @param {string[][]} lines
 * @param {readonly string[]} features
 */
function readRows(spec, lines, features) {
  const head = lines[0] ?? [];
  const order = features.map((feature) => head.indexOf(feature));
  const isNamed = features.length > 0 && order.every((place) => place >= 0);
  const hasHead = isNamed || (kindOf(spec.datatype) !== "text" && lines.length > 1 && head.some((word) => !isReadable(word, spec.datatype)));
  const rows = lines.slice(hasHead ? 1 : 0).map((line) => (isNamed ? order.map((place) => line[place] ?? "") : line));
  return tensorOf(spec, spec.shape.length === 2 ? rows : rows.flat());
}

/**
 * @param {string} word
 * @param {string} datatype
 */
function isReadable(word, datatype) {
  try {
    readValue(word, datatype);
    return true;
  } catch {
    return false;
  }
}

/**
 * @param {TensorSpec[]} specs
 * @param {string[][]} lines
 */
function readColumns(specs, lines) {
  const [head = [], ...rows] = lines;
  return specs.map((spec) => {
    const place = head.indexOf(spec.name);
    if (place < 0) throw new InputFault(`the first line does not name the input '${spec.name}'`);
    const column = rows.map((row) => row[place] ?? "");
    return nameFault(spec.name, () => tensorOf(spec, spec.shape.length > 1 ? column.map((word) => [word]) : column));
  });
}

/**
 * The fields of CSV (RFC 4180), with commas, semicolons or tabs between them; empty lines are left out.
 * @param {string} text
 * @returns {string[][]}
 */
export function splitCsv(text) {
  const separator = separatorOf(text);
  /** @type {string[][]} */
  const lines = [];
  for (const line of quotedLines(text)) if (line.trim()) lines.push(splitLine(line, separator));
  return lines;
}

/** @param {string} text */
function separatorOf(text) {
  const [first = ""] = text.split("\n", 1);
  return [",", ";", "\t"].find((mark) => first.includes(mark)) ?? ",";
}

/**
 * Lines of a text; a line break between quotes belongs to the line.
 * @param {string} text
 */
function quotedLines(text) {
  return text.replace(/\r\n?/g, "\n").match(/(?:"(?:[^"]|"")*"|[^\n"]|")+/g) ?? [];
}

/**
 * @param {string} line
 * @param {string} separator
 */
function splitLine(line, separator) {
  /** @type {string[]} */
  const fields = [];
  let [field, quoted] = ["", false];
  for (let index = 0; index < line.length; index += 1) {
    const mark = line[index] ?? "";
    if (mark === '"' && quoted && line[index + 1] === '"') {
      field += mark;
      index += 1;
    } else if (mark === '"' && (quoted || !field.trim())) quoted = !quoted;
    else if (mark === separator && !quoted) {
      fields.push(field);
      field = "";
    } else field += mark;
  }
  return [...fields, field].map((item) => item.trim());
}

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {string} text */
function shorten(text) {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
