// Entries of the time line: what each is about, where its object is, and its difference before and after. No part of it
// touches the page.

import { number } from "./format.js";

/** @typedef {Record<string, any>} Document */
/** @typedef {{path: string, before: string, after: string, sign: "+" | "−" | "±"}} DiffRow */

/** The kinds to filter by: the beginning of a kind, and how people call it. @type {[string, string][]} */
export const KINDS = [
  ["", "everything"],
  ["route", "routes"],
  ["rollout", "rollouts"],
  ["experiment", "experiments"],
  ["alias", "aliases"],
  ["version", "versions"],
  ["drift", "drift"],
  ["quality", "data quality"],
  ["performance", "performance"],
  ["retraining", "retraining"],
  ["candidate", "candidates"],
  ["delivery", "failed deliveries"],
  ["policy", "policies"],
  ["reference", "references"],
  ["key", "keys"],
  ["access", "refused requests"],
  ["audit", "the audit itself"],
];

/** The page of a model for the beginning of a kind. @type {[string, string][]} */
const OBJECT_PAGES = [
  ["drift", "monitor"],
  ["quality", "monitor"],
  ["performance", "monitor"],
  ["reference", "monitor"],
  ["policy", "monitor"],
  ["capture", "monitor"],
  ["retraining", "retraining"],
  ["candidate", "retraining"],
  ["delivery", "retraining"],
  ["outbox", "retraining"],
  ["route", "traffic"],
  ["rollout", "rollouts"],
  ["experiment", "rollouts"],
];

/**
 * Returns the steps of the path of the page that shows an entry's object, null if there is none.
 * @param {Document} entry
 * @returns {string[] | null}
 */
export function placeOf(entry) {
  if (!entry.model) return /^(key|access|auth)/.test(entry.kind) ? ["access"] : null;
  const model = ["models", entry.model];
  const trial = trialOf(entry);
  if (trial) return [...model, ...trial];
  if (entry.kind.startsWith("drift.") && typeof entry.data?.name === "string") return [...model, "monitor", entry.data.name];
  const page = OBJECT_PAGES.find(([kind]) => entry.kind.startsWith(kind));
  if (page) return [...model, page[1]];
  const version = /^models\/[^/]+\/versions\/([^/]+)/.exec(entry.subject)?.[1];
  return version ? [...model, "versions", version] : model;
}

/**
 * @param {Document} entry
 * @returns {string[] | null}
 */
function trialOf(entry) {
  const found = /^models\/[^/]+\/(rollouts|experiments)\/([^/]+)$/.exec(entry.subject);
  if (found) return [found[1] || "", found[2] || ""];
  if (typeof entry.data?.rollout === "string") return ["rollouts", entry.data.rollout];
  return typeof entry.data?.experiment === "string" ? ["experiments", entry.data.experiment] : null;
}

/**
 * Returns what an entry's object is called, such as "version 2" or "route".
 * @param {Document} entry
 */
export function objectOf(entry) {
  const rest = entry.subject.replace(/^models\/[^/]+\/?/, "");
  if (typeof entry.data?.name === "string" && entry.kind.startsWith("drift")) return `column ${entry.data.name}`;
  return rest.replace(/^versions\//, "version ").replace(/^aliases\//, "alias ").replace(/^(rollout|experiment)s\//, "$1 ") || entry.model || entry.subject;
}

/**
 * Returns a kind as people read it: "drift detected" for "drift.detected.v1".
 * @param {string} kind
 */
export function kindText(kind) {
  return kind.replace(/\.v\d+$/, "").replaceAll(".", " ").replaceAll("_", " ");
}

/**
 * Returns how a kind of entry is to be taken.
 * @param {string} kind
 * @returns {"good" | "warn" | "bad" | ""}
 */
export function severityOf(kind) {
  if (/(detected|violated|degraded|failed|refused|mismatched)/.test(kind)) return "bad";
  if (/(requested|abort|rollback)/.test(kind)) return "warn";
  return /(cleared|restored|recovered|passed|approved)/.test(kind) ? "good" : "";
}

/**
 * Returns one sentence on an entry, "" if there is none.
 * @param {Document} entry
 */
export function sentenceOf(entry) {
  const data = entry.data || {};
  if (typeof data.message === "string") return data.message;
  if (typeof entry.reason === "string" && entry.reason) return entry.reason;
  if (typeof data.rule === "string") return `rule ${data.rule}`;
  if (Array.isArray(data.reasons)) return data.reasons.join("; ");
  if (data.what === "gap") return `realised accuracy ${number(data.realised)}, expected by its probabilities ${number(data.estimated)}`;
  if (data.what === "errors") return `error ${number(data.recent_error)} lately, ${number(data.baseline_error)} before`;
  return "";
}

/**
 * Returns the difference that a change made, one row for each path.
 * @param {Document[] | undefined} changes
 * @returns {DiffRow[]}
 */
export function diffRows(changes) {
  return (changes || []).filter((change) => !change.more && change.path !== "record").map((change) => ({
    path: change.path || "(all)",
    before: "before" in change ? valueText(change.before) : "",
    after: "after" in change ? valueText(change.after) : "",
    sign: !("before" in change) ? "+" : !("after" in change) ? "−" : "±",
  }));
}

/**
 * Returns how many changes are left out of an entry.
 * @param {Document[] | undefined} changes
 */
export function leftOut(changes) {
  return changes?.find((change) => change.more)?.more ?? 0;
}

/** @param {unknown} value */
function valueText(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * Returns the query of the admin API for filters; empty ones are left out.
 * @param {Record<string, string | undefined>} filters
 */
export function queryOf(filters) {
  const given = ["model", "kind", "person", "before", "limit"].filter((name) => filters[name]);
  const text = given.map((name) => `${name}=${encodeURIComponent(filters[name] || "")}`).join("&");
  return text ? `?${text}` : "";
}

/**
 * Returns pages of entries as one list, newest first, without doubles.
 * @param {Document[]} known
 * @param {Document[]} older
 */
export function joinPages(known, older) {
  const seen = new Set(known.map(keyOf));
  return [...known, ...older.filter((entry) => !seen.has(keyOf(entry)))];
}

/** @param {Document} entry */
export function keyOf(entry) {
  return `${entry.source}-${entry.seq}`;
}
