/**
 * The admission report of a version as lines for people.
 *
 * @typedef {import("./compare.js").Version} Version
 * @typedef {{name: string, text: string}} Fact
 */

import { bytes, milliseconds } from "../lib/format.js";

const MOST_OPERATORS = 8;

/**
 * What admission found, the verdict first; empty if there is no report.
 * @param {Version} version
 * @returns {Fact[]}
 */
export function admissionFacts(version) {
  const report = version.admission;
  if (!report) return [];
  const facts = [
    ["verdict", verdictText(report)],
    ["requests share runs", sharingText(version)],
    ["run time of one row", typeof report.p50_us === "number" ? milliseconds(report.p50_us / 1000) : ""],
    ["memory", typeof report.memory_bytes === "number" ? bytes(report.memory_bytes) : ""],
    ["operators", operatorsText(report.ops)],
    ["operator sets", opsetsText(report.opset)],
    ["made by", reportText(report.producer)],
    ["run by", reportText(report.runtime)],
    ["examined in", typeof report.took_ms === "number" ? milliseconds(report.took_ms) : ""],
    ["class names", classesText(report.zipmap)],
    ["guarded", guardedText(report)],
    ["serves as", reportText(report.served_digest)],
    ["confinement", confinementText(report.confinement)],
  ];
  return facts.flatMap(([name = "", text = ""]) => (text ? [{ name, text }] : []));
}

/** @param {Record<string, unknown>} report */
function verdictText(report) {
  return report.verdict === "admitted" ? "admitted" : `refused: ${reportText(report.reason)}`;
}

/**
 * Why requests share runs or not: what the workers do, else what the graph proves.
 * @param {Version} version
 */
export function sharingText(version) {
  if (version.batching) return version.batching;
  const proof = reportObject(version.admission?.independent_rows);
  if (!proof) return "";
  if (proof.proven === true) return "the graph proves that rows are independent";
  const node = reportText(proof.node);
  const at = reportText(proof.operator) ? ` (at ${reportText(proof.operator)}${node ? ` '${node}'` : ""})` : "";
  return `the graph does not prove that rows are independent: ${reportText(proof.reason)}${at}`;
}

/** @param {unknown} ops */
function operatorsText(ops) {
  const entries = Object.entries(reportObject(ops) ?? {});
  const shown = entries.slice(0, MOST_OPERATORS).map(([name, count]) => `${name} × ${String(count)}`);
  if (entries.length > MOST_OPERATORS) shown.push(`${entries.length - MOST_OPERATORS} more`);
  return shown.join(", ");
}

/** @param {unknown} opsets */
function opsetsText(opsets) {
  return Object.entries(reportObject(opsets) ?? {}).map(([domain, version]) => `${domain || "ai.onnx"} ${String(version)}`).join(", ");
}

/** @param {unknown} zipmap */
function classesText(zipmap) {
  return Object.entries(reportObject(zipmap) ?? {})
    .map(([output, names]) => `${output}: ${Array.isArray(names) ? names.slice(0, 20).join(", ") : String(names)}`)
    .join("; ");
}

/** @param {Record<string, unknown>} report */
function guardedText(report) {
  const kinds = { guarded_divisions: "divisions", guarded_dimensions: "dimensions", guarded_sizes: "sizes" };
  return Object.entries(kinds)
    .flatMap(([name, kind]) => {
      const guards = report[name];
      return Array.isArray(guards) && guards.length ? [`${guards.length} ${kind}`] : [];
    })
    .join(", ");
}

/** @param {unknown} report */
function confinementText(report) {
  const layers = reportObject(report)?.in_force;
  return Array.isArray(layers) ? layers.join(", ") : layers && typeof layers === "object" ? Object.keys(layers).join(", ") : "";
}

/** @param {unknown} value */
function reportText(value) {
  return typeof value === "string" ? value : "";
}

/**
 * @param {unknown} value
 * @returns {Record<string, unknown> | null}
 */
function reportObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? /** @type {Record<string, unknown>} */ (value) : null;
}
