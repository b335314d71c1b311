// Two versions of a model side by side: metrics, signature, metadata, admission, latency, and their answers in shadow.

import { html, useAsync, useSignal } from "../lib/html.js";
import { get } from "../lib/api.js";
import { milliseconds, number, signed } from "../lib/format.js";
import { useTopic } from "../lib/live.js";
import { link, pathTo, route, setQuery } from "../lib/router.js";
import { Empty, ErrorBox, Loading } from "../components/notes.js";
import { Table } from "../components/table.js";
import { VersionSelect } from "../components/version-actions.js";
import { admissionFacts } from "../models/admission.js";
import { compareMetadata, compareMetrics, compareSignatures, row } from "../models/compare.js";

/** @typedef {import("../components/version-actions.js").Model} Model */
/** @typedef {import("../models/compare.js").Version} Version */
/** @typedef {import("../models/compare.js").Row} Row */

/** @param {{params: Record<string, string>}} props */
function CompareView({ params }) {
  const name = params.model ?? "";
  /** @type {Model | null} */
  const model = useTopic(`model:${name}`);
  const { query } = useSignal(route);
  if (!model) return html`<${Loading} />`;
  if (!model.versions.length) return html`<${Empty}>The model has no versions.<//>`;
  const [a, b] = chosen(model.versions, query.a ?? "", query.b ?? "");
  return html`<div class="toolbar">
      <label class="field">Version <${VersionSelect} versions=${model.versions} value=${a.version} onChange=${(/** @type {string} */ value) => setQuery({ a: value })} /></label>
      <label class="field">with <${VersionSelect} versions=${model.versions} value=${b.version} onChange=${(/** @type {string} */ value) => setQuery({ b: value })} /></label>
    </div>
    <${Metrics} a=${a} b=${b} />
    <${Rows} title="Signature" rows=${compareSignatures(a, b)} a=${a} b=${b} />
    <${LatencyTable} model=${name} a=${a} b=${b} />
    <${Rows} title="Admission" rows=${compareAdmission(a, b)} a=${a} b=${b} />
    <${Rows} title="Metadata" rows=${compareMetadata(a, b)} a=${a} b=${b} />
    <${Shadow} model=${name} versions=${[a, b]} />`;
}

/**
 * The versions to compare: those of the query, else the two newest.
 * @param {Version[]} versions
 * @param {string} a
 * @param {string} b
 * @returns {[Version, Version]}
 */
function chosen(versions, a, b) {
  const last = /** @type {Version} */ (versions.at(-1));
  const find = (/** @type {string} */ name) => versions.find((item) => item.version === name);
  return [find(a) ?? versions.at(-2) ?? last, find(b) ?? last];
}

/** @param {{a: Version, b: Version}} props */
function Metrics({ a, b }) {
  const columns = [
    { key: "name", title: "Metric", sort: true },
    { key: "a", title: `Version ${a.version}`, align: /** @type {const} */ ("end"), cell: (/** @type {any} */ item) => number(item.a, 5) },
    { key: "b", title: `Version ${b.version}`, align: /** @type {const} */ ("end"), cell: (/** @type {any} */ item) => number(item.b, 5) },
    { key: "delta", title: "Difference", align: /** @type {const} */ ("end"), cell: (/** @type {any} */ item) => signed(item.delta), sort: true },
  ];
  return html`<section aria-labelledby="metrics"><h2 id="metrics">Metrics</h2>
    <${Table} caption="Metrics of both" columns=${columns} rows=${compareMetrics(a, b)} empty="Neither was pushed with metrics." /></section>`;
}

/** @param {{title: string, rows: Row[], a: Version, b: Version}} props */
function Rows({ title, rows, a, b }) {
  const id = title.toLowerCase();
  const columns = [
    { key: "name", title: "What", sort: true },
    { key: "a", title: `Version ${a.version}`, cell: (/** @type {Row} */ item) => html`<span class="long">${item.a}</span>` },
    { key: "b", title: `Version ${b.version}`, cell: (/** @type {Row} */ item) => html`<span class="long">${item.b}</span>` },
    { key: "difference", title: "Difference", cell: (/** @type {Row} */ item) => html`<span class="badge ${item.difference === "same" ? "good" : "warn"}">${item.difference}</span>`, sort: true },
  ];
  return html`<section aria-labelledby=${id}><h2 id=${id}>${title}</h2>
    <${Table} caption="${title} of both" columns=${columns} rows=${rows} empty="Neither has any." /></section>`;
}

/**
 * @param {Version} a
 * @param {Version} b
 */
