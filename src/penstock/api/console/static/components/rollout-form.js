// The form of a new rollout, with a preview of its steps, time and needed requests at today's rate.

import { html, useState, valueTo } from "../lib/html.js";
import { send } from "../lib/api.js";
import { useDelayed } from "../lib/delayed.js";
import { basisPoints, duration, number } from "../lib/format.js";
import { GUARDS, NUMBERS, rolloutBody, emptyForm } from "../lib/rollout-form.js";
import { ChoiceField } from "./choice-field.js";
import { ErrorBox } from "./notes.js";
import { ReasonDialog } from "./reason-dialog.js";
import { Table } from "./table.js";

/** @typedef {import("../lib/rollout-form.js").Form} Form */
/** @typedef {{currentTarget: HTMLInputElement & HTMLSelectElement}} FieldEvent */

/**
 * @param {{model: string, versions: string[], rate: number | null, onStarted: (rollout: any) => void}} props `rate` is the
 *     model's requests a second now
 */
export function RolloutForm({ model, versions, rate, onStarted }) {
  const [form, setForm] = useState(emptyForm);
  const [asking, setAsking] = useState(false);
  const change = (/** @type {Partial<Form>} */ part) => setForm({ ...form, ...part });
  const { body, faults } = rolloutBody(form);
  const path = `/models/${encodeURIComponent(model)}/rollouts`;
  return html`<form class="form" onSubmit=${(/** @type {Event} */ event) => {
    event.preventDefault();
    if (!faults.length) setAsking(true);
  }}>
    <div class="grid"><div>
      <div class="row"><${ChoiceField} title="Roll out" value=${form.to} choices=${versions} none="choose …" onChange=${(/** @type {string} */ to) => change({ to })} />
        <${ChoiceField} title="Compare with" value=${form.from} choices=${versions} none="the version that answers" onChange=${(/** @type {string} */ from) => change({ from })} /></div>
      <${RolloutField} title="Steps in percent; 5! waits for an approval" value=${form.steps} setText=${(/** @type {string} */ steps) => change({ steps })} wide />
      <${GuardFields} form=${form} change=${change} />
      <${Limits} form=${form} change=${change} />
    </div><${RolloutPreview} path=${path} form=${form} body=${body} faults=${faults} rate=${rate} /></div>
    <button class="button primary" disabled=${faults.length > 0}>Start the rollout …</button>
    ${asking && html`<${ReasonDialog} title="Start the rollout" action="Start" onClose=${() => setAsking(false)} onDone=${onStarted}
      changes=${[{ label: "Version", before: form.from || "the version that answers", after: form.to }]}
      perform=${(/** @type {any} */ how) => send("POST", path, body, how)} />`}
  </form>`;
}

/** @param {{title: string, value: string, setText: (text: string) => void, wide?: boolean, label?: string}} props */
function RolloutField({ title, value, setText, wide, label }) {
  return html`<label class="field">${title}<input type="text" class=${wide ? "" : "short"} aria-label=${label} value=${value} spellcheck=${false} autocomplete="off"
    onInput=${valueTo(setText)} /></label>`;
}

/** @param {{form: Form, change: (part: Partial<Form>) => void}} props */
function GuardFields({ form, change }) {
  const set = (/** @type {string} */ metric, /** @type {any} */ part) => change({ guards: form.guards.map((guard) => (guard.metric === metric ? { ...guard, ...part } : guard)) });
  return html`<fieldset><legend>Guards</legend>${GUARDS.map((kind, index) => {
    const guard = form.guards[index];
    if (!guard) return null;
    return html`<div class="row guard" key=${kind.metric}>
      <label><input type="checkbox" checked=${guard.chosen} onChange=${(/** @type {FieldEvent} */ event) => set(kind.metric, { chosen: event.currentTarget.checked })} /> ${kind.title}</label>
      ${guard.chosen && html`<label class="small muted"><input type="text" class="short" inputmode="decimal" value=${guard.limit} aria-label="Limit of ${kind.title}: ${kind.unit}" placeholder="usual"
        onInput=${(/** @type {FieldEvent} */ event) => set(kind.metric, { limit: event.currentTarget.value })} /> ${kind.unit}</label>`}
    </div>`;
  })}
    <details><summary>By a PromQL query</summary><${RolloutField} title="Query" value=${form.query} setText=${(/** @type {string} */ query) => change({ query })} wide />
      <div class="row"><${RolloutField} title="At least" value=${form.queryMin} setText=${(/** @type {string} */ queryMin) => change({ queryMin })} />
        <${RolloutField} title="At most" value=${form.queryMax} setText=${(/** @type {string} */ queryMax) => change({ queryMax })} /></div></details></fieldset>`;
}

