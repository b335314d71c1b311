// A small line of a time series, with its newest value as text for whoever cannot see it.

import { html } from "../lib/html.js";

const SPARK_WIDTH = 100;
const SPARK_HEIGHT = 24;

/**
 * Returns the points of a polyline; values that are null break it.
 * @param {(number | null)[]} values
 * @param {number} top the value at the upper edge
 * @returns {string[]} the points of each unbroken part
 */
export function sparkLines(values, top) {
  /** @type {string[][]} */
  const lines = [[]];
  values.forEach((value, index) => {
    if (value === null || !Number.isFinite(value)) lines.push([]);
    else lines[lines.length - 1]?.push(pointOf(value, index, values.length, top));
  });
  return lines.filter((points) => points.length > 1).map((points) => points.join(" "));
}

/**
 * @param {number} value
 * @param {number} index
 * @param {number} count
 * @param {number} top
 */
function pointOf(value, index, count, top) {
  const x = count > 1 ? (index * SPARK_WIDTH) / (count - 1) : 0;
  const y = SPARK_HEIGHT - 1 - (Math.min(value, top) / (top || 1)) * (SPARK_HEIGHT - 2);
  return `${x.toFixed(1)},${y.toFixed(1)}`;
}

/**
 * Shows series over each other on one scale from zero, the first one strongest.
 * @param {{series: (number | null)[][], label: string}} props
 */
export function Sparkline({ series, label }) {
  const known = series.flat().filter((value) => value !== null && Number.isFinite(value));
  const top = Math.max(0, .../** @type {number[]} */ (known));
  return html`<svg class="spark" viewBox="0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${label}>
    ${series.map((values, index) =>
      sparkLines(values, top).map((points) => html`<polyline points=${points} class="line-${index + 1}" vector-effect="non-scaling-stroke" />`),
    )}
  </svg>`;
}
