// The monitor of a model: its columns by evidence, data quality, latency by stage, performance, and what alarms caused.

import { html, useAsync, useEffect, useSignal, useState, valueTo } from "../lib/html.js";
import { get, send } from "../lib/api.js";
import { usePermissions } from "../lib/access.js";
import { ago, duration, milliseconds, number, percent, time } from "../lib/format.js";
import { columnsOf, metricRows, movedText, retrainingOf, sliceRows } from "../lib/evidence.js";
import { useDocument, useNewestEvent } from "../lib/refresh.js";
import { link, pathTo, route, setQuery } from "../lib/router.js";
import { Alarms, Evidence } from "../components/column-parts.js";
import { Histogram } from "../components/histogram.js";
import { Permitted, ErrorBox, Loading } from "../components/notes.js";
import { PolicyEditor } from "../components/policy-editor.js";
import { ReasonDialog } from "../components/reason-dialog.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";

/** @typedef {Record<string, any>} Document */

const SHOWN_COLUMNS = 24;
const MOST_SHOWN = 100;
const TYPING_MS = 300;

/** @type {import("../app.js").View} */
export const monitorView = {
  title: (params) => `${params.model}: monitor`,
  keys: {
    r: ["relearn", () => pressButton("relearn")],
    e: ["edit the policy", () => pressButton("edit-policy")],
  },
  component: Monitor,
};

/** Presses a button of the view by its id, if it is there. @param {string} id */
function pressButton(id) {
  document.getElementById(id)?.click();
}

/** @param {{params: Record<string, string>}} props */
function Monitor({ params }) {
  const model = params.model || "";
  const { query } = useSignal(route);
  const isTopic = !query.version && !query.search && !query.all;
  const { value, error, again } = useDocument(monitorPath(model, query), `monitor:${model}`, { isTopic });
  const events = useAsync(() => eventsOf(model), [model, value?.alarms, useNewestEvent(model)]);
  if (error && !value) return html`<${ErrorBox} error=${error} again=${again} />`;
  if (!value) return html`<${Loading} />`;
  return html`
    <${ErrorBox} error=${error} again=${again} />
    <${MonitorHead} model=${model} value=${value} again=${again} />
    <${Columns} model=${model} value=${value} query=${query} />
    <h2>Alarms</h2>
    <${ErrorBox} error=${events.error} again=${events.again} />
    <${Alarms} model=${model} alarms=${events.value?.alarms || []} requests=${events.value?.requests || []} />
    <div class="grid wide">
      <${Quality} value=${value} /><${LatencyByStage} value=${value} /><${PerformanceCard} performance=${value.performance} />
      <${SliceTable} model=${model} value=${value} />
    </div>`;
}

/**
 * @param {string} model
 * @param {Record<string, string>} query
 */
function monitorPath(model, query) {
  const more = ["version", "search"].filter((name) => query[name]).map((name) => `&${name}=${encodeURIComponent(query[name] || "")}`);
  return `/models/${encodeURIComponent(model)}/monitor?columns=${query.all ? MOST_SHOWN : SHOWN_COLUMNS}${more.join("")}`;
}

/** Fetches the newest alarms of a model, those before them that have caused a request, and the requests for retraining. @param {string} model */
async function eventsOf(model) {
  const about = (/** @type {string} */ kind) => get(`/timeline?model=${encodeURIComponent(model)}&kind=${kind}&limit=100`);
  const [requests, ...alarms] = await Promise.all(["retraining.requested", "drift.detected", "quality.violated", "performance.degraded"].map(about));
  const entries = alarms.flatMap((page) => page.entries);
  entries.sort((/** @type {Document} */ one, /** @type {Document} */ other) => other.seq - one.seq);
  const shown = entries.filter((/** @type {Document} */ entry, /** @type {number} */ index) => index < 10 || retrainingOf(entry, requests.entries));
  return { requests: requests.entries, alarms: shown.slice(0, 20) };
}

