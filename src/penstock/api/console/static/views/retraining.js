// Retraining of a model: its rules and their state, requests, candidates with their marks, and deliveries of events.

import { html, useAsync, useState } from "../lib/html.js";
import { get, send } from "../lib/api.js";
import { usePermissions } from "../lib/access.js";
import { ago, duration, number, time } from "../lib/format.js";
import { toYaml } from "../lib/policy-form.js";
import { deliveriesOf, evidenceText, examRows } from "../lib/retraining.js";
import { useDocument } from "../lib/refresh.js";
import { kindText } from "../lib/timeline.js";
import { link, pathTo } from "../lib/router.js";
import { Permitted, Empty, ErrorBox, Loading } from "../components/notes.js";
import { ReasonDialog } from "../components/reason-dialog.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";

/** @typedef {Record<string, any>} Document */
/** @typedef {{title: string, action: string, path: string, body?: Document, danger?: boolean, text?: string}} Act */

const DAY_S = 86400;
const LONGEST_PROBLEM = 160;

/** @type {import("../app.js").View} */
export const retrainingView = {
  title: (params) => `${params.model}: retraining`,
  keys: { r: ["ask for retraining", () => document.getElementById("ask-retraining")?.click()] },
  component: Retraining,
};

/** @param {{params: Record<string, string>}} props */
function Retraining({ params }) {
  const model = params.model || "";
  const path = `/models/${encodeURIComponent(model)}`;
  const { value, error, again } = useDocument(`${path}/retraining`, `retraining:${model}`, { isTopic: true });
  const [act, setAct] = useState(/** @type {Act | null} */ (null));
  if (error && !value) return html`<${ErrorBox} error=${error} again=${again} />`;
  if (!value) return html`<${Loading} />`;
  const begin = (/** @type {Act} */ next) => setAct({ ...next, path: path + next.path });
  return html`<${ErrorBox} error=${error} again=${again} />
    ${value.problem && html`<p class="note warn">${value.problem}</p>`}
    <${Requests} model=${model} value=${value} begin=${begin} />
    <h2>Rules</h2><${Rules} rules=${value.rules} />
    <h2>Candidates</h2><${Candidates} model=${model} value=${value} begin=${begin} />
    <h2>Deliveries</h2><${Deliveries} model=${model} value=${value} begin=${begin} />
    ${act && html`<${ReasonDialog} title=${act.title} action=${act.action} danger=${act.danger} onClose=${() => setAct(null)} onDone=${again}
      perform=${(/** @type {{reason: string}} */ { reason }) => send("POST", act.path, act.body || {}, { reason })}>${act.text && html`<p>${act.text}</p>`}<//>`}`;
}

/** @param {{model: string, value: Document, begin: (act: Act) => void}} props */
function Requests({ model, value, begin }) {
  const { in_flight: flight, failed, requests, limits } = value;
  const permitted = usePermissions(model)("operate");
  const ofDay = requests.filter((/** @type {number} */ at) => Date.now() / 1000 - at < DAY_S).length;
  return html`<dl class="facts">
      <dt>Under way</dt><dd>${flight ? html`a request of version ${flight.version}, ${ago(flight.since)}; it ends after ${duration(limits.timeout_seconds)} <${EventLink} model=${model} id=${flight.event} />` : "nothing"}</dd>
      ${failed && html`<dt>Failed</dt><dd>the request of version ${failed.version}, ${ago(failed.since)}: its training was given up</dd>`}
      <dt>In the last day</dt><dd>${ofDay} of at most ${limits.budget_per_day} requests${requests.length > 0 && html`, the last <time title=${time(requests.at(-1))}>${ago(requests.at(-1))}</time>`}</dd>
      <dt>Candidates</dt><dd>${limits.auto_rollout ? "are rolled out when they pass their gates" : "are rolled out by a person"}${limits.approval ? ", after an approval" : ""}</dd>
    </dl>
    <p><a href=${link(`/console/timeline?model=${encodeURIComponent(model)}&kind=retraining`)}>All requests on the time line</a></p>
    <${Permitted} action="Ask for retraining" reason=${permitted.reason}><button id="ask-retraining" type="button" class="button" onClick=${() => begin({ title: `Ask for retraining of ${model}`, action: "Ask", path: "/retrain", text: "The sinks of the policy get the request, whatever the rules decide." })}>Ask for retraining <kbd>r</kbd></button><//>`;
}

/** @param {{model: string, id: string}} props */
function EventLink({ model, id }) {
  if (!id) return null;
  return html`<a href=${link(`/console/timeline?model=${encodeURIComponent(model)}&kind=retraining&entry=${id}`)}>see the event</a>`;
}