function compareAdmission(a, b) {
  const [first, second] = [a, b].map((item) => Object.fromEntries(admissionFacts(item).map((fact) => [fact.name, fact.text])));
  const names = [...new Set([...Object.keys(first ?? {}), ...Object.keys(second ?? {})])];
  return names.map((name) => row(name, first?.[name], second?.[name]));
}

const LONGEST_CELL = 200;
const QUANTILES = [["p50", "p50"], ["p90", "p90"], ["p99", "p99"], ["p999", "p99.9"]];
const DIGITS = 4;

/** @param {{model: string, a: Version, b: Version}} props */
function LatencyTable({ model, a, b }) {
  const path = (/** @type {Version} */ version) => `/models/${encodeURIComponent(model)}/monitor?columns=1&version=${encodeURIComponent(version.version)}`;
  const { value, error, again } = useAsync(() => Promise.all([a, b].map((item) => getServed(item, path(item)))), [model, a.version, b.version]);
  const [first, second] = (value ?? []).map((document) => (document?.latency?.count ? document.latency : null));
  const rows = QUANTILES.map(([key = "", name]) => ({ name, a: first?.[key], b: second?.[key] }));
  const columns = [
    { key: "name", title: "Quantile" },
    { key: "a", title: `Version ${a.version}`, align: /** @type {const} */ ("end"), cell: (/** @type {any} */ item) => milliseconds(item.a) },
    { key: "b", title: `Version ${b.version}`, align: /** @type {const} */ ("end"), cell: (/** @type {any} */ item) => milliseconds(item.b) },
  ];
  return html`<section aria-labelledby="latency"><h2 id="latency">Latency</h2><${ErrorBox} error=${error} again=${again} />
    <${Table} caption="Latency of both" columns=${columns} rows=${value && (first || second) ? rows : []} empty="Neither has answered a request." />
    ${value && (first || second) && html`<p class="small muted">${number(first?.count ?? 0)} and ${number(second?.count ?? 0)} requests</p>`}</section>`;
}

/** What is counted of a version; null for one that is not served. @param {Version} version @param {string} path */
async function getServed(version, path) {
  return version.state === "RETIRED" || version.state === "UNAVAILABLE" ? null : get(path).catch(() => null);
}

/** @param {{model: string, versions: Version[]}} props */
function Shadow({ model, versions }) {
  const path = (/** @type {Version} */ item) => `/models/${encodeURIComponent(model)}/shadow/${encodeURIComponent(item.version)}`;
  const { value } = useAsync(() => Promise.all(versions.map((item) => getServed(item, path(item)))), [model, ...versions.map((item) => item.version)]);
  const found = (value ?? []).filter((document) => document && document.pairs > 0);
  return html`<section aria-labelledby="shadow"><h2 id="shadow">Answers in shadow</h2>
    ${!found.length && html`<${Empty}>Neither has answered in shadow here.<//>`}
    ${found.map((document) => html`<${ShadowTable} key=${document.version} model=${model} document=${document} />`)}</section>`;
}

/** @param {{model: string, document: any}} props */
function ShadowTable({ model, document }) {
  const samples = (document.samples ?? []).slice(0, 5).map((/** @type {any} */ sample, /** @type {number} */ index) => ({ ...sample, index: String(index + 1) }));
  const columns = [
    { key: "index", title: "Request", cell: (/** @type {any} */ item) => item.id || item.index },
    { key: "answer", title: "Answered", cell: (/** @type {any} */ item) => html`<code class="long">${outputsText(item.outputs)}</code>` },
    { key: "shadow", title: `Version ${document.version} would have`, cell: (/** @type {any} */ item) => html`<code class="long">${outputsText(item.shadow_outputs)}</code>` },
  ];
  return html`<p>Version ${document.version}: ${number(document.disagreements)} of ${number(document.pairs)} answers differ.${" "}
      <a href=${link(pathTo("models", model, "shadow", document.version))}>All of them</a></p>
    <${Table} caption="Requests on which version ${document.version} differs most" columns=${columns} rows=${samples} empty="No answer differs." />`;
}

/** @param {string} _ @param {unknown} value */
function roundedMetric(_, value) {
  return typeof value === "number" ? Number(value.toPrecision(DIGITS)) : value;
}

/** @param {{name: string, data: unknown}[] | undefined} outputs */
function outputsText(outputs) {
  const text = (outputs ?? []).map((output) => `${output.name} ${JSON.stringify(output.data, roundedMetric)}`).join(" ");
  return text.length > LONGEST_CELL ? `${text.slice(0, LONGEST_CELL)}…` : text;
}

/** @type {import("../app.js").View} */
export const compareView = { title: (params) => `${params.model}: compare versions`, component: CompareView };