/** @param {{form: Form, change: (part: Partial<Form>) => void}} props */
function Limits({ form, change }) {
  return html`<details><summary>Time, evidence and what happens at the deadline</summary><div class="toolbar">
    ${NUMBERS.map(({ field, title }) => html`<${RolloutField} key=${field} title=${title} value=${form[field]} setText=${(/** @type {string} */ text) => change({ [field]: text })} />`)}
    <label class="field">At the deadline<select value=${form.onInconclusive} onChange=${valueTo((onInconclusive) => change({ onInconclusive }))}>
      <option value="hold">pause</option><option value="abort">give up</option></select></label>
    <label><input type="checkbox" checked=${form.dryRun} onChange=${(/** @type {FieldEvent} */ event) => change({ dryRun: event.currentTarget.checked })} /> Dry run: change no traffic</label>
  </div></details>`;
}

/** @param {{path: string, form: Form, body: any, faults: string[], rate: number | null}} props */
function RolloutPreview({ path, form, body, faults, rate }) {
  const asked = rate === null ? body : { ...body, requests_per_second: Math.round(rate * 10) / 10 };
  const [frozen, setFrozen] = useState(asked);
  const key = JSON.stringify(body);
  const changed = JSON.stringify({ ...frozen, requests_per_second: undefined }) !== key;
  if (changed || (frozen.requests_per_second === undefined && rate !== null)) setFrozen(asked); // not at each change of the rate
  const { value, error, waiting } = useDelayed(form.to && !faults.length ? JSON.stringify(frozen) : null, () => send("POST", `${path}/preview`, frozen));
  return html`<section class="card" aria-live="polite" aria-busy=${waiting} aria-label="Preview"><h2>Preview</h2>
    ${faults.length > 0 && html`<ul class="muted">${faults.map((fault) => html`<li key=${fault}>${fault}</li>`)}</ul>`}
    <${ErrorBox} error=${error} />
    ${value && html`<ul>${value.sentences.map((/** @type {string} */ text) => html`<li key=${text}>${text}</li>`)}</ul><${Steps} forecast=${value} />`}
    ${waiting && !value && !error && html`<p class="muted">Estimating …</p>`}
  </section>`;
}

/** @param {{forecast: any}} props */
function Steps({ forecast }) {
  return html`<${Table} caption="Forecast of each step" rows=${forecast.steps} columns=${[
      { key: "step", title: "Step", cell: (/** @type {any} */ { step }) => (step < 0 ? "mirrored" : step + 1) },
      { key: "weight", title: "Weight", align: "end", cell: (/** @type {any} */ step) => basisPoints(step.weight) },
      { key: "requests", title: "Requests", align: "end", cell: (/** @type {any} */ { requests }) => (requests === null ? "not known" : `about ${number(requests)}`) },
      { key: "seconds", title: "Time", align: "end", cell: (/** @type {any} */ { seconds }) => (seconds === null ? "not known" : duration(seconds)) },
      { key: "also", title: "Also waits for", cell: (/** @type {any} */ step) => step.also.join(", ") || "–" },
    ]} />
    <p class="small muted">If the version is as good as the other, at ${number(forecast.requests_per_second)} requests a second.</p>`;
}
