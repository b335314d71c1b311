// One rollout: how far it is, the evidence of each guard against its boundary over time, what is still needed, and who did what.

import { html } from "../lib/html.js";
import { ago, basisPoints, duration, number, time } from "../lib/format.js";
import { link, pathTo } from "../lib/router.js";
import { rolloutActions, effectText, isOpen, stepsOf, withNewest } from "../lib/rollouts.js";
import { useTrial } from "../lib/refresh.js";
import { EvidenceChart } from "../components/evidence-chart.js";
import { ErrorBox, Loading } from "../components/notes.js";
import { State } from "../components/state.js";
import { Actions, TrialHistory } from "../components/trial-parts.js";

/** @param {{params: Record<string, string>}} props */
function RolloutPage({ params }) {
  const { model = "", id = "" } = params;
  const { trial: rollout, whole, path, error, again } = useTrial(model, "rollouts", id);
  if (!rollout) return error ? html`<${ErrorBox} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`<${RolloutSummary} model=${model} rollout=${rollout} />
    <${Actions} model=${model} path=${path} actions=${rolloutActions(rollout)} what="version ${rollout.to} of ${model}" onDone=${again} />
    <${RolloutProgress} rollout=${rollout} />
    <${GuardCards} rollout=${rollout} history=${withNewest(whole.evidence_history, rollout, Date.now() / 1000)} />
    <${TrialHistory} changes=${whole.changes} />`;
}

/** @param {{model: string, rollout: any}} props */
function RolloutSummary({ model, rollout }) {
  const start = rollout.changes?.find((/** @type {any} */ change) => change.action === "start");
  return html`<section class="card" aria-label="State">
    <div class="row between"><div class="row"><${State} value=${rollout.state} /> <strong>version ${rollout.from} → ${rollout.to}</strong> at ${basisPoints(rollout.weight)}${rollout.dry_run ? " (dry run: no traffic is changed)" : ""}</div>
      <a href=${link(pathTo("models", model, "traffic"))}>Traffic</a></div>
    <ol class="steps" aria-label="Steps">${stepsOf(rollout).map((step) => html`<li key=${step.title} class=${step.state.replace(" ", "-")} aria-current=${step.state === "now" ? "step" : undefined}>
      ${step.title} <span class="small">${basisPoints(step.weight)}</span> <span class="hidden">${step.state}</span></li>`)}</ol>
    <p>${rollout.reason || "–"}</p>
    <p class="small muted">Began ${time(rollout.created_at)} (${ago(rollout.created_at)}) by ${rollout.created_by}${start?.reason ? html`: “${start.reason}”` : ""}.</p>
    ${(rollout.warnings || []).map((/** @type {string} */ text) => html`<p class="note warn" key=${text}>${text}</p>`)}
    ${rollout.problem && html`<p class="note bad">${rollout.problem}</p>`}
  </section>`;
}

/** @param {{rollout: any}} props */
function RolloutProgress({ rollout }) {
  if (!isOpen(rollout)) return null;
  return html`<section aria-label="What is still needed"><h2>What is still needed</h2>
    <ul>${rollout.progress.map((/** @type {string} */ text) => html`<li key=${text}>${text}</li>`)}</ul>
    <p class="small muted">${requestsText(rollout)} ${splitText(rollout.sample_ratio)}</p>
  </section>`;
}

/** @param {any} rollout */
function requestsText(rollout) {
  if (rollout.needed === null) return "How many more requests it takes is not known yet.";
  if (!rollout.needed) return "The guards need no more requests now.";
  const long = rollout.needed_seconds === null ? "" : `, ${duration(rollout.needed_seconds)} at the rate of this step`;
  return `The guards need about ${number(rollout.needed)} more canary requests${long}.`;
}

/** @param {any} ratio */
function splitText(ratio) {
  const sound = ratio.verdict === "sound" ? "The split is sound" : "The split is not as stated";
  return `${sound}: ${number(ratio.n_canary)} canary and ${number(ratio.n_control)} control requests at this step.`;
}

/** @param {{rollout: any, history: any}} props */
function GuardCards({ rollout, history }) {
  return html`<section aria-label="Guards"><h2>Guards</h2><div class="grid">${Object.entries(rollout.evidence).map(([name, evidence]) => html`<${Guard} key=${name} name=${name} evidence=${evidence} history=${history} />`)}</div></section>`;
}

/** @param {{name: string, evidence: any, history: any}} props */
function Guard({ name, evidence, history }) {
  const series = history.guards[name];
  return html`<article class="card"><div class="row between"><h3>${name}</h3><${State} value=${evidence.verdict} /></div>
    ${series && evidence.metric !== "promql" && html`<${EvidenceChart} name=${name} at=${history.at} steps=${history.step} series=${series} evidence=${evidence} />`}
    <dl class="facts"><dt>Effect</dt><dd>${effectText(evidence.metric, evidence.effect)}</dd>
      <dt>Limit</dt><dd>${limitText(evidence)}</dd>
      <dt>Seen</dt><dd>${number(evidence.n_canary)} canary, ${number(evidence.n_control)} control</dd>
      <dt>Needs</dt><dd>${neededText(evidence)}</dd></dl></article>`;
}

const LIMITS = ["max_increase", "max_ratio", "max", "max_ms", "min", "query"];

/** @param {any} evidence */
function limitText(evidence) {
  return LIMITS.filter((name) => evidence[name] !== undefined).map((name) => `${name.replaceAll("_", " ")} ${evidence[name]}`).join(", ") || "–";
}

/** @param {any} evidence */
function neededText(evidence) {
  if (evidence.verdict !== "undecided") return "nothing more";
  return evidence.needed === null ? "not known yet" : `about ${number(evidence.needed)} more canary requests`;
}

/** @type {import("../app.js").View} */
export const rolloutView = { title: (params) => `${params.model}: rollout ${params.id}`, component: RolloutPage };
