// The rollouts and experiments of a model, newest first, and the forms that start one.

import { html, useSignal, useState } from "../lib/html.js";
import { usePermissions } from "../lib/access.js";
import { ago, basisPoints } from "../lib/format.js";
import { useTopic } from "../lib/live.js";
import { link, navigate, pathTo, route, setQuery } from "../lib/router.js";
import { isOpen } from "../lib/rollouts.js";
import { ExperimentForm } from "../components/experiment-form.js";
import { Permitted, Loading } from "../components/notes.js";
import { RolloutForm } from "../components/rollout-form.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";

/** @typedef {any} Trial a rollout or experiment of the admin API */

/** @param {{params: Record<string, string>}} props */
function Rollouts({ params }) {
  const model = params.model || "";
  const rollouts = useTopic(`rollouts:${model}`);
  const experiments = useTopic(`experiments:${model}`);
  const document = useTopic(`model:${model}`);
  const traffic = useTopic("traffic");
  const { query } = useSignal(route);
  if (!rollouts || !experiments || !document) return html`<${Loading} />`;
  const open = [...rollouts.rollouts, ...experiments.experiments].find((trial) => isOpen(trial));
  const versions = document.versions.filter((/** @type {any} */ item) => item.state === "READY").map((/** @type {any} */ item) => item.version);
  const rate = traffic?.models?.[model]?.requests_per_second ?? null;
  return html`<${Start} model=${model} versions=${versions} rate=${rate} open=${open} />
    <h2>Rollouts</h2><${RolloutTable} model=${model} rollouts=${rollouts.rollouts} order=${query.sort || ""} />
    <h2>Experiments</h2><${ExperimentTable} model=${model} experiments=${experiments.experiments} />`;
}

/** @param {{model: string, versions: string[], rate: number | null, open: Trial | undefined}} props */
function Start({ model, versions, rate, open }) {
  const [kind, setKind] = useState("");
  const allowed = usePermissions(model)("operate");
  if (!allowed.allowed) return html`<${Permitted} action="Start a rollout" reason=${allowed.reason} />`;
  if (open) return html`<p class="note">The ${open.arms ? "experiment" : "rollout"} <a href=${link(pathTo("models", model, open.arms ? "experiments" : "rollouts", open.id))}>${open.id}</a> is not over; the next one can start after it.</p>`;
  if (versions.length < 2) return html`<p class="muted">To start a rollout or an experiment, the model needs two versions that are ready.</p>`;
  const begun = (/** @type {string} */ step) => (/** @type {any} */ trial) => navigate(pathTo("models", model, step, trial.id));
  return html`<section aria-label="Start">
    <div class="row"><button type="button" class="button" aria-expanded=${kind === "rollout"} onClick=${() => setKind(kind === "rollout" ? "" : "rollout")}>New rollout</button>
      <button type="button" class="button" aria-expanded=${kind === "experiment"} onClick=${() => setKind(kind === "experiment" ? "" : "experiment")}>New experiment</button></div>
    ${kind === "rollout" && html`<${RolloutForm} model=${model} versions=${versions} rate=${rate} onStarted=${begun("rollouts")} />`}
    ${kind === "experiment" && html`<${ExperimentForm} model=${model} versions=${versions} onStarted=${begun("experiments")} />`}
  </section>`;
}

/** @param {{model: string, rollouts: Trial[], order: string}} props */
function RolloutTable({ model, rollouts, order }) {
  const columns = [
    { key: "to", title: "Version", cell: (/** @type {Trial} */ item) => html`<a href=${link(pathTo("models", model, "rollouts", item.id))}>${item.from} → ${item.to}</a>`, sort: true },
    { key: "state", title: "State", cell: (/** @type {Trial} */ item) => html`<${State} value=${item.state} />${item.dry_run ? " dry run" : ""}`, sort: true },
    { key: "weight", title: "Weight", cell: (/** @type {Trial} */ item) => basisPoints(item.weight), sort: true, align: /** @type {"end"} */ ("end") },
    { key: "created_at", title: "Began", cell: (/** @type {Trial} */ item) => html`<time dateTime=${item.created_at}>${ago(item.created_at)}</time>`, sort: true },
    { key: "created_by", title: "By", sort: true },
    { key: "reason", title: "Last reason", cell: (/** @type {Trial} */ item) => item.reason || "–" },
  ];
  return html`<${Table} caption="Rollouts" columns=${columns} rows=${rollouts} keyOf=${(/** @type {Trial} */ item) => item.id} order=${order} onOrder=${(/** @type {string} */ sort) => setQuery({ sort })} empty="No rollout yet." />`;
}

/** @param {{model: string, experiments: Trial[]}} props */
function ExperimentTable({ model, experiments }) {
  const columns = [
    { key: "arms", title: "Arms", cell: (/** @type {Trial} */ item) => html`<a href=${link(pathTo("models", model, "experiments", item.id))}>${Object.keys(item.arms).join(", ")}</a>` },
    { key: "state", title: "State", cell: (/** @type {Trial} */ item) => html`<${State} value=${item.state} />`, sort: true },
    { key: "mode", title: "Weights", cell: (/** @type {Trial} */ item) => (item.mode === "fixed" ? "fixed" : "follow the rewards") },
    { key: "best", title: "Best arm", cell: (/** @type {Trial} */ item) => item.best ?? "not known" },
    { key: "created_at", title: "Began", cell: (/** @type {Trial} */ item) => html`<time dateTime=${item.created_at}>${ago(item.created_at)}</time>`, sort: true },
    { key: "by", title: "By", cell: (/** @type {Trial} */ item) => item.created_by },
  ];
  return html`<${Table} caption="Experiments" columns=${columns} rows=${experiments} keyOf=${(/** @type {Trial} */ item) => item.id} empty="No experiment yet." />`;
}

/** @type {import("../app.js").View} */
export const rolloutsView = { title: (params) => `${params.model}: rollouts`, component: Rollouts };
