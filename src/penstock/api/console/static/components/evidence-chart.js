// The evidence of one guard over time against the boundaries that decide: against the canary, and for it.

import { html } from "../lib/html.js";
import { number } from "../lib/format.js";
import { describeEvidence, layOut } from "../lib/evidence-lines.js";

const SIZE = { width: 400, height: 160 };

/** Whether a text that begins there would leave the drawing. @param {number} x */
const isRight = (x) => x > SIZE.width * 0.85;

/**
 * Draws evidence; the same numbers stand as text below.
 * @param {{name: string, at: number[], steps: number[], series: {log_e: number[], log_e_pass: (number | null)[]}, evidence: any}} props
 */
export function EvidenceChart({ name, at, steps, series, evidence }) {
  if (at.length < 2) return html`<p class="small muted">There is no line yet: the first points come with the next requests.</p>`;
  const drawn = layOut(at, [
    { name: "against it", values: series.log_e, boundary: evidence.log_e_fail_at },
    { name: "for it", values: series.log_e_pass, boundary: evidence.log_e_pass_at },
  ], steps, SIZE);
  return html`<figure class="evidence">
    <svg viewBox="0 0 ${SIZE.width} ${SIZE.height}" role="img" aria-label=${describeEvidence(name, evidence)}>
      <line class="zero" x1=${drawn.left} x2=${drawn.right} y1=${drawn.zero} y2=${drawn.zero} />
      ${drawn.steps.map((step) => html`<g key=${step.x}><line class="step" x1=${step.x} x2=${step.x} y1=${drawn.top} y2=${drawn.bottom} /><text x=${step.x + (isRight(step.x) ? -3 : 3)} y=${drawn.top + 8} text-anchor=${isRight(step.x) ? "end" : "start"}>${step.text}</text></g>`)}
      ${drawn.lines.map((line, index) => html`<g key=${line.name} class=${index ? "passing" : "against"}>
        ${line.boundary !== null && html`<line class="boundary" x1=${drawn.left} x2=${drawn.right} y1=${line.boundary} y2=${line.boundary} />`}
        <polyline points=${line.points} /></g>`)}
      ${drawn.times.map((label, index) => html`<text key=${label.x} x=${label.x} y=${SIZE.height - 4} text-anchor=${["start", "middle", "end"][index]}>${label.text}</text>`)}
    </svg>
    <figcaption class="small"><span class="against"><svg viewBox="0 0 20 6" aria-hidden="true"><polyline points="0,3 20,3" /></svg> against it ${number(evidence.log_e)}, rolls back at ${number(evidence.log_e_fail_at)}</span>
      <span class="passing"><svg viewBox="0 0 20 6" aria-hidden="true"><polyline points="0,3 20,3" /></svg> for it ${number(evidence.log_e_pass)}, passes at ${number(evidence.log_e_pass_at)}</span>
      <span class="muted">log e-values; boundaries are dashed; far above them the line stays at the edge</span></figcaption>
  </figure>`;
}
