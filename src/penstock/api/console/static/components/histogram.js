// The distribution of a column: what came as bars, the reference as an outline over them.

import { html } from "../lib/html.js";
import { binShares } from "../lib/evidence.js";
import { number, percent } from "../lib/format.js";

const HISTOGRAM_HEIGHT = 100;

/**
 * Shows two distributions over the same bins as shares of their sums, and their largest difference as text.
 * @param {{counts: number[], reference?: number[] | null, names?: string[], label: string}} props `names` are those of
 *     the bins; `reference` may be counts or shares
 */
export function Histogram({ counts, reference, names = [], label }) {
  const live = binShares(counts);
  const expected = reference?.length ? binShares(reference) : null;
  const top = Math.max(...live, ...(expected || []), 1e-9);
  const heights = live.map((share) => (share / top) * HISTOGRAM_HEIGHT);
  return html`<figure class="histogram">
    <svg viewBox="0 0 ${live.length} ${HISTOGRAM_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="${label}: ${describeHistogram(live, expected, names)}">
      ${heights.map((height, index) => html`<rect class="bar-live" x=${index + 0.08} width="0.84" y=${HISTOGRAM_HEIGHT - height} height=${height}>
          <title>${nameOf(names, index)}: ${percent(live[index])}${expected ? `, reference ${percent(expected[index])}` : ""}</title>
        </rect>`)}
      ${expected && html`<path class="outline" d=${outlineOf(expected, top)} vector-effect="non-scaling-stroke" />`}
    </svg>
  </figure>`;
}

/**
 * @param {string[]} names
 * @param {number} index
 */
function nameOf(names, index) {
  return names[index] ?? `bin ${index + 1}`;
}

/**
 * Returns the path of a step line over bins of width 1.
 * @param {number[]} shares
 * @param {number} top
 */
export function outlineOf(shares, top) {
  const steps = shares.map((share, index) => {
    const y = (HISTOGRAM_HEIGHT - (share / top) * HISTOGRAM_HEIGHT).toFixed(2);
    return `${index ? "L" : "M"}${index} ${y}L${index + 1} ${y}`;
  });
  return steps.join("");
}

/**
 * @param {number[]} live
 * @param {number[] | null} expected
 * @param {string[]} names
 */
function describeHistogram(live, expected, names) {
  if (!expected) return `${number(live.length)} bins`;
  const moves = live.map((share, index) => share - (expected[index] ?? 0));
  const at = moves.reduce((best, move, index) => (Math.abs(move) > Math.abs(moves[best] ?? 0) ? index : best), 0);
  return `largest move in ${nameOf(names, at)}, from ${percent(expected[at])} to ${percent(live[at])}`;
}
