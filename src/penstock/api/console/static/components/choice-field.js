// A field with a list to choose from.

import { html, valueTo } from "../lib/html.js";

/**
 * Chooses a text such as a version; one that is not a choice any more stays in the list.
 * @param {{title: string, value: string, choices: string[], onChange: (value: string) => void, none?: string}} props
 */
export function ChoiceField({ title, value, choices, onChange, none }) {
  const all = value && !choices.includes(value) ? [value, ...choices] : choices;
  return html`<label class="field">${title}
    <select value=${value} onChange=${valueTo(onChange)}>
      ${none !== undefined && html`<option value="">${none}</option>`}
      ${all.map((choice) => html`<option key=${choice} value=${choice}>${choice}</option>`)}
    </select></label>`;
}
