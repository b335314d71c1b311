// A small line of a time series, and the lines of values for larger drawings.

import { html } from "../lib/html.js";

const SPARK_WIDTH = 100;
const SPARK_HEIGHT = 24;

/**
 * Returns the points of polylines for values, which break where a value is null or after a gap; one point alone is a dot.
 * @param {(number | null)[]} values
 * @param {(index: number) => number} across where a value stands from the left
 * @param {(value: number) => number} down where it stands from above
 * @param {(index: number) => boolean} [isAfterGap]
 * @returns {string[]} the points of each unbroken part
 */
export function linesOf(values, across, down, isAfterGap) {
  /** @type {string[][]} */
  const lines = [[]];
  values.forEach((value, index) => {
    const isMissing = value === null || !Number.isFinite(value);
    if (isMissing || isAfterGap?.(index)) lines.push([]);
    if (!isMissing) lines.at(-1)?.push(`${across(index).toFixed(1)},${down(value).toFixed(1)}`);
  });
  return lines.filter((points) => points.length).map((points) => (points[1] ? points : [...points, ...points]).join(" "));
}

/**
 * Shows series over each other on one scale from zero, the first one strongest.
 * @param {{series: (number | null)[][], label: string}} props
 */
export function Sparkline({ series, label }) {
  const known = series.flat().filter((value) => value !== null && Number.isFinite(value));
  const top = Math.max(0, .../** @type {number[]} */ (known)) || 1;
  const down = (/** @type {number} */ value) => SPARK_HEIGHT - 1 - (value / top) * (SPARK_HEIGHT - 2);
  return html`<svg class="spark" viewBox="0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}" preserveAspectRatio="none" role="img" aria-label=${label}>
    ${series.map((values, index) =>
      linesOf(values, (at) => (at * SPARK_WIDTH) / (values.length - 1 || 1), down).map((points) => html`<polyline points=${points} class="line-${index + 1}" vector-effect="non-scaling-stroke" />`),
    )}
  </svg>`;
}
