// Parts of the views of columns: the evidence on its way to an alarm, tables of effect sizes and bins, and alarms.

import { html } from "../lib/html.js";
import { ago, number, percent, time } from "../lib/format.js";
import { binsOf, effectsOf, progressOf, retrainingOf, signedPercent } from "../lib/evidence.js";
import { kindText, sentenceOf } from "../lib/timeline.js";
import { link, pathTo } from "../lib/router.js";
import { State } from "./state.js";
import { Table } from "./table.js";

/** @typedef {Record<string, any>} Document */

/**
 * Shows evidence (natural logarithm) beside what an alarm needs.
 * @param {{value: number, threshold?: number | null}} props
 */
export function Evidence({ value, threshold }) {
  const text = threshold ? `${number(value)} of ${number(threshold)}` : number(value);
  return html`<span class="measure"><meter min="0" max="1" value=${progressOf(value, threshold)} aria-label="evidence ${text}"></meter> ${text}</span>`;
}

/** @param {{column: Document}} props */
export function EffectTable({ column }) {
  return html`<${Table} caption="Effect sizes of ${column.name}" rows=${effectsOf(column)} columns=${[
    { key: "name", title: "Effect size", cell: (/** @type {Document} */ row) => html`${row.name} <span class="small muted">${row.hint}</span>` },
    { key: "value", title: "Value", align: "end" },
    { key: "limit", title: "By chance at most", align: "end" },
    { key: "exceeds", title: "Judgement", cell: (/** @type {Document} */ row) => column.rows > 0 && row.limit !== null && html`<${State} value=${row.exceeds ? "more than chance" : "within chance"} kind=${row.exceeds ? "warn" : "good"} />` },
  ]} />`;
}

/** @param {{column: Document}} props */
export function BinTable({ column }) {
  return html`<${Table} caption="Bins of ${column.name}" rows=${binsOf(column)} columns=${[
    { key: "bin", title: "Bin" },
    { key: "count", title: "Rows", align: "end", sort: true },
    { key: "share", title: "Window", align: "end", sort: true, cell: (/** @type {Document} */ row) => percent(row.share) },
    { key: "reference", title: "Reference", align: "end", sort: true, cell: (/** @type {Document} */ row) => percent(row.reference) },
    { key: "change", title: "Change", align: "end", sort: (/** @type {Document} */ row) => Math.abs(row.change), cell: (/** @type {Document} */ row) => (column.rows ? signedPercent(row.change) : "–") },
  ]} />`;
}

/**
 * Shows alarms of the time line, each with the traffic of that moment and the request for retraining that it caused.
 * @param {{model: string, alarms: Document[], requests: Document[]}} props
 */
export function Alarms({ model, alarms, requests }) {
  return html`<${Table} caption="Alarms" rows=${alarms} empty="No alarms yet." columns=${[
    { key: "seq", title: "When", cell: (/** @type {Document} */ entry) => html`<time datetime=${entry.at} title=${time(entry.at)}>${ago(entry.at)}</time>` },
    { key: "kind", title: "What", cell: (/** @type {Document} */ entry) => html`<div class="sentence" title=${sentenceOf(entry)}><strong>${kindText(entry.kind)}</strong> ${sentenceOf(entry)}</div>` },
    { key: "links", title: "See also", cell: (/** @type {Document} */ entry) => html`<${AlarmLinks} model=${model} alarm=${entry} requests=${requests} />` },
  ]} />`;
}

/** @param {{model: string, alarm: Document, requests: Document[]}} props */
function AlarmLinks({ model, alarm, requests }) {
  const request = retrainingOf(alarm, requests);
  const around = `model=${encodeURIComponent(model)}&entry=event-`;
  return html`<a href=${link(`${pathTo("models", model, "traffic")}?at=${encodeURIComponent(alarm.at)}`)}>requests a second</a> · <a href=${link(`/console/timeline?${around}${alarm.seq}`)}>event</a>
    ${request && html` · <a href=${link(`/console/timeline?${around}${request.seq}`)}>retraining request</a> (${ago(request.at)})`}`;
}
