// What may be done with a version and with the aliases of its model: each asks for the reason, and rests on a revision.

import { html, useState, valueTo } from "../lib/html.js";
import { usePermissions, whoami } from "../lib/access.js";
import { get, send } from "../lib/api.js";
import { Permitted } from "./notes.js";
import { ReasonDialog } from "./reason-dialog.js";
import { aliasFault, aliasTargetFault } from "../models/versions.js";

/** @typedef {import("../models/compare.js").Version} Version */
/** @typedef {{name: string, revision: number, aliases: Record<string, string>, alias_history?: Record<string, string[]>, versions: Version[], settings: Record<string, any>, reason?: string, problem?: string}} Model */
/** @typedef {{model: Model, onClose: () => void, onDone: (result: any) => void}} ActionProps */

const CHAMPION = "champion";

/** @param {string} name */
const versionPath = (name) => `/models/${encodeURIComponent(name)}`;

/** Fetches what the aliases are after a conflict. @param {string} name */
async function presentAliases(name) {
  const model = await get(versionPath(name));
  const changes = Object.entries(model.aliases).map(([alias, version]) => ({ label: alias, before: version, after: "" }));
  return { revision: model.revision, changes };
}

/**
 * Moves an alias to a version, or makes a new one.
 * @param {ActionProps & {version: string, alias?: string}} props
 */
export function AliasDialog({ model, version, alias, onClose, onDone }) {
  const [name, setName] = useState(alias ?? CHAMPION);
  const [target, setTarget] = useState(version);
  const [force, setForce] = useState(false);
  const before = model.aliases[name];
  const chosen = model.versions.find((item) => item.version === target);
  const fault = aliasFault(name) || (chosen ? aliasTargetFault(chosen) : "");
  return html`<${ReasonDialog} title="Move an alias" action="Move" revision=${model.revision} onClose=${onClose} onDone=${onDone}
    changes=${[{ label: name || "alias", before: before ?? "new", after: target }]} current=${() => presentAliases(model.name)}
    perform=${(/** @type {any} */ how) => send("PUT", `${versionPath(model.name)}/aliases/${encodeURIComponent(name)}`, { version: target, force }, how)}>
    <label class="field">Alias <input list="aliases" value=${name} required maxlength="64" onInput=${valueTo(setName)} /></label>
    <datalist id="aliases">${Object.keys(model.aliases).map((item) => html`<option key=${item} value=${item} />`)}</datalist>
    <label class="field">Version <${VersionSelect} versions=${model.versions} value=${target} onChange=${setTarget} /></label>
    ${fault && html`<p class="bad" role="alert">${fault}</p>`}
    <${ForceBox} checked=${force} onChange=${setForce} />
  <//>`;
}

/**
 * Moves an alias back to the version that it had before.
 * @param {ActionProps & {alias: string}} props
 */
export function RollbackDialog({ model, alias, onClose, onDone }) {
  const [force, setForce] = useState(false);
  const before = (model.alias_history?.[alias] ?? []).at(-1);
  return html`<${ReasonDialog} title="Roll back ${alias}" action="Roll back" danger revision=${model.revision} onClose=${onClose} onDone=${onDone}
    changes=${[{ label: alias, before: model.aliases[alias] ?? "none", after: before ?? "the version before the newest" }]}
    current=${() => presentAliases(model.name)}
    perform=${(/** @type {any} */ how) => send("POST", `${versionPath(model.name)}/rollback`, { alias, force }, how)}>
    <${ForceBox} checked=${force} onChange=${setForce} />
  <//>`;
}

/** @param {ActionProps & {alias: string}} props */
export function DropAliasDialog({ model, alias, onClose, onDone }) {
  const [force, setForce] = useState(false);
  return html`<${ReasonDialog} title="Remove ${alias}" action="Remove" danger revision=${model.revision} onClose=${onClose} onDone=${onDone}
    changes=${[{ label: alias, before: model.aliases[alias], after: "none" }]} current=${() => presentAliases(model.name)}
    perform=${(/** @type {any} */ how) => send("DELETE", `${versionPath(model.name)}/aliases/${encodeURIComponent(alias)}`, { force }, how)}>
    <${ForceBox} checked=${force} onChange=${setForce} />
  <//>`;
}

