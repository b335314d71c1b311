// Lays out evidence over time as lines of a drawing: no elements here, only numbers and texts.

/** @typedef {{name: string, values: (number | null)[], boundary: number | null}} Series `boundary` is where it decides */
/** @typedef {{x: number, text: string}} Label */
/** @typedef {{points: string, boundary: number | null, name: string, last: number | null}} Line */
/** @typedef {{lines: Line[], times: Label[], steps: Label[], zero: number, left: number, right: number, top: number, bottom: number}} Layout */

const LEAST_TOP = 1;
const LOWEST = -2;
const CAP = 1.6;

/**
 * Returns the lines of series over common times, with the begin of each step. Values below -2, or far above the highest
 * boundary, are drawn at the edge: how far they lie beyond it decides nothing.
 * @param {number[]} at seconds since the epoch, ascending
 * @param {Series[]} series
 * @param {number[]} steps the step at each time
 * @param {{width: number, height: number}} size
 * @returns {Layout}
 */
export function layOut(at, series, steps, { width, height }) {
  const [left, right, top, bottom] = [4, width - 4, 8, height - 18];
  const first = at[0] ?? 0;
  const range = Math.max(1e-9, (at[at.length - 1] ?? 0) - first);
  const known = series.flatMap((item) => [...item.values, item.boundary]).filter((value) => value !== null);
  const cap = Math.max(0, ...series.map((item) => item.boundary ?? 0)) * CAP || Infinity;
  const most = Math.min(cap, Math.max(LEAST_TOP, .../** @type {number[]} */ (known)) * 1.08);
  const least = Math.min(0, Math.max(LOWEST, Math.min(0, .../** @type {number[]} */ (known))));
  const x = (/** @type {number} */ time) => left + ((time - first) / range) * (right - left);
  const y = (/** @type {number} */ value) => bottom - ((Math.min(most, Math.max(least, value)) - least) / (most - least)) * (bottom - top);
  return {
    lines: series.map((item) => lineOf(item, at, x, y)),
    times: timesOf(first, range, x),
    steps: stepMarks(at, steps, x),
    zero: roundPoint(y(0)),
    left,
    right,
    top,
    bottom,
  };
}

/**
 * @param {Series} series
 * @param {number[]} at
 * @param {(time: number) => number} x
 * @param {(value: number) => number} y
 * @returns {Line}
 */
function lineOf(series, at, x, y) {
  const drawn = series.values.flatMap((value, index) => (value === null ? [] : [`${roundPoint(x(at[index] ?? 0))},${roundPoint(y(value))}`]));
  const last = series.values[series.values.length - 1] ?? null;
  return { name: series.name, points: drawn.join(" "), boundary: series.boundary === null ? null : roundPoint(y(series.boundary)), last };
}

/**
 * @param {number[]} at
 * @param {number[]} steps
 * @param {(time: number) => number} x
 * @returns {Label[]}
 */
function stepMarks(at, steps, x) {
  return at.flatMap((time, index) => (index && steps[index] !== steps[index - 1] ? [{ x: roundPoint(x(time)), text: `step ${(steps[index] ?? 0) + 1}` }] : []));
}

/**
 * Returns the beginning and the end of the time axis as times since the beginning.
 * @param {number} first
 * @param {number} range
 * @param {(time: number) => number} x
 * @returns {Label[]}
 */
function timesOf(first, range, x) {
  return [0, range / 2, range].map((passed) => ({ x: roundPoint(x(first + passed)), text: passedText(passed) }));
}

/** @param {number} seconds */
export function passedText(seconds) {
  if (seconds < 10) return `${roundPoint(seconds)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${(seconds / 86400).toFixed(1)} d`;
}

/** @param {number} value */
function roundPoint(value) {
  return Math.round(value * 10) / 10;
}

/**
 * Says in one sentence how the evidence of a guard stands, for whoever cannot see the drawing.
 * @param {string} name
 * @param {Record<string, any>} evidence of a guard in the admin API
 */
export function describeEvidence(name, evidence) {
  const against = `evidence against it ${evidence.log_e} of ${evidence.log_e_fail_at}`;
  return `${name}: ${evidence.verdict}; ${against}, for it ${evidence.log_e_pass} of ${evidence.log_e_pass_at}`;
}
