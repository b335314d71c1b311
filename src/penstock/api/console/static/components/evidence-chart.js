// The evidence of one guard over time against the boundaries that decide: against the canary, and for it.

import { html } from "../lib/html.js";
import { number } from "../lib/format.js";
import { Chart } from "./chart.js";

/** Evidence below it, or so many times above the highest boundary, is drawn at the edge: how far beyond decides nothing. */
const LOWEST = -2;
const CAP = 1.6;

/** @typedef {{log_e: number[], log_e_pass: (number | null)[]}} GuardSeries */

/**
 * Draws evidence; the same numbers stand as text below.
 * @param {{name: string, at: number[], steps: number[], series: GuardSeries, evidence: any}} props
 */
export function EvidenceChart({ name, at, steps, series, evidence }) {
  if (at.length < 2) return html`<p class="small muted">There is no line yet: the first points come with the next requests.</p>`;
  const { log_e, log_e_pass, log_e_fail_at: fails, log_e_pass_at: passes } = evidence;
  const within = (/** @type {(number | null)[]} */ values) => drawnEvidence(values, fails, passes);
  return html`<${Chart} label="${name}: ${evidence.verdict}" at=${at} moments=${stepMoments(at, steps)}
      series=${[{ name: "against it", values: within(series.log_e) }, { name: "for it", values: within(series.log_e_pass) }]}
      levels=${[{ name: "rolls back at", value: fails, of: 0 }, { name: "passes at", value: passes, of: 1 }].filter((level) => typeof level.value === "number")} />
    <p class="small muted">Log e-values: ${number(log_e)} against it, ${number(log_e_pass)} for it. Boundaries are dashed; far above them a line stays at the edge.</p>`;
}

/**
 * Returns evidence as it is drawn.
 * @param {(number | null)[]} values
 * @param {...(number | null | undefined)} boundaries
 */
export function drawnEvidence(values, ...boundaries) {
  const most = Math.max(0, ...boundaries.map((value) => value ?? 0)) * CAP || Infinity;
  return values.map((value) => (value === null ? null : Math.min(most, Math.max(LOWEST, value))));
}

/**
 * Returns the moments at which steps begin.
 * @param {number[]} at
 * @param {number[]} steps the step at each time
 */
export function stepMoments(at, steps) {
  return at.flatMap((moment, index) => (index && steps[index] !== steps[index - 1] ? [{ at: moment, name: `step ${(steps[index] ?? 0) + 1}` }] : []));
}
