// What a monitor's document says about its columns, as the views show it. No part of it touches the page.

/** @typedef {Record<string, any>} Document */
/** @typedef {Document & {side: "input" | "output" | "joint"}} Column */
/** @typedef {{name: string, value: number, limit: number | null, exceeds: boolean, hint: string}} Effect */
/** @typedef {{bin: string, share: number, reference: number, change: number, count: number}} Bin */

/** The effect sizes of a column, with the field of the limit of chance and what they mean. @type {[string, string, string | null, string][]} */
const COLUMN_EFFECTS = [
  ["PSI", "psi", "psi_threshold", "population stability index"],
  ["Jensen-Shannon", "js", null, "distance of the two distributions, 0 to 0.83"],
  ["Hellinger", "hellinger", null, "distance of the two distributions, 0 to 1"],
  ["Kolmogorov-Smirnov", "ks", "ks_threshold", "largest difference of the cumulated shares"],
  ["Wasserstein", "wasserstein", null, "in standard deviations of the reference"],
  ["Chi-square", "chi_square", "chi_square_threshold", "Pearson's statistic of two samples"],
];

/**
 * Returns the columns of a document: those that drift first, then those with the most evidence.
 * @param {Document} document
 * @returns {Column[]}
 */
export function columnsOf(document) {
  const sides = /** @type {[Column["side"], Document[]][]} */ ([
    ["input", document.features || []],
    ["output", document.outputs || []],
    ["joint", document.joint ? [document.joint] : []],
  ]);
  const columns = sides.flatMap(([side, items]) => items.map((item) => /** @type {Column} */ ({ ...item, side })));
  const rank = (/** @type {Column} */ column) => (column.state === "drift" ? 1 : 0);
  return columns.sort((one, other) => rank(other) - rank(one) || other.log_e - one.log_e);
}

/**
 * Returns the effect sizes of a column, each with what chance alone gives at most.
 * @param {Document} column
 * @returns {Effect[]}
 */
export function effectsOf(column) {
  return COLUMN_EFFECTS.filter(([, field]) => typeof column[field] === "number").map(([name, field, bound, hint]) => {
    const limit = bound && typeof column[bound] === "number" ? column[bound] : null;
    return { name, value: column[field], limit, exceeds: limit !== null && column[field] > limit, hint };
  });
}

/**
 * Returns the bins of a column with their shares in the window and in the reference.
 * @param {Document} column
 * @returns {Bin[]}
 */
export function binsOf(column) {
  const live = binShares(column.counts || []);
  const expected = binShares(column.reference_counts || []);
  return (column.bins || []).map((/** @type {string} */ bin, /** @type {number} */ index) => {
    const share = live[index] ?? 0;
    const reference = expected[index] ?? 0;
    return { bin, share, reference, change: share - reference, count: column.counts?.[index] ?? 0 };
  });
}

/**
 * Returns counts or shares as shares of their sum.
 * @param {number[]} counts
 */
export function binShares(counts) {
  const sum = counts.reduce((total, count) => total + count, 0);
  return counts.map((count) => (sum > 0 ? count / sum : 0));
}

/**
 * Returns the bins that moved most, such as "3..4 +4.2 %", or "" if none did.
 * @param {Document} column
 * @param {number} [most]
 */
export function movedText(column, most = 2) {
  const moved = (column.moved || []).filter((/** @type {Document} */ item) => Math.abs(item.change) >= 0.0005);
  return moved.slice(0, most).map((/** @type {Document} */ item) => `${item.bin} ${signedPercent(item.change)}`).join(", ");
}

/**
 * Returns a change of a share as signed percent.
 * @param {number} change
 */
export function signedPercent(change) {
  const percent = (change * 100).toFixed(1);
  const sign = Number(percent) === 0 ? "" : change > 0 ? "+" : "−";
  return `${sign}${percent.replace("-", "")} %`;
}

/**
 * Returns the slices of a document as rows.
 * @param {Document | null | undefined} slices by key and value
 * @returns {Document[]}
 */
export function sliceRows(slices) {
  return Object.entries(slices || {}).flatMap(([key, values]) =>
    Object.entries(/** @type {Document} */ (values)).map(([value, item]) => ({ key, value, ...item })),
  );
}

/**
 * Returns the realised and the estimated metrics of a performance document side by side.
 * @param {Document | null | undefined} performance
 * @returns {{name: string, windowed: number | null, overall: number | null, estimated: number | null}[]}
 */
export function metricRows(performance) {
  const [windowed, overall, estimated] = [performance?.windowed || {}, performance?.prequential || {}, performance?.estimated || {}];
  const known = Object.entries(estimated).filter(([name, value]) => typeof value === "number" && (name in windowed || name === "accuracy"));
  const names = new Set([...Object.keys(windowed), ...Object.keys(overall), ...known.map(([name]) => name)]);
  return [...names].map((name) => ({
    name,
    windowed: windowed[name] ?? null,
    overall: overall[name] ?? null,
    estimated: typeof estimated[name] === "number" ? estimated[name] : null,
  }));
}

/**
 * Returns the request for retraining that an alarm has caused: the first one of the same version whose evidence has the
 * column with the same onset. Events are stored in any order, so their numbers alone do not say what came first. Without
 * an onset it is the first request after the alarm that rests on what is like it.
 * @param {Document} alarm an entry of the time line
 * @param {Document[]} requests entries of the kind "retraining.requested.v1"
 * @returns {Document | null}
 */
export function retrainingOf(alarm, requests) {
  const ofVersion = requests.filter((request) => request.subject === alarm.subject).sort((one, other) => one.seq - other.seq);
  const certain = ofVersion.find((request) => hasOnset(request, alarm));
  return certain || ofVersion.find((request) => request.seq > alarm.seq && isAbout(request, alarm)) || null;
}

/**
 * Whether the evidence of a request has the column of an alarm with the onset of the alarm.
 * @param {Document} request
 * @param {Document} alarm
 */
function hasOnset(request, alarm) {
  const { name, since } = alarm.data || {};
  const features = conditionsIn(request).flatMap((condition) => (Array.isArray(condition.features) ? condition.features : []));
  return Boolean(since) && features.some((feature) => feature.name === name && feature.since === since);
}

/** @param {Document} request @returns {Document[]} */
function conditionsIn(request) {
  const conditions = request.data?.conditions;
  return Array.isArray(conditions) ? conditions : [];
}

/**
 * @param {Document} request
 * @param {Document} alarm
 */
function isAbout(request, alarm) {
  const statistics = conditionsIn(request).map((item) => String(item.statistic));
  if (alarm.kind.startsWith("drift")) return statistics.includes("e-SR");
  if (alarm.kind.startsWith("quality")) return statistics.some((name) => name.endsWith("ratio") || name === "violated");
  return true;
}

/**
 * Whether an alarm of the time line is about a column: it names the column, or a slice in which the column drifts.
 * @param {Document} alarm
 * @param {string} column
 */
export function isAboutColumn(alarm, column) {
  const data = alarm.data || {};
  if (data.name === column) return true;
  const columns = Array.isArray(data.columns) ? data.columns : [];
  return data.slice !== undefined && columns.some((/** @type {string} */ name) => name.startsWith(`${column} where `));
}

/**
 * Returns how far the evidence is on its way to an alarm, 0 to 1.
 * @param {number} log_e
 * @param {number | null | undefined} threshold
 */
export function progressOf(log_e, threshold) {
  return threshold ? Math.max(0, Math.min(1, log_e / threshold)) : 0;
}
