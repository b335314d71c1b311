// Who you are and what you may do, and the API keys that you administer.

import { html, useAsync, useSignal, useState, valueTo } from "../lib/html.js";
import { get, send } from "../lib/api.js";
import { usePermissions, whoami } from "../lib/access.js";
import { useTopic } from "../lib/live.js";
import { ago, time } from "../lib/format.js";
import { Dialog } from "../components/dialog.js";
import { Permitted, Empty, ErrorBox, Loading } from "../components/notes.js";
import { ReasonDialog } from "../components/reason-dialog.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";

/** @typedef {{id: string, name: string, roles: string[], models: string[], state: string, created_at: string, created_by: string,
 *     expires_at: string | null, quota?: Record<string, number> | null}} Key */
/** @typedef {{name: string, key: string, accepted: boolean}} Made */
/** @typedef {{kind: "create"} | {kind: "rotate" | "revoke", key: Key}} Task */

const ROLES = ["caller", "viewer", "operator", "publisher", "approver", "admin"];
const METHODS = /** @type {Record<string, string>} */ ({
  anonymous: "nobody checks: this gateway has no authentication",
  unix: "by the socket on this machine",
  key: "by an API key",
  oidc: "by a token of an identity provider",
  mtls: "by a client certificate",
});

function Access() {
  const caller = useSignal(whoami);
  if (!caller) return html`<${Loading} />`;
  return html`<h2>You</h2><${Caller} caller=${caller} /><h2>API keys</h2><${Keys} caller=${caller} />`;
}

/** @param {{caller: import("../lib/access.js").Caller}} props */
function Caller({ caller }) {
  const grants = caller.grants.map((grant) => html`<li key=${grant.models}>${grant.roles.join(", ") || grant.permissions.join(", ")} – ${grant.models === "*" ? "all models" : html`models <code>${grant.models}</code>`}</li>`);
  return html`<dl class="facts">
    <dt>Name</dt><dd>${caller.name}</dd>
    <dt>Known</dt><dd>${METHODS[caller.method] || caller.method}</dd>
    ${caller.groups.length > 0 && html`<dt>Groups</dt><dd>${caller.groups.join(", ")}</dd>`}
    ${caller.expires_at && html`<dt>Until</dt><dd>${time(caller.expires_at)}</dd>`}
    <dt>Roles</dt><dd>${grants.length ? html`<ul class="plain">${grants}</ul>` : "none"}</dd>
  </dl>`;
}

/**
 * Why the caller sees no keys; "" if it does.
 * @param {import("../lib/access.js").Caller} caller
 * @param {string} reason why it may not administer all models
 */
function reasonAgainst(caller, reason) {
  if (caller.method === "anonymous") return "Keys need a credential, or the gateway's own user: penstock keys list";
  const some = caller.grants.some((grant) => grant.permissions.includes("administer"));
  return some ? "" : reason;
}

/** @param {{caller: import("../lib/access.js").Caller}} props */
function Keys({ caller }) {
  const against = reasonAgainst(caller, usePermissions("")("administer").reason);
  return html`<${Permitted} reason=${against}><${KeyTable} /><//>`;
}

function KeyTable() {
  const { value, error, again } = useAsync(() => get("/keys"), [useTopic("timeline")?.models[""]]);
  const [task, setTask] = useState(/** @type {Task | null} */ (null));
  const [made, setMade] = useState(/** @type {Made | null} */ (null));
  if (error) return html`<${ErrorBox} error=${error} again=${again} />`;
  if (!value) return html`<${Empty}>Loading …<//>`;
  const close = () => setTask(null);
  const done = (/** @type {any} */ result) => {
    if (result.key) setMade(result);
    again();
  };
  return html`<p><button type="button" class="button primary" onClick=${() => setTask({ kind: "create" })}>Create a key</button></p>
    <${Table} caption="API keys" columns=${keyColumns(setTask)} rows=${value.keys} keyOf=${(/** @type {Key} */ key) => key.id} empty="No keys yet." />
    ${task?.kind === "create" && html`<${CreateKey} onClose=${close} onDone=${done} />`}
    ${task?.kind === "rotate" && html`<${RotateKey} name=${task.key.name} onClose=${close} onDone=${done} />`}
    ${task?.kind === "revoke" && html`<${RevokeKey} subject=${task.key} onClose=${close} onDone=${done} />`}
    ${made && html`<${NewKey} made=${made} onClose=${() => setMade(null)} />`}`;
}

/**
 * @param {(task: Task) => void} begin
 * @returns {import("../components/table.js").Column<Key>[]}
 */
