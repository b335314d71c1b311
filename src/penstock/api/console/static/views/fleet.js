// The gateways of the registry with their leader, and the workers, memory and tasks of the gateway that was asked.

import { html } from "../lib/html.js";
import { ago, bytes, duration, number, time } from "../lib/format.js";
import { useTopic } from "../lib/live.js";
import { link, pathTo } from "../lib/router.js";
import { Empty, Loading } from "../components/notes.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";

/** @typedef {{id: string, host: string, version: string, started: number, silent_seconds: number, state: string, leads: boolean,
 *     revision: number, serves: Record<string, string[]>}} Gateway */
/** @typedef {{worker: number, pid: number, state: string, memory: {budget_bytes: number, used_bytes: number} | null}} Worker */
/** @typedef {{name: string, last_success: number | null, failures: number, problem: string}} Task */

function Fleet() {
  const fleet = useTopic("fleet");
  const readiness = useTopic("readiness");
  const own = useTopic("workers");
  if (!fleet || !own) return html`<${Loading} />`;
  return html`
    <${FleetSummary} fleet=${fleet} readiness=${readiness} />
    <h2>Gateways</h2>
    <${Table} caption="Gateways of this registry" columns=${GATEWAYS} rows=${fleet.gateways}
      empty="No gateway has reported yet." />
    <h2>Workers of this gateway</h2>
    <${Table} caption="Workers" columns=${WORKERS} rows=${own.workers} />
    <h2>Tasks</h2><${Tasks} tasks=${own.tasks} />`;
}

/** @param {{fleet: any, readiness: any}} props */
function FleetSummary({ fleet, readiness }) {
  return html`<dl class="facts">
    ${readiness && html`<dt>This gateway</dt><dd><${State} value=${readiness.ready ? "ready" : "not ready"} kind=${readiness.ready ? "good" : "bad"} /> ${readiness.workers.ready} of ${readiness.workers.configured} workers ${readiness.reason && `– ${readiness.reason}`}</dd>`}
    <dt>Leader</dt><dd>${fleet.leader || "none"}, term ${number(fleet.term)}, lease for ${duration(fleet.lease_seconds)}</dd>
    <dt>Registry</dt><dd>revision ${number(fleet.revision)}</dd>
  </dl>`;
}

/** @type {import("../components/table.js").Column<Gateway>[]} */
const GATEWAYS = [
  { key: "id", title: "Gateway", sort: true, cell: (item) => html`<code>${item.id}</code> ${item.leads && html`<${State} value="leader" kind="good" />`}` },
  { key: "host", title: "Host", sort: true },
  { key: "state", title: "State", sort: true, cell: (item) => html`<${State} value=${item.state} /> ${item.state === "silent" && `for ${duration(item.silent_seconds)}`}` },
  { key: "version", title: "Release", sort: true },
  { key: "started", title: "Started", sort: true, cell: (item) => html`<span title=${time(item.started)}>${ago(item.started)}</span>` },
  { key: "revision", title: "Revision", align: "end", sort: true },
  { key: "serves", title: "Serves", cell: (item) => html`<${ServedModels} serves=${item.serves} />` },
];

/** @param {{serves: Record<string, string[]>}} props */
function ServedModels({ serves }) {
  const models = Object.entries(serves);
  const list = models.map(([model, versions]) => html`<li key=${model}><a href=${link(pathTo("models", model))}>${model}</a> ${versions.join(", ")}</li>`);
  if (models.length < 4) return html`<ul class="plain">${list}</ul>`;
  return html`<details><summary>${models.length} models</summary><ul class="plain">${list}</ul></details>`;
}

/** @type {import("../components/table.js").Column<Worker>[]} */
const WORKERS = [
  { key: "worker", title: "Worker", sort: true, cell: (item) => String(item.worker) },
  { key: "pid", title: "Process", align: "end", cell: (item) => item.pid || "–" },
  { key: "state", title: "State", sort: true, cell: (item) => html`<${State} value=${item.state} />` },
  { key: "memory", title: "Memory of requests", sort: (item) => item.memory?.used_bytes, cell: (item) => html`<${Memory} memory=${item.memory} />` },
];

/** @param {{memory: Worker["memory"]}} props */
function Memory({ memory }) {
  if (!memory) return "–";
  const text = `${bytes(memory.used_bytes)} of ${bytes(memory.budget_bytes)}`;
  return html`<meter min="0" max=${memory.budget_bytes} value=${memory.used_bytes} high=${0.8 * memory.budget_bytes} aria-label="Used of the budget">${text}</meter> ${text}`;
}

/** @type {import("../components/table.js").Column<Task>[]} */
const TASKS = [
  { key: "name", title: "Task", sort: true },
  { key: "problem", title: "State", sort: true, cell: (item) => html`<${State} value=${item.problem ? "failing" : "ok"} kind=${item.problem ? "bad" : "good"} /> ${item.problem}` },
  { key: "last_success", title: "Last success", sort: true, cell: (item) => ago(item.last_success) },
  { key: "failures", title: "Failures", align: "end", sort: true },
];

/** @param {{tasks: Task[]}} props */
function Tasks({ tasks }) {
  if (!tasks.length) return html`<${Empty} />`;
  const failing = tasks.filter((task) => task.problem);
  return html`<p>${failing.length ? `${failing.length} of ${tasks.length} tasks fail.` : `All ${tasks.length} tasks run.`}</p>
    ${failing.length > 0 && html`<${Table} caption="Failing tasks" columns=${TASKS} rows=${failing} />`}
    <details><summary>All tasks</summary><${Table} caption="All tasks" columns=${TASKS} rows=${tasks} /></details>`;
}

/** @type {import("../app.js").View} */
export const fleetView = { title: () => "Fleet", component: Fleet };
