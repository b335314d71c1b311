// An answer to a prediction, and the same request for other clients.

import { html, useAsync, useState } from "../lib/html.js";
import { get } from "../lib/api.js";
import { milliseconds } from "../lib/format.js";
import { announce } from "../lib/page.js";
import { Facts } from "./facts.js";
import { Empty, ErrorBox } from "./notes.js";
import { outputTable } from "../predict/answer.js";
import { requestText } from "../predict/request.js";
import { REQUEST_FILE, curlCommand, needsFile, predictCommand, reachable, tritonProgram } from "../predict/snippets.js";

/** @typedef {import("../predict/ask.js").Prediction} Prediction */
/** @typedef {import("../predict/snippets.js").Question} Question */

/** @param {{prediction: Prediction}} props */
export function Answer({ prediction }) {
  const { document, version, route, id, stages, ms } = prediction;
  const outputs = document["outputs"] ?? [];
  const table = outputTable(outputs);
  return html`<section aria-labelledby="answer"><h2 id="answer">Answer</h2>
    <${Facts} pairs=${[["version", html`<strong>${version}</strong>`], ["route", html`<span class="badge">${route}</span>`], ["request", html`<code>${id}</code>`]]} />
    <div class="scroll" tabindex="0" role="region" aria-label="Outputs"><table><caption class="hidden">Outputs, a line for each row</caption>
      <thead><tr>${table.heads.map((head) => html`<th scope="col" key=${head}>${head}</th>`)}</tr></thead>
      <tbody>${table.lines.map((line, row) => html`<tr key=${row}>${line.map((cell, column) => html`<td key=${column}><code>${cell}</code></td>`)}</tr>`)}</tbody></table></div>
    ${table.left > 0 && html`<p class="muted">${table.left} more rows are not shown.</p>`}
    <${Stages} stages=${stages} ms=${ms} />
    <details><summary>The answer as JSON</summary><pre tabindex="0">${jsonText(document)}</pre></details></section>`;
}

const LONGEST_JSON = 20_000;

/** @param {unknown} document */
function jsonText(document) {
  const text = JSON.stringify(document, null, 1);
  return text.length > LONGEST_JSON ? `${text.slice(0, LONGEST_JSON)}…` : text;
}

/** @param {{stages: import("../predict/answer.js").StageTime[], ms: number}} props */
function Stages({ stages, ms }) {
  const total = stages.reduce((sum, stage) => sum + stage.ms, 0);
  if (!stages.length) return null;
  return html`<table><caption class="hidden">Time by stage</caption><thead><tr><th scope="col">Stage</th><th scope="col" class="end">Time</th><th scope="col">Share</th></tr></thead>
    <tbody>${stages.map((stage) => html`<tr key=${stage.stage}><th scope="row">${stage.stage}</th><td class="end">${milliseconds(stage.ms)}</td><td><meter max=${total} value=${stage.ms} aria-label="Share of ${stage.stage}"></meter></td></tr>`)}
      <tr><th scope="row">in the worker</th><td class="end">${milliseconds(total)}</td><td></td></tr>
      <tr><th scope="row">seen by this page</th><td class="end">${milliseconds(ms)}</td><td></td></tr></tbody></table>`;
}

/** @param {{question: Omit<Question, "gateway"> | null}} props */
export function Snippets({ question }) {
  const { value: gateway, error } = useAsync(async () => reachable(await get("/gateway"), location.hostname), []);
  const [chosen, setChosen] = useState("curl");
  if (error) return html`<${ErrorBox} error=${error} />`;
  if (!gateway) return null;
  const make = SNIPPETS[chosen];
  const text = question && make ? make({ ...question, gateway }) : "";
  return html`<section aria-labelledby="snippets"><h2 id="snippets">The same request by a client</h2>
    <div class="row" role="group" aria-label="Client">${Object.keys(SNIPPETS).map((name) => html`<button type="button" key=${name} class="button" aria-pressed=${name === chosen} onClick=${() => setChosen(name)}>${name}</button>`)}</div>
    ${text ? html`<pre tabindex="0" aria-label="The request by ${chosen}">${text}</pre><div class="row"><${CopyButton} text=${text} />${question && needsFile({ ...question, gateway }) && html`<${RequestFile} question=${question} />`}</div>` : html`<${Empty}>It appears when the inputs are complete.<//>`}
    ${(gateway.authentication || gateway.tls) && html`<p class="small muted">${gateway.authentication && "PENSTOCK_TOKEN_FILE names a file with your key or token. "}${gateway.tls && "PENSTOCK_CA_FILE names the authority of the gateway's certificate."}</p>`}</section>`;
}

/** @type {Record<string, (question: Question) => string>} */
const SNIPPETS = { curl: curlCommand, tritonclient: tritonProgram, "penstock predict": predictCommand };

/** @param {{text: string}} props */
function CopyButton({ text }) {
  const copy = () => navigator.clipboard.writeText(text).then(() => announce("Copied"), () => announce("The browser did not copy it"));
  return html`<button type="button" class="button" onClick=${copy}>Copy</button>`;
}

/** @param {{question: Omit<Question, "gateway">}} props */
function RequestFile({ question }) {
  /** @param {MouseEvent} event */
  function save(event) {
    const anchor = /** @type {HTMLAnchorElement} */ (event.currentTarget);
    anchor.href = URL.createObjectURL(new Blob([requestText(question.request)], { type: "application/json" }));
    setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000);
  }
  return html`<a class="button" href="#" download=${REQUEST_FILE} onClick=${save}>Save ${REQUEST_FILE}</a>`;
}
