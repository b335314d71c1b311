// How long ago something was, kept current while it is on the page.

import { html, Signal, useSignal } from "../lib/html.js";
import { ago, time } from "../lib/format.js";

const REDRAW_MS = 15000;

const now = new Signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, REDRAW_MS);

/**
 * Shows how long ago a time is; the time itself is its title.
 * @param {{at: string | number | null | undefined}} props an ISO 8601 text, or seconds since the epoch
 */
export function Ago({ at }) {
  return html`<time class="small muted" title=${time(at)}>${ago(at, Math.max(useSignal(now), Date.now()))}</time>`;
}
