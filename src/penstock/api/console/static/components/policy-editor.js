// Changes the policy of a model by a form for its plain settings, or as YAML, whose faults are named by line.

import { html, useEffect, useRef, useState, valueTo } from "../lib/html.js";
import { get, send } from "../lib/api.js";
import { FIELDS, changesOf, policyOf, textsOf, toYaml, withTexts } from "../lib/policy-form.js";
import { Dialog } from "./dialog.js";
import { ErrorBox } from "./notes.js";
import { ReasonDialog } from "./reason-dialog.js";

/** @typedef {Record<string, any>} Document */
/** @typedef {{line: number | null, path: string, message: string}} Fault */
/** @typedef {{base: Document, isYaml: boolean, texts: Record<string, string>, yaml: string}} Draft what was typed, over the policy `base` */

/**
 * @param {{model: string, onClose: () => void, onDone: () => void}} props
 */
export function PolicyEditor({ model, onClose, onDone }) {
  const path = `/models/${encodeURIComponent(model)}/policy`;
  const [stored, setStored] = useState(/** @type {Document | null} */ (null));
  const [wanted, setWanted] = useState(/** @type {Document | null} */ (null));
  const draft = useRef(/** @type {Draft | null} */ (null)); // outlives the dialog for the reason
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  useEffect(() => {
    get(path).then(setStored, setError);
  }, [path]);
  if (wanted && stored) {
    return html`<${ReasonDialog} title="Change the policy of ${model}" action="Change the policy" revision=${stored.revision ?? null}
      changes=${changesOf(policyOf(stored), wanted)} onClose=${() => setWanted(null)} onDone=${() => (onClose(), onDone())}
      perform=${(/** @type {{reason: string, revision: number | null}} */ how) => send("PUT", path, wanted, how)}
      current=${async () => presentPolicy(await get(path), wanted)} />`;
  }
  return html`<${Dialog} title="Policy of ${model}" wide onClose=${onClose}>
    <${ErrorBox} error=${error} />
    ${stored && html`<${PolicyForms} path=${path} policy=${policyOf(stored)} draft=${draft} onWanted=${setWanted} />`}
  <//>`;
}

/**
 * What is there after a conflict, and what the change would do to it.
 * @param {Document} stored
 * @param {Document} wanted
 */
function presentPolicy(stored, wanted) {
  return { revision: stored.revision ?? null, changes: changesOf(policyOf(stored), wanted) };
}

/** @param {{path: string, policy: Document, draft: {current: Draft | null}, onWanted: (policy: Document) => void}} props */
function PolicyForms({ path, policy, draft, onWanted }) {
  const [base, setBase] = useState(draft.current?.base ?? policy);
  const [isYaml, setIsYaml] = useState(draft.current?.isYaml ?? false);
  const [texts, setTexts] = useState(draft.current?.texts ?? textsOf(policy));
  const [yaml, setYaml] = useState(draft.current?.yaml ?? "");
  const [faults, setFaults] = useState(/** @type {Fault[]} */ ([]));
  const [error, setError] = useState(/** @type {Error | null} */ (null));

  draft.current = { base, isYaml, texts, yaml };
  useEffect(() => /** @type {HTMLElement | null} */ (document.querySelector("dialog input, dialog textarea"))?.focus(), []);

  function showYaml() {
    if (!isYaml) setYaml(toYaml(withTexts(base, texts)));
    setFaults([]);
    setIsYaml(true);
  }

  /** Shows the form of what stands in the YAML, if the gateway can read it. */
  async function showForm() {
    const checked = isYaml && (await examine());
    if (!checked) return;
    setBase(checked);
    setTexts(textsOf(checked));
    setIsYaml(false);
  }

  /** Lets the gateway read the policy; returns it as it is stored, null with faults. @returns {Promise<Document | null>} */
  async function examine() {
    setError(null);
    try {
      const text = isYaml ? yaml : toYaml(withTexts(base, texts));
      const checked = await send("POST", `${path}/check`, { yaml: text });
      setFaults(checked.faults);
      return checked.valid ? checked.policy : null;
    } catch (caught) {
      setError(/** @type {Error} */ (caught));
      return null;
    }
  }

  /** @param {Event} event */
  async function check(event) {
    event.preventDefault();
    const checked = await examine();
    if (checked) onWanted(checked);
  }

  return html`<form onSubmit=${check}>
    <div class="row" role="group" aria-label="Way of editing">
      <button type="button" class="button" aria-pressed=${!isYaml} onClick=${showForm}>Form</button>
      <button type="button" class="button" aria-pressed=${isYaml} onClick=${showYaml}>YAML</button>
    </div>
    ${isYaml
      ? html`<${YamlText} yaml=${yaml} faults=${faults} onInput=${setYaml} />`
      : html`<${PolicyForm} texts=${texts} onInput=${setTexts} /><${Faults} faults=${faults} />`}
    <${ErrorBox} error=${error} />
    <div class="row end"><button class="button primary">Check, then give a reason</button></div>
  </form>`;
}

/** @param {{texts: Record<string, string>, onInput: (texts: Record<string, string>) => void}} props */
function PolicyForm({ texts, onInput }) {
  return html`<div class="grid policy-form">
    ${FIELDS.map((field) => html`<label class="field" key=${field.path}>${field.label}
      <input type=${field.isList ? "text" : "number"} min=${field.min} max=${field.max} step=${field.isList ? undefined : "any"} value=${texts[field.path]}
        required=${!field.isList && !field.optional}
        onInput=${(/** @type {{currentTarget: HTMLInputElement}} */ event) => onInput({ ...texts, [field.path]: event.currentTarget.value })} />
      <span class="small">${field.hint}</span>
    </label>`)}
  </div>
  <p class="small muted">Rules, gates, sinks, masks and all other settings: choose YAML.</p>`;
}

/** @param {{yaml: string, faults: Fault[], onInput: (yaml: string) => void}} props */
function YamlText({ yaml, faults, onInput }) {
  const area = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  return html`<label class="field">Policy as YAML
      <textarea ref=${area} class="yaml" name="yaml" rows="18" spellcheck=${false} autocomplete="off" wrap="off" value=${yaml}
        aria-invalid=${faults.length > 0} aria-describedby="policy-faults"
        onInput=${valueTo(onInput)}></textarea>
    </label>
    <${Faults} faults=${faults} onLine=${(/** @type {number} */ line) => selectLine(area.current, line)} />`;
}

/** @param {{faults: Fault[], onLine?: (line: number) => void}} props */
function Faults({ faults, onLine }) {
  return html`<div id="policy-faults" role="status">${faults.length > 0 && html`<ul class="note bad faults">
    ${faults.map((fault) => html`<li key=${fault.message}>
      ${onLine && fault.line !== null && html`<button type="button" class="button quiet" onClick=${() => onLine(fault.line || 1)}>Line ${fault.line}</button> `}
      ${fault.message}</li>`)}
  </ul>`}</div>`;
}

/**
 * Selects a line of a text, and scrolls to it.
 * @param {HTMLTextAreaElement | null} area
 * @param {number} line
 */
function selectLine(area, line) {
  if (!area) return;
  const lines = area.value.split("\n");
  const begin = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
  area.focus();
  area.setSelectionRange(begin, begin + (lines[line - 1]?.length ?? 0));
  area.scrollTop = (area.scrollHeight * Math.max(0, line - 4)) / Math.max(1, lines.length);
}
