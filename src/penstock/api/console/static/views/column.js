// One column of a model's monitor: its histogram against the reference, evidence over time, effect sizes, bins, slices.

import { html, useAsync, useSignal } from "../lib/html.js";
import { get } from "../lib/api.js";
import { ago, number, percent, time } from "../lib/format.js";
import { binShares, isAboutColumn, movedText, sliceRows } from "../lib/evidence.js";
import { useDocument, useNewestEvent } from "../lib/refresh.js";
import { link, pathTo, route } from "../lib/router.js";
import { Chart } from "../components/chart.js";
import { Alarms, BinTable, EffectTable, Evidence } from "../components/column-parts.js";
import { Histogram } from "../components/histogram.js";
import { Empty, ErrorBox, Loading } from "../components/notes.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";

/** @typedef {Record<string, any>} Document */

/** @type {import("../app.js").View} */
export const columnView = { title: (params) => `${params.model}: column ${params.column}`, component: ColumnView };

/** @param {{params: Record<string, string>}} props */
function ColumnView({ params: { model = "", column = "" } }) {
  const { query } = useSignal(route);
  const version = query.version ? `&version=${encodeURIComponent(query.version)}` : "";
  const path = `/models/${encodeURIComponent(model)}/monitor/column?name=${encodeURIComponent(column)}${version}`;
  const { value, error, again } = useDocument(path, `monitor:${model}`);
  const events = useAsync(() => alarmsOf(model, column), [model, column, value?.column.state, useNewestEvent(model)]);
  if (error && !value) return html`<${BackLink} model=${model} /><${ErrorBox} error=${error} again=${again} />`;
  if (!value) return html`<${Loading} />`;
  const shown = value.column;
  return html`<${BackLink} model=${model} />
    <${ErrorBox} error=${error} again=${again} />
    <${ColumnSummary} value=${value} />
    <div class="grid">
      <section class="card"><h2>Window against the reference</h2>
        <${Histogram} counts=${shown.counts} reference=${shown.reference_counts} names=${shown.bins} label=${shown.name} />
        <p class="small muted">Bars: ${shown.rows ? `${number(shown.rows)} rows of the window` : "no rows came in the window"}, from bin ${shown.bins?.[0]} at the left to ${shown.bins?.at(-1)}, the highest ${percent(Math.max(...binShares(shown.counts)))}. Dashed outline: the reference, mean ${number(value.moments?.mean)}, standard deviation ${number(value.moments?.std)}. Moved most: ${(shown.rows && movedText(shown, 3)) || "nothing"}.</p>
      </section>
      <section class="card"><h2>Evidence over time</h2><${EvidenceHistory} value=${value} /></section>
    </div>
    <div class="grid wide">
      <section class="card"><h2>Effect sizes</h2><${EffectTable} column=${shown} /></section>
      <section class="card"><h2>Bins</h2><${BinTable} column=${shown} /></section>
      <${ColumnSlices} value=${value} /><${Rates} value=${value} />
    </div>
    <h2>Alarms</h2><${ErrorBox} error=${events.error} again=${events.again} />
    <${Alarms} model=${model} alarms=${events.value?.alarms || []} requests=${events.value?.requests || []} />`;
}

/** @param {{model: string}} props */
function BackLink({ model }) {
  return html`<p><a href=${link(pathTo("models", model, "monitor"))}>← All columns</a></p>`;
}

/**
 * Fetches the newest alarms about a column, and the model's requests for retraining.
 * @param {string} model
 * @param {string} column
 */
async function alarmsOf(model, column) {
  const about = (/** @type {string} */ kind) => get(`/timeline?model=${encodeURIComponent(model)}&kind=${kind}&limit=50`);
  const [drift, quality, requests] = await Promise.all(["drift.detected", "quality.violated", "retraining.requested"].map(about));
  const alarms = [...drift.entries, ...quality.entries].filter((/** @type {Document} */ entry) => isAboutColumn(entry, column));
  alarms.sort((one, other) => other.seq - one.seq);
  return { alarms: alarms.slice(0, 10), requests: requests.entries };
}

/** @param {{value: Document}} props */
function ColumnSummary({ value }) {
  const { column, log_e_threshold, scope, version } = value;
  return html`<dl class="facts">
    <dt>State</dt><dd><${State} value=${column.state} />${column.since && html` since <time title=${time(column.since)}>${time(column.since)}</time> (${ago(column.since)})`}</dd>
    <dt>Evidence now</dt><dd><${Evidence} value=${column.log_e} threshold=${log_e_threshold} /> <span class="small muted">(natural logarithm; an alarm discards it, and it begins anew)</span></dd>
    <dt>Version</dt><dd>${version}, by the counts of ${scope === "fleet" ? "all gateways" : "this gateway"}</dd>
  </dl>`;
}

/** @param {{value: Document}} props */
function EvidenceHistory({ value: { history, log_e_threshold } }) {
  if (!history) return html`<${Empty}>The gateway that leads the fleet has the series.<//>`;
  if (history.at.length < 2) return html`<${Empty}>There are too few points yet; they come every ${history.step_seconds} s while rows arrive.<//>`;
  return html`<${Chart} at=${history.at} series=${[{ name: "evidence", values: history.log_e }]} levels=${log_e_threshold ? [{ name: "alarm", value: log_e_threshold }] : []} label="Evidence over time" />
    <${Chart} at=${history.at} series=${[{ name: "PSI", values: history.psi }]} label="PSI over time" />`;
}

/** @param {{value: Document}} props */
function ColumnSlices({ value }) {
  const rows = sliceRows(value.slices);
  if (!rows.length) return null;
  return html`<section class="card"><h2>Slices</h2><${Table} caption="The column in each slice" rows=${rows} keyOf=${(/** @type {Document} */ row) => `${row.key} ${row.value}`} columns=${[
    { key: "slice", title: "Rows with", cell: (/** @type {Document} */ row) => `${row.key} = ${row.value}` },
    { key: "state", title: "State", cell: (/** @type {Document} */ row) => html`<${State} value=${row.state} />` },
    { key: "rows", title: "Rows", align: "end", sort: true },
    { key: "psi", title: "PSI", align: "end", sort: true },
    { key: "log_e", title: "Evidence", align: "end", sort: true },
    { key: "since", title: "Since", cell: (/** @type {Document} */ row) => row.since && ago(row.since) },
  ]} /></section>`;
}

/** @param {{value: Document}} props */
function Rates({ value }) {
  if (!value.rates) return null;
  const rows = Object.keys(value.rates).map((kind) => ({ kind, now: value.rates[kind], usual: value.reference_rates[kind] }));
  return html`<section class="card"><h2>Data quality</h2><${Table} caption="Invalid values" rows=${rows} columns=${[
    { key: "kind", title: "Kind", cell: (/** @type {Document} */ row) => row.kind.replaceAll("_", " ") },
    { key: "now", title: "Window", align: "end", cell: (/** @type {Document} */ row) => percent(row.now) },
    { key: "usual", title: "Reference", align: "end", cell: (/** @type {Document} */ row) => percent(row.usual) },
  ]} /></section>`;
}
