// Dialogs on the browser's own element, which keeps the focus inside and gives it back.

import { html, useEffect, useRef } from "../lib/html.js";

/**
 * Shows its children as a modal dialog until it is closed by Esc, by its button, or by its parent.
 * @param {{title: string, onClose: () => void, children?: any, wide?: boolean}} props
 */
export function Dialog({ title, onClose, children, wide }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog?.showModal();
    // The browser would begin at the button that closes it.
    if (!dialog?.querySelector("[autofocus]")) dialog?.querySelector("h2")?.focus();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return html`<dialog ref=${element} class=${wide ? "wide" : ""} aria-label=${title} onCancel=${(/** @type {Event} */ event) => {
    event.preventDefault();
    onClose();
  }}>
    <div class="row between"><h2 tabindex="-1">${title}</h2>
      <button type="button" class="button quiet" aria-label="Close" onClick=${onClose}>✕</button></div>
    ${children}
  </dialog>`;
}
