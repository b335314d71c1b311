// Events and changes on one line of time: filtered in the address, each with its object, its person and its difference.

import { html, useAsync, useEffect, useMemo, useSignal, useState, valueTo } from "../lib/html.js";
import { get } from "../lib/api.js";
import { ago, time } from "../lib/format.js";
import { useDocument } from "../lib/refresh.js";
import { link, pathTo, route, setQuery } from "../lib/router.js";
import { KINDS, diffRows, joinPages, keyOf, kindText, leftOut, objectOf, placeOf, queryOf, sentenceOf, severityOf } from "../lib/timeline.js";
import { ErrorBox, Loading } from "../components/notes.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";

/** @typedef {Record<string, any>} Document */

const FILTER_MS = 300;

/** @type {import("../app.js").View} */
export const timelineView = { title: () => "Timeline", component: Timeline };

function Timeline() {
  const { query } = useSignal(route);
  const path = `/timeline${queryOf({ model: query.model, kind: query.kind, person: query.person })}`;
  const { value, error, again } = useDocument(path, "timeline");
  if (error && !value) return html`<${Filters} query=${query} /><${ErrorBox} error=${error} again=${again} />`;
  if (!value) return html`<${Loading} />`;
  return html`<${Filters} query=${query} />
    <${ErrorBox} error=${error} again=${again} />
    <${Entries} key=${path} path=${path} newest=${value} query=${query} />`;
}

/** @param {{query: Record<string, string>}} props */
function Filters({ query }) {
  const models = useAsync(() => get("/models"), []);
  const names = (models.value?.models || []).map((/** @type {Document} */ model) => model.name);
  return html`<form class="toolbar" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <label class="field">Model <${TextFilter} name="model" value=${query.model || ""} list="timeline-models" /></label>
    <datalist id="timeline-models">${names.map((/** @type {string} */ name) => html`<option key=${name} value=${name} />`)}</datalist>
    <label class="field">Kind
      <select value=${query.kind || ""} onChange=${(/** @type {{currentTarget: HTMLSelectElement}} */ event) => setQuery({ kind: event.currentTarget.value, entry: null })}>
        ${KINDS.map(([kind, text]) => html`<option key=${kind} value=${kind}>${text}</option>`)}
      </select></label>
    <label class="field">Person <${TextFilter} name="person" value=${query.person || ""} /></label>
    ${(query.model || query.kind || query.person || query.entry) && html`<button type="button" class="button" onClick=${() => setQuery({ model: null, kind: null, person: null, entry: null })}>Show everything</button>`}
  </form>`;
}

/** @param {{name: string, value: string, list?: string}} props */
function TextFilter({ name, value, list }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    const timer = setTimeout(() => text !== value && setQuery({ [name]: text, entry: null }), FILTER_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return html`<input type="search" data-search=${name === "model"} name=${name} list=${list} value=${text} autocomplete="off"
    onInput=${valueTo(setText)} />`;
}

/** @param {{path: string, newest: Document, query: Record<string, string>}} props */
function Entries({ path, newest, query }) {
  const [older, setOlder] = useState(/** @type {{entries: Document[], next: string | null | undefined}} */ ({ entries: [], next: undefined }));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const rows = useMemo(() => joinPages(newest.entries, older.entries), [newest, older]);
  const next = older.next === undefined ? newest.next : older.next;
  const chosen = chosenOf(rows, query.entry);
  useEffect(() => {
    if (chosen) document.querySelector("tr.chosen")?.scrollIntoView({ block: "center" });
  }, [chosen && keyOf(chosen)]);

  async function load() {
    try {
      const page = await get(`${path}${path.includes("?") ? "&" : "?"}before=${encodeURIComponent(next || "")}`);
      setOlder({ entries: joinPages(rows, page.entries), next: page.next });
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
    }
  }

  return html`<${Table} caption="Events and changes, newest first" rows=${rows} keyOf=${keyOf} columns=${TIMELINE_COLUMNS}
      rowClass=${(/** @type {Document} */ entry) => (entry === chosen ? "chosen" : "")} empty="Nothing matches." />
    ${query.entry && !chosen && next && html`<p class="muted">The entry you look for is older.</p>`}
    <${ErrorBox} error=${error} />
    ${next ? html`<button type="button" class="button" onClick=${load}>Show older</button>` : html`<p class="muted">This is the beginning; changes before it may be in an archive of the audit.</p>`}`;
}

/**
 * Returns the entry that the address names: by source and number, or by the id of an event.
 * @param {Document[]} rows
 * @param {string | undefined} name
 */
function chosenOf(rows, name) {
  return name ? rows.find((entry) => keyOf(entry) === name || entry.id === name) : undefined;
}

const TIMELINE_COLUMNS = [
  { key: "at", title: "When", cell: (/** @type {Document} */ entry) => html`<time datetime=${entry.at} title=${ago(entry.at)}>${time(entry.at)}</time>` },
  { key: "kind", title: "What", cell: (/** @type {Document} */ entry) => html`<${State} value=${kindText(entry.kind)} kind=${severityOf(entry.kind)} title=${entry.source === "audit" ? "a change" : "an event"} />` },
  { key: "model", title: "Object", cell: (/** @type {Document} */ entry) => html`<${Subject} entry=${entry} />` },
  { key: "person", title: "Who", cell: (/** @type {Document} */ entry) => entry.person && html`<a href=${link(`/console/timeline?person=${encodeURIComponent(entry.person)}`)}>${entry.person}</a>` },
  { key: "details", title: "Details", cell: (/** @type {Document} */ entry) => html`<${Details} entry=${entry} />` },
];

/** @param {{entry: Document}} props */
function Subject({ entry }) {
  const place = placeOf(entry);
  const text = objectOf(entry);
  return html`${entry.model && html`${entry.model}: `}${place ? html`<a href=${link(pathTo(...place))}>${text}</a>` : text}`;
}

/** @param {{entry: Document}} props */
function Details({ entry }) {
  const sentence = sentenceOf(entry);
  return html`${sentence && html`<div class="sentence" title=${sentence}>${sentence}</div>`}
    ${entry.changes?.length > 0 && html`<details><summary>Before and after</summary><${Diff} entry=${entry} /></details>`}
    ${entry.data && html`<details><summary>Data of the event</summary><pre>${JSON.stringify(entry.data, null, 2)}</pre></details>`}`;
}

/** @param {{entry: Document}} props */
function Diff({ entry }) {
  const more = leftOut(entry.changes);
  return html`<ul class="diff">${diffRows(entry.changes).map((row) => html`<li key=${row.path}><code>${row.path}</code>
      ${row.sign !== "+" && html`<del>− ${row.before}</del>`} ${row.sign !== "−" && html`<ins>+ ${row.after}</ins>`}</li>`)}</ul>
    ${more > 0 && html`<p class="small muted">and ${more} more</p>`}`;
}
