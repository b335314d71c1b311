// Addresses of views: paths in the history, filters in the query. Links of the console are followed without a new page.

import { Signal } from "./html.js";
import { address, base } from "./page.js";

/** @typedef {{path: string, params: Record<string, string>, query: Record<string, string>}} Route */

/** The present route; `params` are those of the view's path. */
export const route = new Signal(/** @type {Route} */ ({ path: addressPath(location.href), params: {}, query: addressQuery() }));

/**
 * Returns the address of a path of the console for a link; names in it must be encoded (see `pathTo`).
 * @param {string} path such as "/console/models/x?sort=name"
 */
export function link(path) {
  return address(path);
}

/**
 * Joins names to a path of the console: pathTo("models", name, "rollouts").
 * @param {...string} steps
 */
export function pathTo(...steps) {
  return `/console/${steps.map(encodeURIComponent).join("/")}`;
}

/**
 * Goes to a path of the console.
 * @param {string} path
 */
export function navigate(path) {
  history.pushState(null, "", address(path));
  read();
}

/**
 * Changes values of the query in place; null or "" removes one.
 * @param {Record<string, string | null>} changes
 */
export function setQuery(changes) {
  const next = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    if (value) next.searchParams.set(name, value);
    else next.searchParams.delete(name);
  }
  history.replaceState(null, "", next);
  read();
}

function read() {
  route.value = { path: addressPath(location.href), params: route.value.params, query: addressQuery() };
}

/** @param {string} href */
function addressPath(href) {
  return `/${new URL(href).pathname.slice(base.pathname.length)}`;
}

function addressQuery() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

/**
 * Matches a path with a pattern such as "/console/models/:model"; ":column*" takes the rest of a path.
 * @param {string} pattern
 * @param {string} path
 * @returns {Record<string, string> | null} the parameters, decoded
 */
export function match(pattern, path) {
  const names = [...pattern.matchAll(/:(\w+)\*?/g)].map((found) => found[1] || "");
  const source = pattern.replace(/:\w+\*/g, "(.+)").replace(/:\w+/g, "([^/]+)");
  const found = new RegExp(`^${source}/?$`).exec(path);
  if (!found) return null;
  return Object.fromEntries(names.map((name, index) => [name, decode(found[index + 1] || "")]));
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @param {MouseEvent} event */
function follow(event) {
  const anchor = event.target instanceof Element ? event.target.closest("a[href]") : null;
  if (!(anchor instanceof HTMLAnchorElement) || !isPlain(event, anchor)) return;
  event.preventDefault();
  navigate(anchor.href.slice(address("/").length - 1));
}

/**
 * Whether a click on a link stays in the console and in this tab.
 * @param {MouseEvent} event
 * @param {HTMLAnchorElement} anchor
 */
function isPlain(event, anchor) {
  if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return false;
  if (anchor.target || anchor.hasAttribute("download") || anchor.getAttribute("href")?.startsWith("#")) return false;
  return anchor.href.startsWith(address("/console/")) && !anchor.href.includes("/console/sign-");
}

/** Begins to follow links and the buttons of the browser. */
export function startRouter() {
  document.addEventListener("click", follow);
  addEventListener("popstate", read);
}