/** @param {{model: string, value: Document, again: () => void}} props */
function MonitorHead({ model, value, again }) {
  const [open, setOpen] = useState("");
  const permitted = usePermissions(model)("operate");
  const close = () => setOpen("");
  const relearn = (/** @type {{reason: string}} */ { reason }) =>
    send("POST", `/models/${encodeURIComponent(model)}/monitor/relearn`, { version: value.version }, { reason });
  return html`<div class="row between">
      <p><${MonitorSummary} value=${value} /></p>
      <${VersionChoice} value=${value} />
    </div>
    ${value.problem && html`<p class="note warn">${value.problem}</p>`}
    <${Permitted} action="Relearn, change the policy" reason=${permitted.reason}><div class="toolbar">
          ${value.reference && html`<button id="relearn" type="button" class="button" onClick=${() => setOpen("relearn")}>Relearn the reference <kbd>r</kbd></button>`}
          <button id="edit-policy" type="button" class="button" onClick=${() => setOpen("policy")}>Change the policy <kbd>e</kbd></button>
        </div><//>
    ${open === "relearn" && html`<${ReasonDialog} title="Relearn the reference of version ${value.version}" action="Relearn" danger onClose=${close} onDone=${again} perform=${relearn}>
      <p>The present reference is dropped. Until a new one is learned from traffic, no drift is found.</p>
    <//>`}
    ${open === "policy" && html`<${PolicyEditor} model=${model} onClose=${close} onDone=${again} />`}`;
}

/** @param {{value: Document}} props */
function MonitorSummary({ value }) {
  const { reference, columns, window } = value;
  if (!value.version) return html`No version answers.`;
  if (!reference) return html`Version ${value.version} has no reference yet: it is learned from traffic.`;
  const drifting = columns?.drifting ?? 0;
  const source = reference.source === "training" ? "training data" : "live traffic";
  const text = `${drifting} of ${columns?.all ?? 0} columns drift, by ${number(window.rows)} rows in the last ${duration(window.seconds)}`;
  const base = `against ${number(reference.rows)} rows of ${source}${reference.small ? " (a small reference: thresholds are wider)" : ""}.`;
  return html`<${State} value=${drifting ? "drift" : "ok"} /> ${text} ${base} ${value.scope === "fleet" ? "Counts of all gateways." : "Counts of this gateway."}`;
}

/** @param {{value: Document}} props */
function VersionChoice({ value }) {
  const versions = Object.entries(value.answers || {});
  const known = versions.some(([version]) => version === value.version) ? versions : [...versions, [value.version || "", 0]];
  if (known.length < 2) return null;
  return html`<label class="field">Version
    <select value=${value.version} onChange=${valueTo((version) => setQuery({ version }))}>
      ${known.map(([version, share]) => html`<option key=${version} value=${version}>${version} (${percent(share)})</option>`)}
    </select></label>`;
}

/** @param {{model: string, value: Document, query: Record<string, string>}} props */
function Columns({ model, value, query }) {
  const rows = columnsOf(value);
  const { all = 0, shown = 0 } = value.columns || {};
  const more = shown < all && !query.search;
  return html`<h2>Columns</h2>
    <div class="toolbar"><${ColumnSearch} search=${query.search || ""} />
      ${more && !query.all && html`<button type="button" class="button" onClick=${() => setQuery({ all: "1" })}>Show ${Math.min(all, MOST_SHOWN)} of ${all}</button>`}
      ${more && html`<span class="muted">${shown} of ${all} columns: those with the most evidence.</span>`}
    </div>
    <${Table} caption="Columns by evidence" rows=${rows} keyOf=${(/** @type {Document} */ row) => `${row.side} ${row.name}`} columns=${monitorColumns(model, value)}
      empty=${value.reference ? "No column matches." : "No columns yet."} />`;
}

/** @param {{search: string}} props */
function ColumnSearch({ search }) {
  const [text, setText] = useState(search);
  useEffect(() => {
    const timer = setTimeout(() => text !== search && setQuery({ search: text }), TYPING_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<label class="field">Find columns
    <input type="search" data-search value=${text} onInput=${valueTo(setText)} /></label>`;
}

/**
 * @param {string} model
 * @param {Document} value
 */
function monitorColumns(model, value) {
  const version = value.version ? `?version=${encodeURIComponent(value.version)}` : "";
  return [
    { key: "name", title: "Column", sort: true, cell: (/** @type {Document} */ row) => html`<a href=${link(pathTo("models", model, "monitor", row.name) + version)}>${row.name}</a> <span class="small muted">${row.side}</span>` },
    { key: "state", title: "State", sort: true, cell: (/** @type {Document} */ row) => html`<${State} value=${row.state} />` },
    { key: "log_e", title: "Evidence", sort: true, hint: "natural logarithm, beside what an alarm needs", cell: (/** @type {Document} */ row) => html`<${Evidence} value=${row.log_e} threshold=${value.log_e_threshold} />` },
    { key: "psi", title: "PSI", align: /** @type {const} */ ("end"), sort: true, cell: (/** @type {Document} */ row) => html`<span title="by chance at most ${number(row.psi_threshold)}">${number(row.psi)}</span>` },
    { key: "since", title: "Since", sort: true, cell: (/** @type {Document} */ row) => row.since && html`<time title=${time(row.since)}>${ago(row.since)}</time>` },
    { key: "moved", title: "Moved most", cell: (/** @type {Document} */ row) => movedText(row) },
    { key: "histogram", title: "Window, outline: reference", cell: (/** @type {Document} */ row) => html`<div class="small-histogram"><${Histogram} counts=${row.counts} reference=${row.reference_counts} names=${row.bins} label=${row.name} /></div>` },
  ];
}

