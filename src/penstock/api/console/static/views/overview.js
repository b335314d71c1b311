// Every model in one row: who answers, its traffic, its health, what goes on, and what happened last.

import { html, useMemo, useSignal, valueTo } from "../lib/html.js";
import { milliseconds, number, percent } from "../lib/format.js";
import { useTopic } from "../lib/live.js";
import { link, pathTo, route, setQuery } from "../lib/router.js";
import { Ago } from "../components/ago.js";
import { Bar } from "../components/bar.js";
import { Empty, Loading } from "../components/notes.js";
import { Sparkline } from "../components/sparkline.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";

/** @typedef {{state: string, columns: number}} Watched */
/** @typedef {{id: string, kind: string, state?: string, step?: number, weight?: number, to?: string}} Trial */
/** @typedef {{type: string, time: string, subject: string, sequence: number}} LastEvent */
/** @typedef {{requests: (number | null)[], p50_ms: (number | null)[], p99_ms: (number | null)[]}} Series */
/** @typedef {{requests_per_second: number, error_ratio: number | null, p50_ms: number | null, p99_ms: number | null, series?: Series}} Traffic */
/** @typedef {{name: string, split: Record<string, number>, versions: number, states: Record<string, number>, reason: string,
 *     drift: Watched | null, quality: Watched | null, trial: Trial | null, event: LastEvent | null}} Model */
/** @typedef {Model & {traffic: Traffic | null, text: string}} Row */

const FILTERS = /** @type {[string, string, (row: Row) => boolean][]} */ ([
  ["", "All", () => true],
  ["attention", "Needs attention", (row) => needsAttention(row)],
  ["trial", "Open rollout or experiment", (row) => row.trial !== null],
  ["drift", "Drift or quality", (row) => row.drift?.state === "drift" || row.quality?.state === "violated"],
  ["unready", "Not ready", (row) => !Object.keys(row.split).length],
]);

/** @param {Row} row */
function needsAttention(row) {
  const isUnwell = row.drift?.state === "drift" || row.quality?.state === "violated" || !Object.keys(row.split).length;
  return isUnwell || Boolean(row.states.UNAVAILABLE) || (row.traffic?.error_ratio || 0) > 0.01;
}

/**
 * Joins the models with their traffic; `text` is what a search looks into, and shows whether a row has changed.
 * @param {Model[]} models
 * @param {Record<string, Traffic>} traffic
 * @returns {Row[]}
 */
export function rowsOf(models, traffic) {
  return models.map((model) => {
    const own = traffic[model.name] || null;
    return { ...model, traffic: own, text: JSON.stringify([model, own]) };
  });
}

/**
 * Returns the rows that a search and a filter leave.
 * @param {Row[]} rows
 * @param {string} search parts of names, versions or states
 * @param {string} filter
 */
export function filtered(rows, search, filter) {
  const parts = search.toLowerCase().split(/\s+/).filter(Boolean);
  const keep = FILTERS.find(([name]) => name === filter)?.[2] || (() => true);
  return rows.filter((row) => keep(row) && parts.every((part) => row.text.toLowerCase().includes(part)));
}

/** @type {import("../components/table.js").Column<Row>[]} */
const OVERVIEW_COLUMNS = [
  { key: "name", title: "Model", sort: true, cell: (row) => html`<a href=${link(pathTo("models", row.name))}>${row.name}</a>` },
  { key: "answers", title: "Who answers", cell: (row) => html`<${AnswersBar} row=${row} />` },
  { key: "rate", title: "Requests/s", align: "end", sort: (row) => row.traffic?.requests_per_second, cell: (row) => number(row.traffic?.requests_per_second) },
  { key: "errors", title: "Errors", align: "end", sort: (row) => row.traffic?.error_ratio, cell: (row) => percent(row.traffic?.error_ratio) },
  { key: "p99", title: "p50 / p99", align: "end", sort: (row) => row.traffic?.p99_ms, cell: (row) => html`<${LatencyLine} traffic=${row.traffic} />` },
  { key: "drift", title: "Drift", sort: (row) => row.drift?.columns, cell: (row) => html`<${VerdictBadge} watched=${row.drift} />` },
  { key: "quality", title: "Quality", sort: (row) => row.quality?.columns, cell: (row) => html`<${VerdictBadge} watched=${row.quality} />` },
  { key: "trial", title: "Rollout", sort: (row) => row.trial?.id, cell: (row) => html`<${OpenTrial} row=${row} />` },
  { key: "event", title: "Last event", sort: (row) => row.event?.time, cell: (row) => html`<${NewestEvent} row=${row} />` },
];