/** @param {ActionProps & {version: string}} props */
export function RetireDialog({ model, version, onClose, onDone }) {
  const [force, setForce] = useState(false);
  return html`<${ReasonDialog} title="Retire version ${version}" action="Retire" danger revision=${model.revision} onClose=${onClose} onDone=${onDone}
    changes=${[{ label: `version ${version}`, before: "in service", after: "retired for good; its name stays taken" }]}
    current=${() => presentAliases(model.name)}
    perform=${(/** @type {any} */ how) => send("DELETE", `${versionPath(model.name)}/versions/${encodeURIComponent(version)}`, { force }, how)}>
    <label class="row"><input type="checkbox" checked=${force} onChange=${(/** @type {any} */ event) => setForce(event.currentTarget.checked)} /> Also if an open rollout or experiment needs it</label>
  <//>`;
}

/** @param {ActionProps & {version: string}} props */
export function ApproveDialog({ model, version, onClose, onDone }) {
  return html`<${ReasonDialog} title="Approve version ${version}" action="Approve" optional onClose=${onClose} onDone=${onDone}
    changes=${[{ label: `version ${version}`, before: "without your approval", after: "approved by you" }]}
    perform=${(/** @type {any} */ how) => send("POST", `${versionPath(model.name)}/versions/${encodeURIComponent(version)}/approve`, null, how)} />`;
}

/**
 * The buttons of a version; what the caller may not do is absent, with the reason.
 * @param {{model: Model, version: Version, onDone: (result: any) => void}} props
 */
export function VersionActions({ model, version, onDone }) {
  const [open, setOpen] = useState("");
  const close = () => setOpen("");
  const shared = { model, version: version.version, onClose: close, onDone };
  const may = usePermissions(model.name);
  const [operate, push] = [may("operate"), may("push")];
  const approve = isOwn(version) ? { allowed: false, reason: "You have pushed this version; somebody else approves it." } : may("approve");
  const isRetired = version.state === "RETIRED";
  return html`<div class="row">
      ${operate.allowed && !isRetired && html`<button type="button" class="button" onClick=${() => setOpen("alias")}>Move an alias here</button>`}
      ${approve.allowed && !isRetired && html`<button type="button" class="button" onClick=${() => setOpen("approve")}>Approve</button>`}
      ${push.allowed && !isRetired && html`<button type="button" class="button danger" onClick=${() => setOpen("retire")}>Retire</button>`}
    </div>
    <${Permitted} action="Move an alias" reason=${operate.reason} />
    <${Permitted} action="Approve" reason=${approve.reason} />
    <${Permitted} action="Retire" reason=${push.reason} />
    ${open === "alias" && html`<${AliasDialog} ...${shared} />`}
    ${open === "approve" && html`<${ApproveDialog} ...${shared} />`}
    ${open === "retire" && html`<${RetireDialog} ...${shared} />`}`;
}

/** Whether the caller has pushed a version, which nobody approves themselves. @param {Version} version */
function isOwn(version) {
  const caller = whoami.value;
  return caller !== null && caller.method !== "anonymous" && caller.name === version.created_by;
}

/** @param {{versions: Version[], value: string, onChange: (version: string) => void}} props */
export function VersionSelect({ versions, value, onChange }) {
  return html`<select value=${value} onChange=${valueTo(onChange)}>
    ${versions.map((item) => html`<option key=${item.version} value=${item.version}>${item.version} (${item.state.toLowerCase()})</option>`)}
  </select>`;
}

/** @param {{checked: boolean, onChange: (checked: boolean) => void}} props */
function ForceBox({ checked, onChange }) {
  return html`<label class="row"><input type="checkbox" checked=${checked} onChange=${(/** @type {any} */ event) => onChange(event.currentTarget.checked)} />
    Also while a route decides who answers</label>`;
}
