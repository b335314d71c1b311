// What rules rest on, the marks of an exam, and deliveries in the order in which they need somebody. No part of it touches
// the page.

/** @typedef {Record<string, any>} Document */

/** The order of deliveries: dead ones first. @type {Record<string, number>} */
const RANKS = { dead: 0, pending: 1, sent: 2 };

/**
 * Returns deliveries: dead ones first, then those that wait, each the newest first.
 * @param {Document[]} deliveries newest first
 * @returns {Document[]}
 */
export function deliveriesOf(deliveries) {
  return deliveries.map((item, index) => ({ item, index }))
    .sort((one, other) => (RANKS[one.item.state] ?? 3) - (RANKS[other.item.state] ?? 3) || one.index - other.index)
    .map(({ item }) => item);
}

/**
 * Returns one sentence on the evidence of a condition, such as "accuracy 0.82, threshold below 0.9".
 * @param {Document} evidence
 */
export function evidenceText(evidence) {
  const { statistic, feature, value, threshold, features } = evidence;
  const names = Array.isArray(features) ? features.map((item) => item.name).join(", ") : "";
  const subject = [feature, statistic === "e-SR" ? "drifting columns" : statistic].filter(Boolean).join(": ");
  const parts = [`${subject} ${scoreText(value ?? evidence.state)}`, threshold === undefined ? "" : `threshold ${scoreText(threshold)}`];
  return parts.filter(Boolean).join(", ") + (names ? ` (${names})` : "");
}

/**
 * @param {any} value
 * @returns {string}
 */
function scoreText(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(Math.round(value * 10000) / 10000);
  if (typeof value !== "object") return String(value);
  return Object.entries(value).map(([name, item]) => `${name.replaceAll("_", " ")} ${scoreText(item)}`).join(", ");
}

/**
 * Returns the scores of an exam as rows: over all rows, by slices, and with noise on the inputs.
 * @param {Document} exam
 * @returns {{name: string, candidate: number | null, champion: number | null, rows: number | null}[]}
 */
export function examRows(exam) {
  const row = (/** @type {string} */ name, /** @type {Document} */ scores) => ({ name, candidate: scores.candidate ?? null, champion: scores.champion ?? null, rows: scores.rows ?? null });
  const slices = Object.entries(exam.slices || {}).map(([name, scores]) => row(name, /** @type {Document} */ (scores)));
  const noised = typeof exam.noised === "number" ? [row("with noise", { candidate: exam.noised })] : [];
  return [row("all rows", exam.whole || {}), ...slices, ...noised];
}