/** @param {{row: Row}} props */
function AnswersBar({ row }) {
  const parts = Object.entries(row.split).map(([name, share]) => ({ name, share }));
  if (!parts.length) return html`<${State} value="nobody answers" kind="bad" title=${row.reason} />`;
  const loading = (row.states.LOADING || 0) + (row.states.UNLOADING || 0);
  return html`<${Bar} parts=${parts} label="Who answers for ${row.name}" />
    ${row.versions > 1 && html`<span class="small muted">${row.versions} versions</span>`}
    ${loading > 0 && html` <${State} value="${loading} loading" kind="warn" />`}
    ${row.states.UNAVAILABLE && html` <${State} value="${row.states.UNAVAILABLE} unavailable" kind="bad" title=${row.reason} />`}`;
}

/** @param {{traffic: Traffic | null}} props */
function LatencyLine({ traffic }) {
  if (!traffic || traffic.p99_ms === null) return "–";
  const { series } = traffic;
  return html`${series && html`<${Sparkline} series=${[series.p99_ms, series.p50_ms]} label="p99 and p50 of the last minutes" />`}
    <div>${milliseconds(traffic.p50_ms)} / ${milliseconds(traffic.p99_ms)}</div>`;
}

/** @param {{watched: Watched | null}} props */
function VerdictBadge({ watched }) {
  if (!watched) return html`<span class="muted">–</span>`;
  const text = watched.columns ? `${watched.columns} ${watched.columns === 1 ? "column" : "columns"}` : watched.state;
  return html`<${State} value=${text} kind=${watched.columns ? "bad" : undefined} title=${watched.state} />`;
}

/** @param {{row: Row}} props */
function OpenTrial({ row: { name, trial } }) {
  if (!trial) return html`<span class="muted">–</span>`;
  const path = pathTo("models", name, `${trial.kind}s`, trial.id);
  return html`<a href=${link(path)}>${trial.to ? `to ${trial.to}` : trial.kind}</a> <${State} value=${trial.state || "open"} />`;
}

/** @param {{row: Row}} props */
function NewestEvent({ row: { name, event } }) {
  if (!event) return html`<span class="muted">–</span>`;
  const kind = event.type.replace(/^io\.penstock\.|\.v\d+$/g, "").replace(/[._]/g, " ");
  return html`<a href=${link(`/console/timeline?model=${encodeURIComponent(name)}&entry=event-${event.sequence}`)}>${kind}</a> <${Ago} at=${event.time} />`;
}

function Overview() {
  const models = useTopic("overview");
  const traffic = useTopic("traffic");
  const { query } = useSignal(route);
  const rows = useMemo(() => rowsOf(models?.models || [], traffic?.models || {}), [models, traffic]);
  const { q: search = "", show: filter = "", sort = "" } = query;
  const shown = useMemo(() => filtered(rows, search, filter), [rows, search, filter]);
  if (!models) return html`<${Loading} />`;
  if (!rows.length) return html`<${Empty}>No models yet. Push one with: <code>penstock models push NAME FILE --version 1</code><//>`;
  return html`
    <${Toolbar} search=${search} filter=${filter} rows=${rows} shown=${shown.length} />
    <${Table} caption="Models" columns=${OVERVIEW_COLUMNS} rows=${shown} keyOf=${overviewKey} order=${sort} onOrder=${setOrder} stableBy=${overviewText}
      empty="No model is like this." />`;
}

/** @param {Row} row */
function overviewKey(row) {
  return row.name;
}

/** @param {Row} row */
function overviewText(row) {
  return row.text;
}

/** @param {string} order */
function setOrder(order) {
  setQuery({ sort: order });
}

/** @param {{search: string, filter: string, rows: Row[], shown: number}} props */
function Toolbar({ search, filter, rows, shown }) {
  return html`<form class="toolbar" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <label class="field">Search<input type="search" data-search value=${search} autocomplete="off"
      onInput=${valueTo((q) => setQuery({ q }))} /></label>
    <label class="field">Show<select value=${filter} onChange=${valueTo((show) => setQuery({ show }))}>
      ${FILTERS.map(([name, title, keep]) => html`<option key=${name} value=${name}>${title} (${rows.filter(keep).length})</option>`)}
    </select></label>
    <p class="muted" role="status">${shown} of ${rows.length} models</p>
  </form>`;
}

/** @type {import("../app.js").View} */
export const overviewView = { title: () => "Models", component: Overview };
