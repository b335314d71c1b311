// Both sides of a conflict about a route: what it was, what somebody else has made of it, and what one wants.

import { html } from "../lib/html.js";
import { time } from "../lib/format.js";
import { sidesOf } from "../lib/routes.js";
import { Table } from "./table.js";

/** @typedef {import("../lib/routes.js").Route} Route */
/** @typedef {{actor: string, reason: string, at: string, action: string, subject: string}} Entry a change in the audit */

/**
 * Shows both sides as a table, and who changed it.
 * @param {{base: Route, present: Route, own: Route, entries: Entry[]}} props
 */
export function RouteConflict({ base, present, own, entries }) {
  const sides = sidesOf(base, present, own);
  return html`<div>
    <ul class="small">${entries.map((entry) => html`<li key=${entry.at + entry.subject}><strong>${entry.actor}</strong>, ${time(entry.at)}: ${entry.action}${entry.reason ? html` – “${entry.reason}”` : ""}</li>`)}</ul>
    <${Table} caption="Both sides of the conflict" rows=${sides} empty="The route is as it was; something else of the model has changed." columns=${[
      { key: "label", title: "What", cell: (/** @type {import("../lib/routes.js").Side} */ side) => html`${side.label}${side.clashes && html` <span class="badge bad">both changed it</span>`}` },
      { key: "base", title: "It was" },
      { key: "present", title: "It is now" },
      { key: "own", title: "You want" },
    ]} />
  </div>`;
}
