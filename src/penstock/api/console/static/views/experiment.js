// One experiment: its arms with rewards and confidence sequences, the best arm once it is known, and who did what.

import { html } from "../lib/html.js";
import { ago, basisPoints, number, time } from "../lib/format.js";
import { experimentActions, armsOf } from "../lib/experiments.js";
import { useTrial } from "../lib/refresh.js";
import { Bar } from "../components/bar.js";
import { ErrorBox, Loading } from "../components/notes.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";
import { Actions, TrialHistory } from "../components/trial-parts.js";

/** @typedef {import("../lib/experiments.js").Arm} Arm */

/** @param {{params: Record<string, string>}} props */
function ExperimentPage({ params }) {
  const { model = "", id = "" } = params;
  const { trial: experiment, whole, path, error, again } = useTrial(model, "experiments", id);
  if (!experiment) return error ? html`<${ErrorBox} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`<${ExperimentSummary} experiment=${experiment} />
    <${Actions} model=${model} path=${path} actions=${experimentActions(experiment)} what="experiment of ${model}" onDone=${again} />
    <h2>Arms</h2><${Arms} experiment=${experiment} />
    <${TrialHistory} changes=${whole.changes} />`;
}

/** @param {{experiment: any}} props */
function ExperimentSummary({ experiment }) {
  const start = experiment.changes?.find((/** @type {any} */ change) => change.action === "start");
  const parts = armsOf(experiment).map((arm) => ({ name: arm.arm, share: arm.weight }));
  return html`<section class="card" aria-label="State">
    <div class="row"><${State} value=${experiment.state} /> <strong>${experiment.best === null ? "no arm is known to be the best yet" : `version ${experiment.best} is the best`}</strong></div>
    <${Bar} parts=${parts} label="Weights" />
    <p>${experiment.mode === "fixed" ? "The weights stay as stated." : `Weights follow the rewards, no arm gets less than ${basisPoints(experiment.floor)}.`}
      ${experiment.sticky ? ` Callers stay with their arm by ${experiment.sticky.replace(/^header:/, "header ")}.` : " Each request is drawn anew."}</p>
    ${experiment.reason && html`<p>${experiment.reason}</p>`}
    <p class="small muted">Began ${time(experiment.created_at)} (${ago(experiment.created_at)}) by ${experiment.created_by}${start?.reason ? html`: “${start.reason}”` : ""}.</p>
    ${experiment.problem && html`<p class="note bad">${experiment.problem}</p>`}
  </section>`;
}

/** @param {{experiment: any}} props */
function Arms({ experiment }) {
  const end = /** @type {"end"} */ ("end");
  const columns = [
    { key: "arm", title: "Version", cell: (/** @type {Arm} */ arm) => html`${arm.arm}${arm.isBest ? html` <${State} value="best" kind="good" />` : ""}`, sort: true },
    { key: "weight", title: "Weight", cell: (/** @type {Arm} */ arm) => basisPoints(arm.weight), sort: true, align: end },
    { key: "requests", title: "Requests", sort: true, align: end },
    { key: "rewards", title: "Rewards", sort: true, align: end },
    { key: "mean", title: "Mean", sort: true, align: end },
    { key: "interval", title: `Interval, right with ${number((1 - experiment.alpha) * 100)} %`, cell: (/** @type {Arm} */ arm) => html`<${Interval} arm=${arm} />` },
  ];
  return html`<${Table} caption="Arms of the experiment" columns=${columns} rows=${armsOf(experiment)} />
    <p class="small muted">The intervals hold for all arms and at all times together, however often you look.</p>`;
}

/** @param {{arm: Arm}} props */
function Interval({ arm }) {
  if (!arm.rewards) return html`<span class="muted">no rewards yet</span>`;
  return html`<svg class="interval" viewBox="0 0 100 12" preserveAspectRatio="none" role="img" aria-label="from ${number(arm.low)} to ${number(arm.high)}">
    <line x1=${arm.from} x2=${arm.to} y1="6" y2="6" />${arm.at !== null && html`<rect x=${Math.max(0, arm.at - 0.75)} y="1" width="1.5" height="10" />`}</svg>
    <span class="small number">${number(arm.low)} to ${number(arm.high)}</span>`;
}

/** @type {import("../app.js").View} */
export const experimentView = { title: (params) => `${params.model}: experiment ${params.id}`, component: ExperimentPage };
