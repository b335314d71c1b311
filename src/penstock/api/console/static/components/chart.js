// A chart of series over time: one axis of values, one of time, lines such as the boundary of a test, and moments.

import { html } from "../lib/html.js";
import { number, time } from "../lib/format.js";
import { linesOf } from "./sparkline.js";

/** @typedef {{name: string, values: (number | null)[]}} Series */
/** @typedef {{name: string, value: number, of?: number}} Level a line across the chart, in the colour of the series `of` */
/** @typedef {{name: string, at: number}} Moment a line down the chart; one outside of the chart is left out */

const CHART_WIDTH = 600;
const CHART_HEIGHT = 160;
const CHART_STEPS = 4;
const LINE_COLOURS = 6;

/** A line breaks where so many times the usual distance of points has passed without one. */
const CHART_GAP = 4;

/**
 * Shows series over the same times.
 * @param {{at: number[], series: Series[], levels?: Level[], moments?: Moment[], label: string,
 *     format?: (value: number) => string}} props `at` are seconds since the epoch: one for each value, or the first and the
 *     last of values at equal distances
 */
export function Chart({ at, series, levels = [], moments = [], label, format = number }) {
  const { low, high, step } = scaleOf(...rangeOf(series, levels));
  const [start, end] = /** @type {[number, number]} */ ([at[0], at.at(-1)]);
  const down = (/** @type {number} */ value) => CHART_HEIGHT - ((value - low) / (high - low)) * CHART_HEIGHT;
  const across = (/** @type {number} */ moment) => ((moment - start) / (end - start || 1)) * CHART_WIDTH;
  const marks = Array.from({ length: Math.round((high - low) / step) + 1 }, (_, index) => low + step * index);
  const shown = moments.filter((moment) => moment.at >= start && moment.at <= end);
  return html`<figure class="chart">
    <div class="plot">
      <div class="scale small muted" aria-hidden="true">${[...marks].reverse().map((value) => html`<span>${format(value)}</span>`)}</div>
      <svg viewBox="0 0 ${CHART_WIDTH} ${CHART_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${label}: ${describeChart(series, levels, format)}">
        ${marks.map((value) => html`<${StraightLine} class="grid-line" x=${[0, CHART_WIDTH]} y=${[down(value), down(value)]} />`)}
        ${levels.map((level) => html`<${StraightLine} class=${levelClass(level)} x=${[0, CHART_WIDTH]} y=${[down(level.value), down(level.value)]} title=${level.name} />`)}
        ${shown.map((moment) => html`<${StraightLine} class="moment" x=${[across(moment.at), across(moment.at)]} y=${[0, CHART_HEIGHT]} title=${moment.name} />`)}
        ${series.map((item, index) => linesOf(item.values, placesOf(item.values.length, at, across), down, gapsOf(at)).map((points) => html`<polyline class=${lineClass(index)} points=${points} vector-effect="non-scaling-stroke"><title>${item.name}</title></polyline>`))}
      </svg>
    </div>
    <div class="row between small muted"><time>${time(start)}</time><time>${time(end)}</time></div>
    <figcaption class="row small">${series.map((item, index) => html`<${Legend} class=${lineClass(index)} text=${item.name} />`)}
      ${levels.map((level) => html`<${Legend} class=${levelClass(level)} text="${level.name} ${format(level.value)}" />`)}
      ${shown.map((moment) => html`<span>┊ ${moment.name}</span>`)}</figcaption>
  </figure>`;
}

/** A straight line. @param {{class: string, x: number[], y: number[], title?: string}} props */
function StraightLine({ class: name, x, y, title }) {
  return html`<line class=${name} x1=${x[0]} x2=${x[1]} y1=${y[0]} y2=${y[1]} vector-effect="non-scaling-stroke"><title>${title}</title></line>`;
}

/** @param {{class: string, text: string}} props */
function Legend({ class: name, text }) {
  return html`<span><svg class="swatch" viewBox="0 0 10 10" aria-hidden="true"><line class=${name} x2="10" y1="5" y2="5" /></svg> ${text}</span>`;
}

/** @param {number} index */
function lineClass(index) {
  return `line-${(index % LINE_COLOURS) + 1}`;
}

/** @param {Level} level */
function levelClass({ of }) {
  return `level ${of === undefined ? "" : lineClass(of)}`;
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
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low === high ? [low, low + 1] : [low, high];
}

/**
 * Returns an axis that ends at round values, and the distance of its marks.
 * @param {number} low
 * @param {number} high
 */
export function scaleOf(low, high) {
  const least = (high - low) / CHART_STEPS;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = ([1, 2, 5].find((factor) => factor * power >= least) ?? 10) * power;
  return { low: Math.floor(low / step) * step, high: Math.ceil(high / step) * step, step };
}

/**
 * Returns whether a gap is before a point: nothing was measured meanwhile, as while a gateway does not run.
 * @param {number[]} at
 * @returns {(index: number) => boolean}
 */
export function gapsOf(at) {
  const distances = at.slice(1).map((moment, index) => moment - (at[index] ?? 0));
  const usual = [...distances].sort((one, other) => one - other)[distances.length >> 1] ?? 0;
  return (index) => (distances[index - 1] ?? 0) > CHART_GAP * usual;
}

/**
 * Returns where the values of a series stand on the axis of time.
 * @param {number} count
 * @param {number[]} at
 * @param {(moment: number) => number} across
 * @returns {(index: number) => number}
 */
function placesOf(count, at, across) {
  return (index) => (at.length === count ? across(at[index] ?? 0) : (index * CHART_WIDTH) / (count - 1 || 1));
}

/**
 * @param {Series[]} series
 * @param {Level[]} levels
 * @param {(value: number) => string} format
 */
function describeChart(series, levels, format) {
  const newest = series.map((item) => {
    const value = item.values.findLast((one) => one !== null);
    return `${item.name} now ${value === undefined || value === null ? "unknown" : format(value)}`;
  });
  return [...newest, ...levels.map((level) => `${level.name} at ${format(level.value)}`)].join(", ");
}
