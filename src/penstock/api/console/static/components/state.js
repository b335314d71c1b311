// A state as a badge: a text with a shape of its own, never a colour alone.

import { html } from "../lib/html.js";

/** @typedef {"good" | "warn" | "bad" | ""} Kind */

/** @type {Record<string, Kind>} */
const STATE_KINDS = {
  READY: "good", LOADING: "warn", UNLOADING: "warn", UNAVAILABLE: "bad",
  ready: "good", alive: "good", ok: "good", pass: "good", promoted: "good", delivered: "good", live: "good",
  running: "warn", paused: "warn", held: "warn", starting: "warn", stale: "warn", silent: "warn", insufficient_data: "", undecided: "",
  drift: "bad", fail: "bad", rolled_back: "bad", dead: "bad", absent: "bad",
};

/**
 * Shows a state of the admin API; `kind` overrides how good it is.
 * @param {{value: string, kind?: Kind, title?: string}} props
 */
export function State({ value, kind, title }) {
  const shown = kind ?? STATE_KINDS[value] ?? "";
  return html`<span class="badge ${shown}" title=${title}>${value.replaceAll("_", " ")}</span>`;
}