/** @param {{rules: Document[]}} props */
function Rules({ rules }) {
  return html`<${Table} caption="Rules" rows=${rules} empty="The policy has no rules. Add some on the page Monitor, in the policy." columns=${[
    { key: "name", title: "Rule", cell: (/** @type {Document} */ rule) => html`${rule.name}${rule.dry_run && html` <span class="muted">(dry run)</span>`}` },
    { key: "state", title: "State", cell: (/** @type {Document} */ rule) => html`<${RuleState} rule=${rule} />` },
    { key: "when", title: "When", cell: (/** @type {Document} */ rule) => html`<details><summary>${Object.keys(rule.when || {}).join(", ") || "condition"}</summary><pre>${toYaml({ when: rule.when, ...(rule.until ? { until: rule.until } : {}) })}</pre></details>` },
    { key: "evidence", title: "Now", cell: (/** @type {Document} */ rule) => html`<${RuleEvidence} rule=${rule} />` },
    { key: "asked", title: "Last request", cell: (/** @type {Document} */ rule) => rule.asked && html`<time title=${time(rule.asked)}>${ago(rule.asked)}</time>${rule.times > 1 && ` (${rule.times} for this cause)`}` },
    { key: "sinks", title: "Sends to", cell: (/** @type {Document} */ rule) => rule.sinks.join(", ") || "nobody" },
  ]} />`;
}

/** @param {{rule: Document}} props */
function RuleState({ rule }) {
  const kind = rule.state === "firing" ? "bad" : rule.state === "pending" ? "warn" : "good";
  const cools = rule.cools_until && rule.cools_until > Date.now() / 1000 && rule.state !== "ok";
  return html`<${State} value=${rule.state} kind=${kind} />
    ${rule.since && html` <span class="small muted">since <time title=${time(rule.since)}>${ago(rule.since)}</time></span>`}
    ${rule.outcome && html`<div class="small">${rule.outcome.replaceAll("_", " ")}${cools ? html`, asks again ${ago(rule.cools_until)}` : ""}</div>`}`;
}

/** @param {{rule: Document}} props */
function RuleEvidence({ rule }) {
  if (rule.holds === null) return html`<span class="muted">evaluated by the leader</span>`;
  return html`${rule.holds ? html`<strong>holds</strong>` : "does not hold"}
    ${rule.evidence.map((/** @type {Document} */ item) => html`<div class="small">${evidenceText(item)}</div>`)}`;
}

/** @param {{model: string, value: Document, begin: (act: Act) => void}} props */
function Candidates({ model, value, begin }) {
  if (!value.candidates.length) return html`<${Empty}>${value.in_flight ? "No version has come of the request yet. Push one, and its gates are evaluated." : "No candidates: no request is under way."}<//>`;
  return html`<div class="grid">${value.candidates.map((/** @type {Document} */ item) => html`<${Candidate} key=${item.version} model=${model} candidate=${item} isOpen=${value.in_flight !== null && value.in_flight.version !== item.version} begin=${begin} />`)}</div>`;
}

/** @param {{model: string, candidate: Document, isOpen: boolean, begin: (act: Act) => void}} props */
function Candidate({ model, candidate, isOpen, begin }) {
  const { version, against, state, reasons, exam, rows } = candidate;
  const kind = state === "passed" ? "good" : state === "refused" ? "bad" : "warn";
  const compare = `${pathTo("models", model, "compare")}?a=${encodeURIComponent(against)}&b=${encodeURIComponent(version)}`;
  return html`<section class="card">
    <div class="row between"><h3><a href=${link(pathTo("models", model, "versions", version))}>Version ${version}</a></h3><${State} value=${state} kind=${kind} /></div>
    ${against && html`<p>Against version ${against} (<a href=${link(compare)}>compare</a>)</p>`}
    ${reasons.length > 0 && html`<ul>${reasons.map((/** @type {string} */ reason) => html`<li>${reason}</li>`)}</ul>`}
    ${exam && html`<${ExamScores} exam=${exam} />`}
    ${rows && html`<p class="small muted">${number(rows.rows)} held-out rows have a label.</p>`}
    <${CandidateGates} model=${model} version=${version} />
    ${candidate.approved && html`<p class="small">A person has approved it: it is rolled out as soon as it passes its other gates.</p>`}
    ${isOpen && html`<${Decision} model=${model} candidate=${candidate} begin=${begin} />`}
  </section>`;
}

/** @param {{exam: Document}} props */
function ExamScores({ exam }) {
  return html`<${Table} caption="Scores of the exam" rows=${examRows(exam)} columns=${[
    { key: "name", title: "Exam" },
    { key: "candidate", title: "Candidate", align: "end" },
    { key: "champion", title: "Present version", align: "end" },
    { key: "rows", title: "Rows", align: "end" },
  ]} />`;
}