/** @param {{model: string, value: Document}} props */
function SliceTable({ model, value }) {
  const rows = sliceRows(value.slices);
  if (!rows.length) return null;
  return html`<section class="card"><h2>Slices</h2><${Table} caption="Slices" rows=${rows} keyOf=${(/** @type {Document} */ row) => `${row.key} ${row.value}`} columns=${[
    { key: "slice", title: "Rows with", cell: (/** @type {Document} */ row) => `${row.key} = ${row.value}` },
    { key: "state", title: "State", cell: (/** @type {Document} */ row) => html`<${State} value=${row.state} />` },
    { key: "rows", title: "Rows", align: "end" },
    { key: "log_e", title: "Evidence", align: "end" },
    { key: "drifting", title: "Drifting columns", cell: (/** @type {Document} */ row) => row.drifting.map((/** @type {Document} */ item) => html`<a href=${link(pathTo("models", model, "monitor", item.name))}>${item.name}</a> (PSI ${number(item.psi)}) `) },
  ]} /></section>`;
}

/** @param {{value: Document}} props */
function Quality({ value }) {
  const { quality } = value;
  if (!quality) return null;
  return html`<section class="card"><h2>Data quality</h2>
    <p><${State} value=${quality.state} kind=${quality.state === "violated" ? "bad" : undefined} /> ${number(quality.odd_requests)} requests of an unexpected form in the window.</p>
    <dl class="facts">${Object.entries(quality.violations).map(([kind, count]) => html`<dt>${kind.replaceAll("_", " ")}</dt><dd>${number(/** @type {number} */ (count))}</dd>`)}</dl>
    ${quality.violated.length > 0 && html`<${Table} caption="Columns with more invalid values than usual" rows=${quality.violated} columns=${[
      { key: "name", title: "Column" },
      { key: "kind", title: "Kind", cell: (/** @type {Document} */ row) => row.kind.replaceAll("_", " ") },
      { key: "share", title: "Share", align: "end", cell: (/** @type {Document} */ row) => percent(row.rates[row.kind]) },
      { key: "since", title: "Since", cell: (/** @type {Document} */ row) => ago(row.since) },
    ]} />`}
  </section>`;
}

/** @param {{value: Document}} props */
function LatencyByStage({ value }) {
  const { stages = {}, ...whole } = value.latency || {};
  const rows = [{ name: "whole request", ...whole }, ...Object.entries(stages).map(([name, item]) => ({ name, .../** @type {Document} */ (item) }))];
  const quantiles = [["p50", "p50"], ["p90", "p90"], ["p99", "p99"], ["p999", "p99.9"]];
  return html`<section class="card"><h2>Latency by stage</h2><${Table} caption="Latency by stage" rows=${rows} columns=${[
    { key: "name", title: "Stage" },
    ...quantiles.map(([key = "", title]) => ({ key, title, align: "end", cell: (/** @type {Document} */ row) => milliseconds(row.count ? row[key] : null) })),
  ]} /><p class="small muted">Of ${number(whole.count)} successful requests so far.</p></section>`;
}

/** @param {{performance: Document | undefined}} props */
function PerformanceCard({ performance }) {
  if (!performance) return null;
  const { delay, gap, concept } = performance;
  const outcomes = Object.entries(performance.outcomes || {}).map(([name, count]) => `${name} ${number(/** @type {number} */ (count))}`).join(", ");
  return html`<section class="card"><h2>Performance</h2>
    <${Table} caption="Realised and estimated performance" rows=${metricRows(performance)} empty="No labels yet." columns=${[
      { key: "name", title: "Metric", cell: (/** @type {Document} */ row) => row.name.replaceAll("_", " ") },
      { key: "windowed", title: "Newest labels", align: "end" },
      { key: "overall", title: "All labels", align: "end" },
      { key: "estimated", title: "Estimated without labels", align: "end" },
    ]} />
    <dl class="facts">
      <dt>Labels</dt><dd>${number(performance.labels)}${outcomes && ` (${outcomes})`}</dd>
      ${delay && html`<dt>Labels come after</dt><dd>${duration(delay.p50_seconds)} (median), ${duration(delay.p90_seconds)} (nine of ten)</dd>`}
      ${concept && html`<dt>Errors</dt><dd><${State} value=${concept.state} /> ${percent(concept.recent_error)} lately, ${percent(concept.baseline_error)} before</dd>`}
      ${gap?.rows > 0 && html`<dt>Confidence</dt><dd><${State} value=${gap.state} /> expects accuracy ${number(gap.estimated)}, realised ${number(gap.realised)}</dd>`}
    </dl></section>`;
}
