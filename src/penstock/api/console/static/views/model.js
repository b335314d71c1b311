// The page of a model: who answers, its versions and aliases, a push, and how versions come and go.

import { Fragment, html, useState } from "../lib/html.js";
import { usePermissions } from "../lib/access.js";
import { get, send } from "../lib/api.js";
import { ago, bytes, milliseconds, rate } from "../lib/format.js";
import { useTopic } from "../lib/live.js";
import { link, navigate, pathTo } from "../lib/router.js";
import { Bar } from "../components/bar.js";
import { Digest, Facts } from "../components/facts.js";
import { Permitted, Loading } from "../components/notes.js";
import { PushForm } from "../components/push-form.js";
import { ReasonDialog } from "../components/reason-dialog.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";
import { AliasDialog, DropAliasDialog, RollbackDialog } from "../components/version-actions.js";
import { nextVersion } from "../models/versions.js";

/** @typedef {import("../components/version-actions.js").Model} Model */
/** @typedef {import("../models/compare.js").Version} Version */

/** @param {{params: Record<string, string>}} props */
function ModelView({ params }) {
  const name = params.model ?? "";
  const live = useTopic(`model:${name}`);
  const route = useTopic(`route:${name}`);
  const traffic = useTopic("traffic");
  const [fresh, setFresh] = useState(/** @type {Model | null} */ (null));
  /** @type {Model | null} */
  const model = newest(live, fresh);
  if (!model) return html`<${Loading} />`;
  const again = async () => setFresh(await get(`/models/${encodeURIComponent(name)}`));
  return html`
    ${model.reason && html`<div class="note bad" role="alert"><p>${model.reason}</p></div>`}
    ${model.problem && html`<div class="note warn"><p>${model.problem}</p></div>`}
    <${CurrentRoute} model=${name} route=${route} />
    <${VersionTable} model=${model} traffic=${traffic?.models?.[name]} />
    <${Aliases} model=${model} onDone=${again} />
    <${Push} model=${model} onDone=${again} />
    <${Settings} model=${model} onDone=${again} />`;
}

/**
 * The document with the highest revision: what a change has answered may be newer than the stream.
 * @param {Model | null} live
 * @param {Model | null} fresh
 */
function newest(live, fresh) {
  if (!live || !fresh) return live ?? fresh;
  return fresh.revision > live.revision ? fresh : live;
}

/** @param {{model: string, route: any}} props */
function CurrentRoute({ model, route }) {
  if (!route) return null;
  const parts = Object.entries(route.split).map(([version, share]) => ({ name: version, share: Number(share) }));
  return html`<section aria-labelledby="answers"><h2 id="answers">Who answers</h2>
    <${Bar} parts=${parts} label="Split" />
    <p class="muted">${answersText(route.answers)} <a href=${link(pathTo("models", model, "traffic"))}>Traffic</a></p></section>`;
}

/** @param {unknown} answers */
function answersText(answers) {
  return typeof answers === "string" ? answers : "";
}

/** @param {{model: Model, traffic: any}} props */
function VersionTable({ model, traffic }) {
  const name = model.name;
  /** @type {import("../components/table.js").Column<Version>[]} */
  const columns = [
    { key: "version", title: "Version", cell: (row) => html`<a href=${link(pathTo("models", name, "versions", row.version))}>${row.version}</a>`, sort: true },
    { key: "state", title: "State", cell: (row) => html`<${State} value=${row.state} title=${row.reason} />${row.reason && html`<br /><span class="small muted">${row.reason}</span>`}`, sort: true },
    { key: "aliases", title: "Aliases", cell: (row) => row.aliases.join(", "), sort: (row) => row.aliases.join() },
    { key: "rate", title: "Requests", align: "end", cell: (row) => rate(traffic?.versions?.[row.version]?.requests_per_second), sort: (row) => traffic?.versions?.[row.version]?.requests_per_second },
    { key: "run", title: "Run time", align: "end", hint: "of one row, at admission", cell: (row) => milliseconds(runTime(row)), sort: runTime },
    { key: "memory", title: "Memory", align: "end", hint: "at admission", cell: (row) => bytes(memory(row)), sort: memory },
    { key: "size", title: "Size", align: "end", cell: (row) => bytes(row.size), sort: true },
    { key: "digest", title: "Digest", cell: (row) => html`<${Digest} value=${row.digest} />` },
    { key: "created_at", title: "Pushed", cell: (row) => html`${ago(row.created_at)}${row.created_by && html` by ${row.created_by}`}`, sort: true },
  ];
  return html`<section aria-labelledby="versions"><div class="row between"><h2 id="versions">Versions</h2>
      ${model.versions.length > 1 && html`<a class="button" href=${link(pathTo("models", name, "compare"))}>Compare versions</a>`}</div>
    <${Table} caption="Versions of ${name}" columns=${columns} rows=${model.versions} empty="No versions yet." /></section>`;
}

/** @param {Version} version */
function runTime(version) {
  const us = version.admission?.p50_us;
  return typeof us === "number" ? us / 1000 : null;
}

/** @param {Version} version */
function memory(version) {
  const size = version.admission?.memory_bytes;
  return typeof size === "number" ? size : null;
}

