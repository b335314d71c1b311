// The start of the console in the browser: finds the view of the address, loads it, and shows it in the server's frame.

import { html, render, useEffect, useRef, useSignal, useState } from "./lib/html.js";
import { loadWhoami } from "./lib/access.js";
import { globalKeys, leaveField, moveRow, openRow, startKeys, viewKeys } from "./lib/keys.js";
import { startLive } from "./lib/live.js";
import { announce } from "./lib/page.js";
import { match, navigate, route, startRouter } from "./lib/router.js";
import { ErrorBox, Loading } from "./components/notes.js";
import { KeyHints, Overlays, openOverlay } from "./components/overlays.js";
import { Status } from "./components/status.js";
import { Tabs } from "./components/tabs.js";

/**
 * @typedef {object} View
 * @property {(params: Record<string, string>) => string} title
 * @property {(props: {params: Record<string, string>}) => any} component
 * @property {import("./lib/keys.js").Keys | ((params: Record<string, string>) => import("./lib/keys.js").Keys)} [keys]
 */

/** Path, name and module of each view, which exports the view as `NAMEView`; `api/console/routes.py` has the same paths. The order is one that compresses well. @type {[string, string, () => Promise<Record<string, any>>][]} */
const VIEWS = [
  ["/console/models", "overview", () => import("./views/overview.js")],
  ["/console/models/:model/try", "try", () => import("./views/try.js")],
  ["/console/models/:model/versions/:version", "version", () => import("./views/version.js")],
  ["/console/models/:model/compare", "compare", () => import("./views/compare.js")],
  ["/console/models/:model", "model", () => import("./views/model.js")],
  ["/console/models/:model/shadow/:version", "shadow", () => import("./views/shadow.js")],
  ["/console/models/:model/traffic", "traffic", () => import("./views/traffic.js")],
  ["/console/models/:model/experiments/:id", "experiment", () => import("./views/experiment.js")],
  ["/console/models/:model/rollouts", "rollouts", () => import("./views/rollouts.js")],
  ["/console/fleet", "fleet", () => import("./views/fleet.js")],
  ["/console/models/:model/rollouts/:id", "rollout", () => import("./views/rollout.js")],
  ["/console/access", "access", () => import("./views/access.js")],
  ["/console/timeline", "timeline", () => import("./views/timeline.js")],
  ["/console/models/:model/monitor", "monitor", () => import("./views/monitor.js")],
  ["/console/models/:model/retraining", "retraining", () => import("./views/retraining.js")],
  ["/console/models/:model/monitor/:column*", "column", () => import("./views/column.js")],
];

/** @typedef {{view: View, path: string, params: Record<string, string>}} Shown */

/** @param {string} path */
function findView(path) {
  for (const [pattern, name, load] of VIEWS) {
    const params = match(pattern, path);
    if (params) return { name, load, params };
  }
  return null;
}

/** Loads the view of a path. @param {string} path @returns {Promise<Shown>} */
async function loadView(path) {
  const found = findView(path);
  if (!found) throw new Error("The console has no such page.");
  const module = await found.load();
  return { view: module[`${found.name}View`], path, params: found.params };
}

/** The view of the present address, with the heading and the tabs of its model. */
function App() {
  const { path } = useSignal(route);
  const [shown, setShown] = useState(/** @type {Shown | null} */ (null));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const isFirst = useRef(true);
  useEffect(() => {
    let isCurrent = true;
    if (!isFirst.current) forgetFirstPaint();
    loadView(path).then(
      (loaded) => {
        if (!isCurrent) return;
        enter(loaded, isFirst.current);
        isFirst.current = false;
        setError(null);
        setShown(loaded);
      },
      (caught) => isCurrent && setError(caught),
    );
    return () => {
      isCurrent = false;
    };
  }, [path]);
  if (error) return html`<${ErrorBox} error=${error} again=${() => location.reload()} />`;
  if (!shown) return html`<${Loading} />`;
  const { view, params } = shown;
  return html`
    <h1 tabindex="-1">${view.title(params)}</h1>
    ${params.model && html`<${Tabs} model=${params.model} />`}
    <${view.component} key=${shown.path} params=${params} />`;
}

/**
 * Sets title and keys of a view; after the first one also says its title, and moves the focus to the content.
 * @param {Shown} shown
 * @param {boolean} isFirst
 */
function enter({ view, path, params }, isFirst) {
  const title = view.title(params);
  document.title = `${title} · Penstock`;
  route.value = { ...route.value, path, params };
  viewKeys.value = (typeof view.keys === "function" ? view.keys(params) : view.keys) || {};
  markPlace(path);
  if (isFirst) return;
  announce(title);
  document.getElementById("main")?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

/** What the server has rendered belongs to the address of the first view. */
function forgetFirstPaint() {
  document.getElementById("first-paint")?.remove();
}

/** Removes what the server has rendered as soon as no part of the view is loading any more. */
function replaceFirstPaint() {
  const app = document.getElementById("app");
  if (!app) return;
  const observer = new MutationObserver(() => {
    if (!app.firstElementChild || app.querySelector("[data-loading]")) return;
    observer.disconnect();
    forgetFirstPaint();
  });
  observer.observe(app, { childList: true, subtree: true, attributes: true });
}

/** Links of the frame are relative to the first address of the page, which changes with the view. */
function keepAddresses() {
  for (const element of document.querySelectorAll("link, a")) element.setAttribute("href", /** @type {HTMLAnchorElement} */ (element).href);
  for (const form of document.forms) form.setAttribute("action", form.action);
}

/** Marks the place of a path in the navigation. @param {string} path */
function markPlace(path) {
  for (const anchor of document.querySelectorAll("header nav a")) {
    const place = new URL(/** @type {HTMLAnchorElement} */ (anchor).href).pathname;
    if (location.pathname.startsWith(place) && path.startsWith("/console/")) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
}

/** @param {string} id */
function mount(id, /** @type {any} */ content) {
  const parent = document.getElementById(id);
  if (!parent) return;
  parent.replaceChildren();
  render(content, parent);
}

globalKeys.value = {
  "/": ["search", () => openOverlay("search")],
  "?": ["help", () => openOverlay("help")],
  j: ["next row", () => moveRow(1)],
  k: ["previous row", () => moveRow(-1)],
  Enter: ["open the row", openRow],
  "g m": ["models", () => navigate("/console/models")],
  "g f": ["fleet", () => navigate("/console/fleet")],
  "g t": ["timeline", () => navigate("/console/timeline")],
  "g a": ["access", () => navigate("/console/access")],
  Escape: ["leave a field or a dialog", leaveField],
};
keepAddresses();
replaceFirstPaint();
startRouter();
startKeys();
startLive();
loadWhoami().catch(() => undefined);
mount("status", html`<${Status} />`);
mount("keys", html`<${KeyHints} />`);
mount("dialogs", html`<${Overlays} />`);
mount("app", html`<${App} />`);
