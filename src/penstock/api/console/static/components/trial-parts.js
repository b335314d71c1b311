// What the pages of rollouts and experiments share: their actions with keys, and the history of their changes.

import { html, useEffect, useState } from "../lib/html.js";
import { usePermissions } from "../lib/access.js";
import { send } from "../lib/api.js";
import { basisPoints, time } from "../lib/format.js";
import { viewKeys } from "../lib/keys.js";
import { Permitted } from "./notes.js";
import { ReasonDialog } from "./reason-dialog.js";
import { State } from "./state.js";
import { Table } from "./table.js";

/** @typedef {import("../lib/rollouts.js").Action} Action */

/**
 * Offers what may be done with a trial; what the caller may not do is absent, with the reason.
 * @param {{model: string, path: string, actions: Action[], what: string, onDone: () => void}} props `path` is the trial's
 *     in the admin API
 */
export function Actions({ model, path, actions, what, onDone }) {
  const [asking, setAsking] = useState(/** @type {Action | null} */ (null));
  const may = usePermissions(model);
  const allowed = actions.filter((action) => may(action.permission).allowed);
  const denied = actions.filter((action) => !allowed.includes(action));
  const shown = allowed.map((action) => action.verb).join(" ");
  useEffect(() => {
    viewKeys.value = Object.fromEntries(allowed.map((action) => [action.key, [action.title.toLowerCase(), () => setAsking(action)]]));
  }, [shown]);
  return html`<div class="toolbar">${allowed.map((action) => html`<button type="button" key=${action.verb} class="button ${action.danger ? "danger" : ""}" onClick=${() => setAsking(action)}>${action.title} … <kbd aria-hidden="true">${action.key}</kbd></button>`)}</div>
    ${denied.map((action) => html`<${Permitted} key=${action.verb} action=${action.title} reason=${may(action.permission).reason} />`)}
    ${asking && html`<${ReasonDialog} title="${asking.title}: ${what}" action=${asking.title} danger=${asking.danger} onClose=${() => setAsking(null)} onDone=${onDone}
      perform=${(/** @type {any} */ how) => send("POST", `${path}/${asking.verb}`, {}, { reason: how.reason })}><p>${asking.says}</p><//>`}`;
}

/**
 * Shows who did what, when and why, the newest first.
 * @param {{changes: any[]}} props
 */
export function TrialHistory({ changes }) {
  const columns = [
    { key: "seq", title: "When", cell: (/** @type {any} */ change) => time(change.at), sort: true },
    { key: "actor", title: "Who", sort: true },
    { key: "action", title: "What", cell: (/** @type {any} */ change) => change.action.replaceAll("_", " "), sort: true },
    { key: "state", title: "After it", cell: (/** @type {any} */ change) => stateAfter(change) },
    { key: "reason", title: "Why", cell: (/** @type {any} */ change) => change.reason || "–" },
  ];
  return html`<section><h2>History</h2><${Table} caption="Changes of this trial" columns=${columns} rows=${[...changes].reverse()} /></section>`;
}

/** @param {any} change */
function stateAfter(change) {
  if (!change.state) return "–";
  return html`<${State} value=${change.state} /> ${change.weight === undefined ? "" : basisPoints(change.weight)}`;
}
