// Editors of what a route has beside its split: the sticky header, rules, and shadows.

import { html, valueTo } from "../lib/html.js";
import { ChoiceField } from "./choice-field.js";
import { link, pathTo } from "../lib/router.js";

/** @typedef {import("../lib/routes.js").Rule} Rule */
/** @typedef {import("../lib/routes.js").Shadow} Shadow */
/** @typedef {{currentTarget: HTMLInputElement & HTMLSelectElement}} FieldEvent */

/**
 * Edits the header by which callers stay with their version; empty for none.
 * @param {{sticky: string | null, onChange: (sticky: string | null) => void}} props
 */
export function StickyEditor({ sticky, onChange }) {
  const name = (sticky || "").replace(/^header:/, "");
  return html`<label class="field">Sticky by header
    <input type="text" value=${name} placeholder="x-user-id" maxlength="64" autocomplete="off" spellcheck=${false}
      onInput=${(/** @type {FieldEvent} */ event) => onChange(event.currentTarget.value.trim() ? `header:${event.currentTarget.value.trim().toLowerCase()}` : null)} />
    <span class="small">Requests with the same value stay with the same version. Empty: each request is drawn anew.</span>
  </label>`;
}

/**
 * Edits rules, which are tried in their order before the split.
 * @param {{rules: Rule[], versions: string[], onChange: (rules: Rule[]) => void}} props
 */
export function RulesEditor({ rules, versions, onChange }) {
  const change = (/** @type {number} */ at, /** @type {Partial<Rule>} */ part) => onChange(rules.map((rule, index) => (index === at ? { ...rule, ...part } : rule)));
  return html`<fieldset><legend>Rules before the split</legend>
    ${rules.length ? null : html`<p class="muted small">None. A rule sends requests with a certain header to one version.</p>`}
    ${rules.map((rule, index) => html`<div class="row" role="group" aria-label="Rule ${index + 1}" key=${index}>
      <label class="field">Header<input type="text" value=${rule.header} maxlength="64" spellcheck=${false} onInput=${(/** @type {FieldEvent} */ event) => change(index, { header: event.currentTarget.value.trim().toLowerCase() })} /></label>
      <label class="field">is<input type="text" value=${rule.equals} maxlength="256" spellcheck=${false} onInput=${valueTo((equals) => change(index, { equals }))} /></label>
      <${ChoiceField} title="goes to" value=${rule.version} choices=${versions} onChange=${(/** @type {string} */ version) => change(index, { version })} />
      <button type="button" class="button quiet" disabled=${index === 0} aria-label="Try rule ${index + 1} earlier" onClick=${() => onChange(swapped(rules, index))}>Up</button>
      <button type="button" class="button quiet" aria-label="Remove rule ${index + 1}" onClick=${() => onChange(rules.filter((_, at) => at !== index))}>Remove</button>
    </div>`)}
    <button type="button" class="button" onClick=${() => onChange([...rules, { header: "", equals: "", version: versions[0] || "" }])}>Add a rule</button>
  </fieldset>`;
}

/**
 * Returns a list in which an element has changed places with the one before it.
 * @template T
 * @param {T[]} items
 * @param {number} at
 * @returns {T[]}
 */
function swapped(items, at) {
  const copy = [...items];
  const [one, other] = copy.splice(at - 1, 2);
  if (one !== undefined && other !== undefined) copy.splice(at - 1, 0, other, one);
  return copy;
}

/**
 * Edits shadows: versions that answer copies of requests, unseen by callers.
 * @param {{model: string, shadow: Shadow[], versions: string[], onChange: (shadow: Shadow[]) => void}} props
 */
export function ShadowEditor({ model, shadow, versions, onChange }) {
  const free = versions.filter((version) => shadow.every((item) => item.version !== version));
  const change = (/** @type {number} */ at, /** @type {Partial<Shadow>} */ part) => onChange(shadow.map((item, index) => (index === at ? { ...item, ...part } : item)));
  return html`<fieldset><legend>Shadows</legend>
    ${shadow.length ? null : html`<p class="muted small">None. A shadow answers copies of requests; callers do not see its answers.</p>`}
    ${shadow.map((item, index) => html`<div class="row" role="group" aria-label="Shadow ${item.version}" key=${item.version}>
      <${ChoiceField} title="Version" value=${item.version} choices=${[item.version, ...free]} onChange=${(/** @type {string} */ version) => change(index, { version })} />
      <label class="field">percent of the requests<input type="number" min="0" max="100" step="any" value=${item.percent} onInput=${(/** @type {FieldEvent} */ event) => change(index, { percent: Number(event.currentTarget.value) })} /></label>
      <a href=${link(pathTo("models", model, "shadow", item.version))}>Disagreements</a>
      <button type="button" class="button quiet" aria-label="Remove shadow ${item.version}" onClick=${() => onChange(shadow.filter((_, at) => at !== index))}>Remove</button>
    </div>`)}
    <button type="button" class="button" disabled=${!free.length} onClick=${() => onChange([...shadow, { version: free[0] || "", percent: 100 }])}>Add a shadow</button>
  </fieldset>`;
}