/** Its gates, which are fetched when somebody wants to see them. @param {{model: string, version: string}} props */
function CandidateGates({ model, version }) {
  const [isOpen, setIsOpen] = useState(false);
  return html`<details onToggle=${(/** @type {{currentTarget: HTMLDetailsElement}} */ event) => setIsOpen(event.currentTarget.open)}>
    <summary>Gates</summary>${isOpen && html`<${GateList} model=${model} version=${version} />`}
  </details>`;
}

/** @param {{model: string, version: string}} props */
function GateList({ model, version }) {
  const { value, error } = useAsync(() => get(`/models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}/gates`), [model, version]);
  if (error) return html`<p class="small muted">${error.message}</p>`;
  if (!value) return null;
  if (!value.gates.length) return html`<${Empty}>The policy asks for none.<//>`;
  return html`<ul class="gates">${value.gates.map((/** @type {Document} */ gate) => html`<li key=${gate.gate}><${State} value=${gate.passed ? "pass" : "fail"} /> ${gate.gate} ${gate.reason}</li>`)}</ul>`;
}

/** @param {{model: string, candidate: Document, begin: (act: Act) => void}} props */
function Decision({ model, candidate: { version, state, approved }, begin }) {
  const permitted = usePermissions(model)("approve");
  if (!permitted.allowed) return html`<${Permitted} action="Approve, refuse" reason=${permitted.reason} />`;
  const path = `/candidates/${encodeURIComponent(version)}`;
  return html`<div class="row end">
    ${state !== "refused" && html`<button type="button" class="button danger" aria-label="Refuse version ${version}" onClick=${() => begin({ title: `Refuse version ${version}`, action: "Refuse", path: `${path}/refuse`, danger: true, text: "It is not rolled out. The request stays open for another version." })}>Refuse</button>`}
    ${state !== "passed" && !approved && html`<button type="button" class="button primary" aria-label="Approve version ${version}" onClick=${() => begin({ title: `Approve version ${version}`, action: "Approve", path: `${path}/approve`, text: "It is rolled out as soon as it passes all other gates." })}>Approve</button>`}
  </div>`;
}

/** The end of a long text says most: the last line of a command's output. @param {{text: string}} props */
function Problem({ text }) {
  if (text.length <= LONGEST_PROBLEM) return html`<span class="long">${text}</span>`;
  return html`<details><summary class="long">… ${text.slice(-LONGEST_PROBLEM)}</summary><p class="small long">${text}</p></details>`;
}

/** @param {{model: string, value: Document, begin: (act: Act) => void}} props */
function Deliveries({ model, value, begin }) {
  const rows = deliveriesOf(value.deliveries);
  const dead = rows.filter((row) => row.state === "dead").length;
  const permitted = usePermissions(model)("operate");
  const replay = (/** @type {Document} */ body, /** @type {string} */ what) => begin({ title: `Try ${what} again`, action: "Try again", path: "/outbox/replay", body });
  return html`${dead > 0 && html`<p class="note bad">${dead} ${dead === 1 ? "event was" : "events were"} given up.</p>`}
    ${dead > 0 && html`<${Permitted} action="Try again" reason=${permitted.reason}><button type="button" class="button" onClick=${() => replay({}, "all dead deliveries")}>Try all again</button><//>`}
    <${Table} caption="Deliveries, dead ones first" rows=${rows} keyOf=${(/** @type {Document} */ row) => `${row.event} ${row.sink}`} empty="No events were sent yet." columns=${[
      { key: "sink", title: "Sink", sort: true },
      { key: "state", title: "State", sort: true, cell: (/** @type {Document} */ row) => html`<${State} value=${row.state} kind=${row.state === "sent" ? "good" : row.state === "dead" ? "bad" : "warn"} />` },
      { key: "type", title: "Event", cell: (/** @type {Document} */ row) => html`<a href=${link(`/console/timeline?model=${encodeURIComponent(model)}&entry=event-${row.sequence}`)}>${kindText((row.type || "gone").replace("io.penstock.", ""))}</a>` },
      { key: "created", title: "Decided", sort: true, cell: (/** @type {Document} */ row) => html`<time title=${time(row.created)}>${ago(row.created)}</time>` },
      { key: "attempts", title: "Attempts", align: "end" },
      { key: "error", title: "Problem", cell: (/** @type {Document} */ row) => html`${row.error && html`<${Problem} text=${row.error} />`}${row.due && row.attempts > 0 ? ` (again ${ago(row.due)})` : ""}` },
      { key: "act", title: "Action", cell: (/** @type {Document} */ row) => row.state === "dead" && permitted.allowed && html`<button type="button" class="button quiet" onClick=${() => replay({ event: row.event, sink: row.sink }, `the delivery to ${row.sink}`)}>Try again</button>` },
    ]} />`;
}
