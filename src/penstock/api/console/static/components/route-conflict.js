// Both sides of a conflict about a route: what it was, what somebody else has made of it, and what one wants.

import { html } from "../lib/html.js";
import { time } from "../lib/format.js";
import { sidesOf } from "../lib/routes.js";

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
    <div class="scroll" tabindex="0" role="region" aria-label="Both sides of the conflict"><table>
      <caption class="hidden">Both sides of the conflict</caption>
      <thead><tr><th scope="col">What</th><th scope="col">It was</th><th scope="col">It is now</th><th scope="col">You want</th></tr></thead>
      <tbody>${sides.map((side) => html`<tr key=${side.label}><th scope="row">${side.label}${side.clashes ? html` <span class="badge bad">both changed it</span>` : ""}</th>
        <td>${side.base}</td><td>${side.present}</td><td>${side.own}</td></tr>`)}</tbody>
    </table></div>
    ${sides.length ? null : html`<p>The route is as it was; something else of the model has changed.</p>`}
  </div>`;
}