/** @param {{model: Model, onDone: () => void}} props */
function Aliases({ model, onDone }) {
  const [open, setOpen] = useState(/** @type {{kind: string, alias: string} | null} */ (null));
  const allowed = usePermissions(model.name)("operate");
  const rows = Object.entries(model.aliases).map(([alias, version]) => ({ alias, version, earlier: model.alias_history?.[alias] ?? [] }));
  /** @type {import("../components/table.js").Column<typeof rows[number]>[]} */
  const columns = [
    { key: "alias", title: "Alias", sort: true },
    { key: "version", title: "Version", cell: (row) => html`<a href=${link(pathTo("models", model.name, "versions", row.version))}>${row.version}</a>` },
    { key: "earlier", title: "Earlier", cell: (row) => row.earlier.slice(-5).reverse().join(", ") },
  ];
  if (allowed.allowed)
    columns.push({ key: "change", title: "Change", cell: (row) => html`<div class="row">${["Move", "Roll back", "Remove"].map((kind) => html`<button type="button" key=${kind} class="button quiet" aria-label="${kind} ${row.alias}" onClick=${() => setOpen({ kind, alias: row.alias })}>${kind}</button>`)}</div>` });
  const shared = { model, alias: open?.alias ?? "", onClose: () => setOpen(null), onDone };
  const ready = model.versions.filter((item) => item.state === "READY").at(-1);
  return html`<section aria-labelledby="aliases-title"><div class="row between"><h2 id="aliases-title">Aliases</h2>
      ${allowed.allowed && ready && html`<button type="button" class="button" onClick=${() => setOpen({ kind: "New", alias: "" })}>New alias</button>`}</div>
    <${Table} caption="Aliases of ${model.name}" columns=${columns} rows=${rows} empty="No aliases: without a route, the newest ready version answers." />
    <${Permitted} action="Move aliases" reason=${allowed.reason} />
    ${open?.kind === "Move" && html`<${AliasDialog} ...${shared} version=${model.aliases[open.alias] ?? ""} />`}
    ${open?.kind === "New" && html`<${AliasDialog} ...${shared} alias=${undefined} version=${ready?.version ?? ""} />`}
    ${open?.kind === "Roll back" && html`<${RollbackDialog} ...${shared} />`}
    ${open?.kind === "Remove" && html`<${DropAliasDialog} ...${shared} />`}</section>`;
}

/** @param {{model: Model, onDone: () => void}} props */
function Push({ model, onDone }) {
  const allowed = usePermissions(model.name)("push");
  return html`<section aria-labelledby="push"><h2 id="push">Push a version</h2>
    <${Permitted} reason=${allowed.reason}><${PushForm} key=${model.name} model=${model.name} proposed=${nextVersion(model.versions)} onPushed=${onDone} /><//></section>`;
}

/** @param {{model: Model, onDone: () => void}} props */
function Settings({ model, onDone }) {
  const [open, setOpen] = useState(false);
  const allowed = usePermissions(model.name)("operate");
  const { versions, transition, keep_warm_seconds: warm } = model.settings;
  return html`<section aria-labelledby="settings"><div class="row between"><h2 id="settings">Settings</h2>
      ${allowed.allowed && html`<button type="button" class="button" onClick=${() => setOpen(true)}>Change settings</button>`}</div>
    <${Facts} pairs=${[["versions served", versions], ["transition", TRANSITIONS[transition] ?? transition], ["kept warm", `${warm} s after a version has gone`]]} />
    <${Permitted} action="Change settings" reason=${allowed.reason} />
    ${open && html`<${SettingsDialog} model=${model} onClose=${() => setOpen(false)} onDone=${onDone} />`}</section>`;
}

/** @type {Record<string, string>} */
const TRANSITIONS = {
  availability: "availability: the new version is loaded before the old one goes",
  resources: "resources: the old version goes before the new one is loaded",
};

/** @param {{model: Model, onClose: () => void, onDone: () => void}} props */
function SettingsDialog({ model, onClose, onDone }) {
  const [values, setValues] = useState(model.settings);
  /** @param {string} name @param {unknown} value */
  const set = (name, value) => setValues({ ...values, [name]: value });
  const changes = Object.keys(values).filter((name) => values[name] !== model.settings[name]).map((name) => ({ label: name, before: String(model.settings[name]), after: String(values[name]) }));
  const path = `/models/${encodeURIComponent(model.name)}/settings`;
  return html`<${ReasonDialog} title="Settings of ${model.name}" action="Change" revision=${model.revision} changes=${changes} onClose=${onClose} onDone=${onDone}
    current=${async () => ({ revision: (await get(path)).revision, summary: null })}
    perform=${(/** @type {any} */ how) => send("PUT", path, values, how)}>
    <${Fragment}>
      <label class="field">Versions: all, latest:N or specific:V,V <input value=${values.versions} required onInput=${(/** @type {any} */ event) => set("versions", event.currentTarget.value)} /></label>
      <label class="field">Transition <select value=${values.transition} onChange=${(/** @type {any} */ event) => set("transition", event.currentTarget.value)}>
        ${Object.keys(TRANSITIONS).map((item) => html`<option key=${item} value=${item}>${item}</option>`)}</select></label>
      <label class="field">Seconds that a version stays loaded after it has gone <input type="number" min="0" max="604800" value=${values.keep_warm_seconds} required onInput=${(/** @type {any} */ event) => set("keep_warm_seconds", Number(event.currentTarget.value))} /></label>
    <//>
  <//>`;
}

/** @type {import("../app.js").View} */
export const modelView = {
  title: (params) => params.model ?? "",
  keys: (params) => ({
    c: ["compare versions", () => navigate(pathTo("models", params.model ?? "", "compare"))],
    t: ["try it", () => navigate(pathTo("models", params.model ?? "", "try"))],
  }),
  component: ModelView,
};