function keyColumns(begin) {
  return [
    { key: "name", title: "Name", sort: true, cell: (key) => html`${key.name} <code class="small muted">${key.id}</code>` },
    { key: "state", title: "State", sort: true, cell: (key) => html`<${State} value=${key.state} kind=${key.state === "valid" ? "good" : ""} />` },
    { key: "roles", title: "Roles", sort: (key) => key.roles.join(), cell: (key) => key.roles.join(", ") },
    { key: "models", title: "Models", sort: (key) => key.models.join(), cell: (key) => key.models.join(", ") },
    { key: "created_at", title: "Created", sort: true, cell: (key) => html`<span title=${time(key.created_at)}>${ago(key.created_at)} by ${key.created_by}</span>` },
    { key: "expires_at", title: "Expires", sort: true, cell: (key) => (key.expires_at ? html`<span title=${time(key.expires_at)}>${ago(key.expires_at)}</span>` : "never") },
    { key: "actions", title: "Actions", cell: (key) => html`<${KeyActions} subject=${key} begin=${begin} />` },
  ];
}

/** @param {{subject: Key, begin: (task: Task) => void}} props */
function KeyActions({ subject, begin }) {
  if (subject.state !== "valid") return null;
  return html`<div class="row">
    <button type="button" class="button quiet" aria-label="Rotate ${subject.name}" onClick=${() => begin({ kind: "rotate", key: subject })}>Rotate</button>
    <button type="button" class="button quiet danger" aria-label="Revoke ${subject.name} ${subject.id}" onClick=${() => begin({ kind: "revoke", key: subject })}>Revoke</button>
  </div>`;
}

/** @typedef {{onClose: () => void, onDone: (result: any) => void}} DialogProps */

/** @param {DialogProps} props */
function CreateKey({ onClose, onDone }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState("caller");
  const [models, setModels] = useState("*");
  const [days, setDays] = useState("90");
  const body = () => ({
    name,
    roles: [role],
    models: models.split(/[\s,]+/).filter(Boolean),
    ...(days ? { expires_days: Number(days) } : {}),
  });
  return html`<${ReasonDialog} title="Create a key" action="Create" optional onClose=${onClose} onDone=${onDone}
    perform=${(/** @type {{reason: string}} */ { reason }) => send("POST", "/keys", body(), { reason })}>
    <label class="field">Name<input required maxlength="128" value=${name} onInput=${valueTo(setName)} /></label>
    <label class="field">Role<select value=${role} onChange=${valueTo(setRole)}>${ROLES.map((item) => html`<option key=${item}>${item}</option>`)}</select></label>
    <label class="field">Models, such as fraud-* (* is all)<input required value=${models} onInput=${valueTo(setModels)} /></label>
    <label class="field">Days until it expires (empty: never)<input type="number" min="1" value=${days} onInput=${valueTo(setDays)} /></label>
  <//>`;
}

/** @param {DialogProps & {name: string}} props */
function RotateKey({ name, onClose, onDone }) {
  return html`<${ReasonDialog} title="Rotate ${name}" action="Rotate" optional onClose=${onClose} onDone=${onDone}
    perform=${(/** @type {{reason: string}} */ { reason }) => send("POST", `/keys/${encodeURIComponent(name)}/rotate`, {}, { reason })}>
    <p>A new key takes the place of the present one, which ends a day later.</p>
  <//>`;
}

/** @param {DialogProps & {subject: Key}} props */
function RevokeKey({ subject, onClose, onDone }) {
  return html`<${ReasonDialog} title="Revoke ${subject.name}" action="Revoke" danger onClose=${onClose} onDone=${onDone}
    perform=${(/** @type {{reason: string}} */ { reason }) => send("DELETE", `/keys/${encodeURIComponent(subject.id)}`, {}, { reason })}>
    <p>The key <code>${subject.id}</code> is refused from now on, and sessions that were begun with it end.</p>
  <//>`;
}

/** @param {{made: Made, onClose: () => void}} props */
function NewKey({ made, onClose }) {
  const [copied, setCopied] = useState(false);
  const copy = () => navigator.clipboard.writeText(made.key).then(() => setCopied(true));
  return html`<${Dialog} title="The key of ${made.name}" onClose=${onClose}>
    <p>Keep it now: it is shown this once.</p>
    <pre tabindex="0" aria-label="The key">${made.key}</pre>
    ${made.accepted === false && html`<div class="note warn"><p>This gateway does not accept keys: set <code>auth.keys</code>.</p></div>`}
    <div class="row end">${navigator.clipboard && html`<button type="button" class="button" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>`}
      <button type="button" class="button primary" onClick=${onClose}>I have it</button></div>
  <//>`;
}

/** @type {import("../app.js").View} */
export const accessView = { title: () => "Access", component: Access };
