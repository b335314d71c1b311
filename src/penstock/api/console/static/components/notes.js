// Short notes in place of content: nothing there, still loading, failed, or not allowed.

import { html } from "../lib/html.js";

/**
 * Says that a list is empty, and what to do about it.
 * @param {{children?: any}} props
 */
export function Empty({ children }) {
  return html`<p class="muted">${children || "None."}</p>`;
}

/** Stands for a view without data; what the server has rendered stays visible until none is left on the page. */
export function Loading() {
  return html`<p class="muted" data-loading role="status">Loading …</p>`;
}

/**
 * Shows a failed call, with a button to try it again.
 * @param {{error: Error | null, again?: () => void}} props
 */
export function ErrorBox({ error, again }) {
  if (!error) return null;
  return html`<div class="note bad" role="alert">
    <p>${error.message}</p>
    ${again && html`<button type="button" class="button" onClick=${again}>Try again</button>`}
  </div>`;
}

/**
 * Stands in the place of an action that the caller may not do, with the reason.
 * @param {{reason: string, action?: string}} props
 */
export function Denied({ reason, action }) {
  return html`<p class="denied muted">${action ? `${action}: ` : ""}${reason}</p>`;
}
