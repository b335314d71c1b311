// A chart of series over time: one axis of values, one of time, and lines such as the boundary of a test.

import { html } from "../lib/html.js";
import { number, time } from "../lib/format.js";

/** @typedef {{name: string, values: (number | null)[]}} Series */
/** @typedef {{name: string, value: number}} Level a horizontal line across the chart */
/** @typedef {{name: string, share: number}} Moment a vertical line, at this share of the time */

const CHART_WIDTH = 600;
const CHART_HEIGHT = 160;
const CHART_STEPS = 4;
const LINE_COLOURS = 6;

/**
 * Shows series over the same times.
 * @param {{at: (number | string)[], series: Series[], levels?: Level[], moment?: Moment | null, label: string, unit?: string,
 *     format?: (value: number) => string}} props `at` are seconds since the epoch or ISO 8601 texts, one for each value
 */
export function Chart({ at, series, levels = [], moment, label, unit = "", format = number }) {
  const [low, high] = rangeOf(series, levels);
  const scale = (/** @type {number} */ value) => CHART_HEIGHT - ((value - low) / (high - low)) * CHART_HEIGHT;
  const marks = Array.from({ length: CHART_STEPS + 1 }, (_, index) => low + ((high - low) * index) / CHART_STEPS);
  return html`<figure class="chart">
    <div class="plot">
      <div class="scale small muted" aria-hidden="true">${[...marks].reverse().map((value) => html`<span>${format(value)}${unit}</span>`)}</div>
      <svg viewBox="0 0 ${CHART_WIDTH} ${CHART_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${label}: ${describeChart(series, levels, format, unit)}">
        ${marks.map((value) => html`<line class="grid-line" x1="0" x2=${CHART_WIDTH} y1=${scale(value)} y2=${scale(value)} vector-effect="non-scaling-stroke" />`)}
        ${levels.map((level) => html`<line class="level" x1="0" x2=${CHART_WIDTH} y1=${scale(level.value)} y2=${scale(level.value)} vector-effect="non-scaling-stroke"><title>${level.name}</title></line>`)}
        ${moment && html`<line class="level" x1=${moment.share * CHART_WIDTH} x2=${moment.share * CHART_WIDTH} y1="0" y2=${CHART_HEIGHT} vector-effect="non-scaling-stroke"><title>${moment.name}</title></line>`}
        ${series.map((item, index) => pathsOf(item.values, scale).map((path) => html`<path class="line-${(index % LINE_COLOURS) + 1}" d=${path} vector-effect="non-scaling-stroke"><title>${item.name}</title></path>`))}
      </svg>
    </div>
    <div class="row between small muted"><time>${time(at[0])}</time><time>${time(at[at.length - 1])}</time></div>
    <figcaption class="row small">${series.map((item, index) => html`<span key=${item.name}><svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><rect width="10" height="10" class="series-${(index % LINE_COLOURS) + 1}" /></svg> ${item.name}</span>`)}
      ${moment && html`<span>┊ ${moment.name}</span>`}
      ${levels.map((level) => html`<span key=${level.name}><svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><line class="level" x1="0" x2="10" y1="5" y2="5" /></svg> ${level.name} ${format(level.value)}${unit}</span>`)}</figcaption>
  </figure>`;
}

/**
 * Returns the lowest and highest value of the axis; it holds zero and all levels.
 * @param {Series[]} series
 * @param {Level[]} levels
 * @returns {[number, number]}
 */
export function rangeOf(series, levels) {
  const known = series.flatMap((item) => item.values).filter((value) => value !== null && Number.isFinite(value));
  const values = [0, .../** @type {number[]} */ (known), ...levels.map((level) => level.value)];
  const low = values.reduce((least, value) => Math.min(least, value));
  const high = values.reduce((most, value) => Math.max(most, value));
  return low === high ? [low, low + 1] : [low, high];
}

/**
 * Returns the paths of a series: one for each part without a gap.
 * @param {(number | null)[]} values
 * @param {(value: number) => number} scale
 * @returns {string[]}
 */
export function pathsOf(values, scale) {
  /** @type {string[]} */
  const paths = [];
  let open = "";
  values.forEach((value, index) => {
    if (value === null || !Number.isFinite(value)) {
      if (open) paths.push(open);
      open = "";
      return;
    }
    const x = values.length > 1 ? (index * CHART_WIDTH) / (values.length - 1) : CHART_WIDTH / 2;
    open += `${open ? "L" : "M"}${x.toFixed(1)} ${scale(value).toFixed(1)}`;
  });
  return open ? [...paths, open] : paths;
}

/**
 * @param {Series[]} series
 * @param {Level[]} levels
 * @param {(value: number) => string} format
 * @param {string} unit
 */
function describeChart(series, levels, format, unit) {
  const newest = series.map((item) => {
    const value = item.values.findLast((one) => one !== null);
    return `${item.name} now ${value === undefined || value === null ? "unknown" : `${format(value)}${unit}`}`;
  });
  return [...newest, ...levels.map((level) => `${level.name} at ${format(level.value)}${unit}`)].join(", ");
}
