// A policy as a form and as YAML. Writing YAML is enough: the gateway reads it, and names faults by line.

/** @typedef {Record<string, any>} Document */
/** @typedef {{path: string, label: string, hint: string, isList?: boolean, min?: number, max?: number, optional?: boolean}} Field */

/** The settings that the form has; all others are changed as YAML. @type {Field[]} */
export const FIELDS = [
  { path: "monitor.sample", label: "Share of requests that are counted", hint: "0 counts nothing", min: 0, max: 1 },
  { path: "monitor.window_seconds", label: "Window of the effect sizes (s)", hint: "5 s to 7 days", min: 5, max: 604800 },
  { path: "monitor.rows_between_false_alarms", label: "Rows between two false alarms", hint: "all columns together", min: 100 },
  { path: "monitor.false_alarms_per_day", label: "Most false alarms a day", hint: "0 sets no limit", min: 0 },
  { path: "monitor.label_horizon_seconds", label: "Time in which labels may come (s)", hint: "0 remembers no answers", min: 0, max: 7776000 },
  { path: "monitor.slices", label: "Slices: inputs whose values are watched separately", hint: "up to 4 names with commas between", isList: true },
  { path: "slo.latency_p99_ms", label: "Objective: p99 latency (ms)", hint: "empty for none", min: 0, optional: true },
  { path: "slo.error_ratio", label: "Objective: share of failed requests", hint: "empty for none", min: 0, max: 1, optional: true },
  { path: "capture.sample", label: "Share of requests that are stored as they were", hint: "0 stores none", min: 0, max: 1 },
];

/** Fields of a policy document that are no part of the policy. */
const ABOUT = ["revision", "problem"];

/**
 * Returns a policy document without what only describes it.
 * @param {Document} document
 * @returns {Document}
 */
export function policyOf(document) {
  return Object.fromEntries(Object.entries(document).filter(([name]) => !ABOUT.includes(name)));
}

/**
 * Returns the texts of the form's fields by path.
 * @param {Document} policy
 * @returns {Record<string, string>}
 */
export function textsOf(policy) {
  return Object.fromEntries(FIELDS.map((field) => [field.path, policyText(valueAt(policy, field.path))]));
}

/** @param {unknown} value */
function policyText(value) {
  if (value === undefined || value === null) return "";
  return Array.isArray(value) ? value.join(", ") : String(value);
}

/**
 * Returns a copy of a policy with the texts of the form.
 * @param {Document} policy
 * @param {Record<string, string>} texts
 * @returns {Document}
 */
export function withTexts(policy, texts) {
  const changed = structuredClone(policy);
  const before = textsOf(policy);
  for (const field of FIELDS) {
    const text = (texts[field.path] ?? "").trim();
    if (text !== before[field.path]) putField(changed, field, text);
  }
  return changed;
}

/**
 * @param {Document} policy
 * @param {Field} field
 * @param {string} text
 */
function putField(policy, field, text) {
  const [section = "", name = ""] = field.path.split(".");
  const values = { ...(policy[section] || {}) };
  if (field.isList) values[name] = text.split(",").map((item) => item.trim()).filter(Boolean);
  else if (text === "") delete values[name];
  else values[name] = Number(text);
  if (Object.keys(values).length) policy[section] = values;
  else delete policy[section];
}

/**
 * @param {Document} document
 * @param {string} path
 */
function valueAt(document, path) {
  return path.split(".").reduce((/** @type {any} */ value, name) => value?.[name], document);
}

/**
 * Returns what differs between two policies, by path.
 * @param {any} before
 * @param {any} after
 * @param {string} [path]
 * @returns {{label: string, before?: string, after: string | undefined}[]}
 */
export function changesOf(before, after, path = "") {
  if (isMapping(before) && isMapping(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
    return names.flatMap((name) => changesOf(before[name], after[name], path ? `${path}.${name}` : name));
  }
  const [old, now] = [shownField(before), shownField(after)];
  return old === now ? [] : [{ label: path || "policy", before: old, after: now }];
}

/**
 * @param {unknown} value
 * @returns {value is Document}
 */
function isMapping(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {unknown} value */
function shownField(value) {
  return value === undefined ? undefined : typeof value === "string" ? value : JSON.stringify(value);
}

const PLAIN = /^[A-Za-z][A-Za-z0-9_./-]*$/;
const RESERVED = /^(true|false|yes|no|on|off|null|y|n)$/i;

/**
 * Returns JSON values as YAML in block style.
 * @param {any} value
 * @param {string} [indent]
 * @returns {string}
 */
export function toYaml(value, indent = "") {
  if (Array.isArray(value) && value.length) return value.map((item) => `${indent}- ${itemOf(item, indent)}`).join("");
  if (isMapping(value) && Object.keys(value).length)
    return Object.entries(value).map(([name, item]) => `${indent}${scalar(name)}:${below(item, indent)}`).join("");
  return `${indent}${scalar(value)}\n`;
}

/**
 * @param {any} item
 * @param {string} indent
 */
function itemOf(item, indent) {
  return isNested(item) ? toYaml(item, `${indent}  `).trimStart() : `${scalar(item)}\n`;
}

/**
 * @param {any} item
 * @param {string} indent
 */
function below(item, indent) {
  return isNested(item) ? `\n${toYaml(item, `${indent}  `)}` : ` ${scalar(item)}\n`;
}

/** @param {any} value */
function isNested(value) {
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}

/** @param {any} value */
function scalar(value) {
  if (typeof value === "number") return numberText(value);
  if (typeof value !== "string") return JSON.stringify(value ?? null);
  return PLAIN.test(value) && !RESERVED.test(value) ? value : JSON.stringify(value);
}

/** YAML 1.1 takes 1e-7 for a text: a number with an exponent needs a point and a sign. @param {number} value */
function numberText(value) {
  const [digits = "", exponent] = String(value).split("e");
  if (!exponent) return digits;
  return `${digits.includes(".") ? digits : `${digits}.0`}e${exponent.startsWith("-") || exponent.startsWith("+") ? exponent : `+${exponent}`}`;
}
