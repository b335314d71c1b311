// Keys of the whole console and of the present view. Single keys can be switched off (WCAG 2.1.4).

import { Signal } from "./html.js";
import { recall, remember } from "./page.js";

/** @typedef {Record<string, [string, () => void]>} Keys by key, or two keys after each other such as "g m": what it does */

const SEQUENCE_MS = 1500;

/** Whether single keys do something. */
export const keysOn = new Signal(recall("keys") !== "off");

/** The keys of the whole console. @type {{value: Keys}} */
export const globalKeys = { value: {} };

/** The keys of the present view. */
export const viewKeys = new Signal(/** @type {Keys} */ ({}));

let pending = "";
let pendingUntil = 0;

/** Switches single keys on or off, and remembers it. */
export function toggleKeys() {
  keysOn.value = !keysOn.value;
  remember("keys", keysOn.value ? "on" : "off");
}

/** @param {KeyboardEvent} event */
function pressKey(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
  const known = { ...globalKeys.value, ...viewKeys.value };
  const key = event.timeStamp < pendingUntil && pending ? `${pending} ${event.key}` : event.key;
  pending = "";
  const action = known[key];
  if (action && (keysOn.value || key === "Escape")) {
    event.preventDefault();
    action[1]();
  } else if (Object.keys(known).some((name) => name.startsWith(`${event.key} `))) {
    pending = event.key;
    pendingUntil = event.timeStamp + SEQUENCE_MS;
  }
}

/**
 * Whether a key belongs to a field or a dialog, not to the page.
 * @param {KeyboardEvent} event
 */
function isTyping(event) {
  const target = event.target;
  if (!(target instanceof HTMLElement)) return false;
  if (target.closest("dialog")) return true;
  if (event.key === "Enter") return target.closest("a, button, input, select, textarea, summary") !== null;
  return event.key !== "Escape" && target.closest("input, select, textarea, [contenteditable]") !== null;
}

/**
 * Moves the focus to the next or previous row of the page's tables.
 * @param {number} step 1 or -1
 */
export function moveRow(step) {
  const rows = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("[data-row]")].filter(isShown));
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step))];
  if (!next) return;
  next.tabIndex = -1;
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

/** @param {Element} element */
function isShown(element) {
  return element.getClientRects().length > 0;
}

/** Opens the first link of the row that has the focus. */
export function openRow() {
  const row = document.activeElement?.closest("[data-row]");
  /** @type {HTMLElement | null | undefined} */ (row?.querySelector("a[href], button"))?.click();
}

/** Leaves a field; where there is none, nothing happens. */
export function leaveField() {
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
}

/** Begins to listen to keys. */
export function startKeys() {
  document.addEventListener("keydown", pressKey);
}
