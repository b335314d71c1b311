// The dialogs of the whole console, search and help, and the line of keys at the bottom.

import { html, Signal, useAsync, useSignal, useState, valueTo } from "../lib/html.js";
import { get } from "../lib/api.js";
import { globalKeys, keysOn, toggleKeys, viewKeys } from "../lib/keys.js";
import { navigate, pathTo } from "../lib/router.js";
import { Dialog } from "./dialog.js";
import { ErrorBox } from "./notes.js";

/** @typedef {import("../lib/keys.js").Keys} Keys */

const overlay = new Signal(/** @type {"" | "search" | "help"} */ (""));
const MOST_FOUND = 20;

/**
 * Opens a dialog of the console. A view with an own search field (`[data-search]`) gets the focus there.
 * @param {"search" | "help"} name
 */
export function openOverlay(name) {
  const field = document.querySelector("[data-search]");
  if (name === "search" && field instanceof HTMLElement && field.getClientRects().length) field.focus();
  else overlay.value = name;
}

function closeOverlay() {
  overlay.value = "";
}

export function Overlays() {
  const shown = useSignal(overlay);
  if (shown === "search") return html`<${SearchOverlay} />`;
  return shown === "help" ? html`<${Help} />` : null;
}

/** @typedef {{title: string, path: string}} Target */

/** @type {Target[]} */
const PLACES = [
  { title: "Models", path: "/console/models" },
  { title: "Fleet", path: "/console/fleet" },
  { title: "Timeline", path: "/console/timeline" },
  { title: "Access", path: "/console/access" },
];
const FOUND_PAGES = ["traffic", "rollouts", "monitor", "retraining", "try"];

/**
 * Returns what a search finds: pages and models by name, and pages of a model by "model page".
 * @param {string} text
 * @param {string[]} models
 * @returns {Target[]}
 */
export function findTargets(text, models) {
  const parts = text.toLowerCase().split(/\s+/).filter(Boolean);
  const targets = [...PLACES, ...models.map((name) => ({ title: name, path: pathTo("models", name) }))];
  if (parts.length > 1) {
    for (const name of models) for (const page of FOUND_PAGES) targets.push({ title: `${name} ${page}`, path: pathTo("models", name, page) });
  }
  return targets.filter(({ title }) => parts.every((part) => title.toLowerCase().includes(part))).slice(0, MOST_FOUND);
}

function SearchOverlay() {
  const [text, setText] = useState("");
  const { value, error } = useAsync(() => get("/models"), []);
  const names = (value?.models || []).map((/** @type {{name: string}} */ model) => model.name);
  const found = findTargets(text, names);
  /** @param {string} path */
  function go(path) {
    closeOverlay();
    navigate(path);
  }
  return html`<${Dialog} title="Search" onClose=${closeOverlay}>
    <form onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      if (found[0]) go(found[0].path);
    }}>
      <label class="field">Model or page<input type="search" autofocus autocomplete="off" value=${text}
        onInput=${valueTo(setText)} /></label>
    </form>
    <${ErrorBox} error=${error} />
    <ul class="found" aria-label="Found">${found.map(({ title, path }) => html`<li key=${path}><button type="button" class="button quiet" onClick=${() => go(path)}>${title}</button></li>`)}</ul>
    ${!found.length && html`<p class="muted">Nothing has this name.</p>`}
  <//>`;
}

function Help() {
  const on = useSignal(keysOn);
  const own = useSignal(viewKeys);
  return html`<${Dialog} title="Keys" onClose=${closeOverlay}>
    <${KeyList} title="On this page" keys=${own} />
    <${KeyList} title="Everywhere" keys=${globalKeys.value} />
    <label class="row"><input type="checkbox" checked=${on} onChange=${toggleKeys} /> Single keys are on</label>
  <//>`;
}

/** @param {{title: string, keys: Keys}} props */
function KeyList({ title, keys }) {
  const entries = Object.entries(keys);
  if (!entries.length) return null;
  return html`<h3>${title}</h3><dl class="facts">${entries.map(([key, [text]]) => html`<dt key=${key}><kbd>${key}</kbd></dt><dd>${text}</dd>`)}</dl>`;
}

/** The keys of the present view and the first ones of the console, drawn on the page. */
export function KeyHints() {
  const own = useSignal(viewKeys);
  const on = useSignal(keysOn);
  if (!on) return null;
  const shown = [...Object.entries(own), ...Object.entries(globalKeys.value).slice(0, 5)];
  return html`<p class="small muted">${shown.map(([key, [text]]) => html`<span class="key" key=${key}><kbd>${key}</kbd> ${text}</span>${" "}`)}</p>`;
}
