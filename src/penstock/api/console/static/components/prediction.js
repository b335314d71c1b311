// An answer to a prediction, and the same request for other clients.

import { html, useAsync, useState } from "../lib/html.js";
import { get } from "../lib/api.js";
import { milliseconds } from "../lib/format.js";
import { announce } from "../lib/page.js";
import { Facts } from "./facts.js";
import { Empty, ErrorBox } from "./notes.js";
import { Table } from "./table.js";
import { outputTable } from "../predict/answer.js";
import { requestText } from "../predict/request.js";
import { REQUEST_FILE, curlCommand, needsFile, predictCommand, reachable, tritonProgram } from "../predict/snippets.js";

/** @typedef {import("../predict/ask.js").Prediction} Prediction */
/** @typedef {import("../predict/snippets.js").Question} Question */
/** @typedef {import("../predict/answer.js").StageTime} StageTime */

/** @param {{prediction: Prediction}} props */
export function Answer({ prediction }) {
  const { document, version, route, id, stages, ms } = prediction;
  const outputs = document.outputs ?? [];
  const table = outputTable(outputs);
  return html`<section aria-labelledby="answer"><h2 id="answer">Answer</h2>
    <${Facts} pairs=${[["version", html`<strong>${version}</strong>`], ["route", html`<span class="badge">${route}</span>`], ["request", html`<code>${id}</code>`]]} />
    <${Table} caption="Outputs" rows=${table.lines} keyOf=${(/** @type {string[]} */ line) => table.lines.indexOf(line)} columns=${table.heads.map((title, index) => ({ key: title, title, cell: (/** @type {string[]} */ line) => html`<code>${line[index]}</code>` }))} />
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

/** @param {{stages: StageTime[], ms: number}} props */
function Stages({ stages, ms }) {
  const total = stages.reduce((sum, stage) => sum + stage.ms, 0);
  if (!stages.length) return null;
  const rows = [...stages, { stage: "in the worker", ms: total }, { stage: "seen by this page", ms }];
  return html`<${Table} caption="Time by stage" rows=${rows} columns=${[
    { key: "stage", title: "Stage" },
    { key: "ms", title: "Time", align: "end", cell: (/** @type {StageTime} */ row) => milliseconds(row.ms) },
    { key: "share", title: "Share", cell: (/** @type {StageTime} */ row) => stages.includes(row) && html`<meter max=${total} value=${row.ms} aria-label="Share of ${row.stage}"></meter>` },
  ]} />`;
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
