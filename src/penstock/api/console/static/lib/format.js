// Numbers, times and sizes as people read them; null and undefined become a dash.

const NONE = "–";
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];
const STEPS = /** @type {const} */ ([
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
]);

/**
 * @param {unknown} value
 * @returns {value is number}
 */
function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/**
 * Returns a number with about three digits, and groups of thousands.
 * @param {number | null | undefined} value
 * @param {number} [digits] significant digits below 1000
 */
export function number(value, digits = 3) {
  if (!isNumber(value)) return NONE;
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential(1);
  const options = Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits };
  return value.toLocaleString("en", options);
}

/**
 * Returns a difference with its sign.
 * @param {number | null} value
 */
export function signed(value) {
  return `${(value ?? 0) > 0 ? "+" : ""}${number(value, 4)}`;
}

/**
 * Returns a rate, such as "12.5/s".
 * @param {number | null | undefined} value
 */
export function rate(value) {
  return isNumber(value) ? `${number(value)}/s` : NONE;
}

/**
 * Returns a ratio as percent.
 * @param {number | null | undefined} ratio
 */
export function percent(ratio) {
  return isNumber(ratio) ? `${number(ratio * 100)} %` : NONE;
}

/**
 * Returns a share in basis points (10000 is all) as percent.
 * @param {number | null | undefined} share
 */
export function basisPoints(share) {
  return isNumber(share) ? `${(share / 100).toLocaleString("en", { maximumFractionDigits: 2 })} %` : NONE;
}

/**
 * Returns milliseconds, such as "4.2 ms", "240 µs" or "1.5 s".
 * @param {number | null | undefined} value
 */
export function milliseconds(value) {
  if (!isNumber(value)) return NONE;
  if (value > 0 && value < 1) return `${number(value * 1000)} µs`;
  return value >= 1000 ? `${number(value / 1000)} s` : `${number(value)} ms`;
}

/**
 * Returns seconds, such as "3 h 20 min" or "0.4 s".
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  if (seconds < 10) return `${number(seconds, 2)} s`;
  const at = STEPS.findIndex(([, size]) => seconds >= size);
  const [unit, size] = STEPS[at] || STEPS[3];
  const smaller = STEPS[at + 1];
  const whole = Math.floor(seconds / size);
  const rest = smaller ? Math.floor((seconds - whole * size) / smaller[1]) : 0;
  return rest && smaller ? `${whole} ${unit} ${rest} ${smaller[0]}` : `${whole} ${unit}`;
}

/**
 * Returns a number of bytes, such as "3.1 MiB".
 * @param {number | null | undefined} value
 */
export function bytes(value) {
  if (!isNumber(value)) return NONE;
  const power = Math.min(UNITS.length - 1, value > 0 ? Math.floor(Math.log2(value) / 10) : 0);
  return `${number(value / 1024 ** power)} ${UNITS[power]}`;
}

/**
 * Returns the milliseconds since the epoch of a time: an ISO 8601 text, or a number of seconds since the epoch.
 * @param {string | number | null | undefined} at
 */
function millisecondsOf(at) {
  if (at === null || at === undefined || at === "") return NaN;
  return typeof at === "number" ? at * 1000 : Date.parse(at);
}

/**
 * Returns how long ago a time is, such as "5 min ago".
 * @param {string | number | null | undefined} at an ISO 8601 text, or seconds since the epoch
 * @param {number} [now] milliseconds since the epoch
 */
export function ago(at, now = Date.now()) {
  const passed = (now - millisecondsOf(at)) / 1000;
  if (!Number.isFinite(passed)) return NONE;
  if (passed < 0) return `in ${duration(-passed)}`;
  return passed < 5 ? "now" : `${duration(passed)} ago`;
}

/**
 * Returns a time in the browser's zone, such as "2026-11-30 10:04:12".
 * @param {string | number | null | undefined} at an ISO 8601 text, or seconds since the epoch
 */
export function time(at) {
  const value = millisecondsOf(at);
  if (!Number.isFinite(value)) return NONE;
  const local = new Date(value - new Date(value).getTimezoneOffset() * 60000);
  return local.toISOString().slice(0, 19).replace("T", " ");
}
