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
 * Shows an action, or in its place why the caller may not do it.
 * @param {{reason: string, action?: string, children?: any}} props `reason` is "" if the caller may
 */
export function Permitted({ reason, action, children }) {
  if (!reason) return children;
  return html`<p class="denied muted">${action ? `${action}: ` : ""}${reason}</p>`;
}
