/**
 * Two versions of a model side by side: metrics, signature, and the facts of their admission.
 *
 * @typedef {import("../predict/signature.js").TensorSpec} TensorSpec
 * @typedef {{version: string, digest: string | null, size: number | null, created_at: string | null, created_by: string | null,
 *   state: string, reason: string, aliases: string[], batching: string | null, features: string[], card: Record<string, unknown> | null,
 *   signature: {inputs: TensorSpec[], outputs: TensorSpec[]} | null, metadata: Record<string, unknown>,
 *   admission: Record<string, unknown> | null, approvals?: {actor: string, at: string, reason: string, counts: boolean}[],
 *   signatures?: {digest: string, signers: string[], added_at: string, added_by: string}[]}} Version
 * @typedef {"same" | "changed" | "added" | "removed"} Difference
 * @typedef {{name: string, a: string, b: string, difference: Difference}} Row
 * @typedef {{name: string, a: number | null, b: number | null, delta: number | null}} MetricRow
 */

import { shapeText } from "../predict/signature.js";

/**
 * The metrics of both, by name.
 * @param {Version} a
 * @param {Version} b
 * @returns {MetricRow[]}
 */
export function compareMetrics(a, b) {
  const [first, second] = [numbersIn(a.metadata.metrics), numbersIn(b.metadata.metrics)];
  return namesOf(first, second).map((name) => {
    const [left = null, right = null] = [first[name], second[name]];
    return { name, a: left, b: right, delta: left === null || right === null ? null : right - left };
  });
}

/**
 * The parameters, frameworks and tags of both, by group and name.
 * @param {Version} a
 * @param {Version} b
 * @returns {Row[]}
 */
export function compareMetadata(a, b) {
  const [first, second] = [flatMetadata(a.metadata), flatMetadata(b.metadata)];
  return namesOf(first, second).map((name) => row(name, first[name], second[name]));
}

/**
 * The inputs and outputs of both.
 * @param {Version} a
 * @param {Version} b
 * @returns {Row[]}
 */
export function compareSignatures(a, b) {
  const [first, second] = [tensorsOf(a), tensorsOf(b)];
  return namesOf(first, second).map((name) => row(name, first[name], second[name]));
}

/**
 * Whether requests for one version fit the other: the same inputs and outputs.
 * @param {Version} a
 * @param {Version} b
 */
export function haveSameSignature(a, b) {
  return compareSignatures(a, b).every((item) => item.difference === "same");
}

/**
 * @param {string} name
 * @param {string | undefined} a
 * @param {string | undefined} b
 * @returns {Row}
 */
export function row(name, a, b) {
  const difference = a === b ? "same" : a === undefined ? "added" : b === undefined ? "removed" : "changed";
  return { name, a: a ?? "", b: b ?? "", difference };
}

/** @param {Version} version */
function tensorsOf(version) {
  /** @type {Record<string, string>} */
  const tensors = {};
  for (const side of /** @type {const} */ (["inputs", "outputs"]))
    for (const spec of version.signature?.[side] ?? [])
      tensors[`${side.slice(0, -1)} ${spec.name}`] = `${spec.datatype} ${shapeText(spec.shape)}`;
  return tensors;
}

/** @param {Record<string, unknown>} metadata */
function flatMetadata(metadata) {
  /** @type {Record<string, string>} */
  const flat = {};
  for (const [group, value] of Object.entries(metadata)) {
    if (group === "metrics") continue;
    if (typeof value === "object" && value !== null)
      for (const [name, item] of Object.entries(value)) flat[`${group}.${name}`] = String(item);
    else flat[group] = String(value);
  }
  return flat;
}

/**
 * @param {unknown} value
 * @returns {Record<string, number>}
 */
function numbersIn(value) {
  const entries = typeof value === "object" && value !== null ? Object.entries(value) : [];
  return Object.fromEntries(entries.filter((entry) => typeof entry[1] === "number"));
}

/**
 * @param {Record<string, unknown>} first
 * @param {Record<string, unknown>} second
 */
function namesOf(first, second) {
  return [...new Set([...Object.keys(first), ...Object.keys(second)])];
}
