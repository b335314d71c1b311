// What a version did as a shadow: how often it disagreed, and the requests it differs most on, both answers side by side.

import { html, useSignal } from "../lib/html.js";
import { milliseconds, number, percent } from "../lib/format.js";
import { compareOutputs, tensorText } from "../lib/answers.js";
import { useDocument } from "../lib/refresh.js";
import { link, pathTo, route, setQuery } from "../lib/router.js";
import { Empty, ErrorBox, Loading } from "../components/notes.js";
import { Table } from "../components/table.js";

/** @typedef {import("../lib/answers.js").Pair} Pair */

/** @param {{params: Record<string, string>}} props */
function ShadowPage({ params }) {
  const { model = "", version = "" } = params;
  const path = `/models/${encodeURIComponent(model)}/shadow/${encodeURIComponent(version)}`;
  const { value, error, again } = useDocument(path, `traffic:${model}`); // pairs come with requests
  const { query } = useSignal(route);
  if (!value) return error ? html`<${ErrorBox} error=${error} again=${again} />` : html`<${Loading} />`;
  return html`<${ShadowNumbers} model=${model} shadow=${value} />
    <h2>Where it differs most</h2>
    <div class="toolbar"><label><input type="checkbox" checked=${query.all === "1"} onChange=${(/** @type {{currentTarget: HTMLInputElement}} */ event) => setQuery({ all: event.currentTarget.checked ? "1" : null })} /> Show elements that are the same, too</label></div>
    ${value.samples.length ? value.samples.map((/** @type {any} */ sample) => html`<${Sample} key=${sample.id} version=${version} sample=${sample} all=${query.all === "1"} />`)
      : html`<${Empty}>No disagreement that is small enough to keep was seen since the workers began.<//>`}`;
}

/** @param {{model: string, shadow: any}} props */
function ShadowNumbers({ model, shadow }) {
  const share = shadow.pairs ? shadow.disagreements / shadow.pairs : null;
  return html`<section class="card" aria-label="Numbers"><dl class="facts">
    <dt>Compared</dt><dd>${number(shadow.pairs)} of ${number(shadow.mirrored)} mirrored requests (${number(shadow.missed)} missed, ${number(shadow.dropped)} dropped)</dd>
    <dt>Disagreements</dt><dd>${number(shadow.disagreements)} (${percent(share)})</dd>
    <dt>Other class</dt><dd>${percent(shadow.flip_ratio)} of the rows</dd>
    <dt>Difference</dt><dd>mean ${number(shadow.mean_abs_diff)}, greatest ${number(shadow.max_abs_diff)}</dd>
    <dt>Time of a run</dt><dd>${pairTime(shadow.primary_run_us)} by the version that answered, ${pairTime(shadow.shadow_run_us)} by the shadow</dd></dl>
    <p class="small muted">Counts of this gateway. <a href=${link(pathTo("models", model, "traffic"))}>Traffic</a></p></section>`;
}

/** @param {number | null} microseconds */
function pairTime(microseconds) {
  return milliseconds(microseconds === null ? null : microseconds / 1000);
}

/** @param {{version: string, sample: any, all: boolean}} props */
function Sample({ version, sample, all }) {
  return html`<article class="card" aria-label="Request ${sample.id}"><h3>Request <code>${sample.id}</code></h3>
    <p class="small muted">Greatest difference ${number(sample.max_abs_diff)}, ${number(sample.flips)} rows of another class.${sample.trace_id && html` Trace <code>${sample.trace_id}</code>`}</p>
    <details><summary>Inputs</summary><dl class="facts">${sample.inputs.map((/** @type {any} */ tensor) => html`<dt key=${tensor.name}>${tensor.name}</dt><dd><code>${tensorText(tensor)}</code></dd>`)}</dl></details>
    ${compareOutputs(sample.outputs, sample.shadow_outputs).map((output) => html`<${Output} key=${output.name} id=${sample.id} version=${version} answered=${sample.version} output=${output} all=${all} />`)}
  </article>`;
}

/** @param {{id: string, version: string, answered: string, output: import("../lib/answers.js").Comparison, all: boolean}} props */
function Output({ id, version, answered, output, all }) {
  const pairs = all ? output.pairs : output.pairs.filter((pair) => pair.differs);
  return html`<${Table} caption="Both answers to ${id}, output ${output.name}" rows=${pairs} empty="All elements are the same." columns=${[
      { key: "place", title: html`${output.name} <span class="small">${output.datatype} ${output.shape}</span>`, cell: (/** @type {Pair} */ pair) => html`[${pair.place}] ${pair.differs && html`<span class="badge warn">differs</span>`}` },
      { key: "answer", title: `Version ${answered}`, align: "end", cell: (/** @type {Pair} */ pair) => html`<code>${pair.answer}</code>` },
      { key: "shadow", title: `Shadow ${version}`, align: "end", cell: (/** @type {Pair} */ pair) => html`<code>${pair.shadow}</code>` },
      { key: "difference", title: "Difference", align: "end" },
    ]} />
    ${output.left > 0 && html`<p class="small muted">${number(output.left)} more elements are not shown.</p>`}`;
}

/** @type {import("../app.js").View} */
export const shadowView = { title: (params) => `${params.model}: shadow ${params.version}`, component: ShadowPage };
