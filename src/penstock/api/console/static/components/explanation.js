// Why a model answers as it does: a button that asks, and what each feature adds as a table with bars.

import { html, useState } from "../lib/html.js";
import { number, signed } from "../lib/format.js";
import { announce } from "../lib/page.js";
import { ChoiceField } from "./choice-field.js";
import { Facts } from "./facts.js";
import { ErrorBox, Permitted } from "./notes.js";
import { Table } from "./table.js";
import { useCall } from "./use-call.js";
import { explanationOf } from "../predict/explanation.js";

/** @typedef {import("../predict/explanation.js").Attribution} Attribution */

/** What is smaller than the largest by this factor is a rounding error of sums, and shown as 0. */
const ROUNDING = 1e-9;

/**
 * Offers an explanation, and then that of the difference to each other of `versions`; `ask` gets its parameters.
 * @param {{action: string, allowed: {allowed: boolean, reason: string}, versions: string[], children?: any,
 *     ask: (parameters: Record<string, string>) => Promise<any>}} props
 */
export function Explain({ action, allowed, versions, children, ask }) {
  const { busy, error, value: document, run } = useCall();
  const explain = (/** @type {string} */ against) => run(async () => {
    const found = await ask(against ? { against } : {});
    announce("The explanation is below");
    return found;
  });
  if (!allowed.allowed) return html`<${Permitted} action=${action} reason=${allowed.reason} />`;
  const others = versions.filter((version) => version !== document?.model_version);
  return html`<div class="toolbar">${children}<button type="button" class="button" disabled=${busy} onClick=${() => explain("")}>${action}</button>
      ${document && others.length > 0 && html`<${ChoiceField} title="Why it differs from version" value=${document.parameters.against ?? ""} choices=${others} none="–" onChange=${explain} />`}</div>
    <div aria-live="polite"><${ErrorBox} error=${error} />${document && html`<${Explanation} action=${action} document=${document} />`}</div>`;
}

/** @param {{action: string, document: Record<string, any>}} props */
function Explanation({ action, document }) {
  const [row, setRow] = useState("0");
  const [column, setColumn] = useState("0");
  const { rows, columns, base, prediction, parts } = explanationOf(document, Number(row), Number(column));
  const { method, exact, scale, output, background, background_rows: compared, against, note } = document.parameters;
  const most = Math.max(...parts.map((part) => Math.abs(part.value))) || 1;
  return html`<h2>${against ? "Why they differ" : "Explanation"}</h2>
    <${Facts} pairs=${[["version", document.model_version + (against ? ` minus ${against}` : "")], ["output", output], ["scale", scale], ["base value", number(base, 4)], ["with all features", number(prediction, 4)], ["method", `${method}, ${exact ? "exact" : "sampled"}`], ["background", `${compared} ${background} rows`], ["note", note]]} />
    <div class="row">${rows > 1 && html`<${ChoiceField} title="Row, from 0" value=${row} choices=${numbersTo(rows)} onChange=${setRow} />`}
      ${columns > 1 && html`<${ChoiceField} title="Column, from 0" value=${column} choices=${numbersTo(columns)} onChange=${setColumn} />`}</div>
    <${Table} caption="${action}: what each feature adds" rows=${parts} columns=${[
      { key: "feature", title: "Feature", sort: true },
      { key: "value", title: "Adds", sort: true, cell: (/** @type {Attribution} */ part) => html`<span class="measure"><meter max=${most} value=${Math.abs(part.value)} aria-label="Size for ${part.feature}"></meter> ${signed(Math.abs(part.value) < most * ROUNDING ? 0 : part.value)}</span>` },
      ...(exact ? [] : [{ key: "error", title: "Standard error", align: "end" }]),
    ]} />`;
}

/** @param {number} count */
function numbersTo(count) {
  return Array.from({ length: count }, (_, index) => String(index));
}
