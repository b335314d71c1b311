// The page of one version: what it is, where it comes from, what admission found, and which gates it passes.

import { html, useAsync, useState } from "../lib/html.js";
import { get } from "../lib/api.js";
import { bytes, number, time } from "../lib/format.js";
import { useTopic } from "../lib/live.js";
import { address } from "../lib/page.js";
import { link, pathTo } from "../lib/router.js";
import { Digest, Facts } from "../components/facts.js";
import { Empty, ErrorBox, Loading } from "../components/notes.js";
import { State } from "../components/state.js";
import { Table } from "../components/table.js";
import { VersionActions } from "../components/version-actions.js";
import { admissionFacts } from "../models/admission.js";
import { ancestors, children } from "../models/versions.js";
import { shapeText } from "../predict/signature.js";

/** @typedef {import("../components/version-actions.js").Model} Model */
/** @typedef {import("../models/compare.js").Version} Version */

/** @param {{params: Record<string, string>}} props */
function VersionView({ params }) {
  const [name, wanted] = [params.model ?? "", params.version ?? ""];
  const live = useTopic(`model:${name}`);
  const [fresh, setFresh] = useState(/** @type {Model | null} */ (null));
  /** @type {Model | null} */
  const model = fresh && live && fresh.revision > live.revision ? fresh : (live ?? fresh);
  if (!model) return html`<${Loading} />`;
  const version = model.versions.find((item) => item.version === wanted);
  if (!version) return html`<${Empty}>The model has no version “${wanted}”.<//>`;
  const again = async () => setFresh(await get(`/models/${encodeURIComponent(name)}`));
  return html`
    <${VersionSummary} model=${model} version=${version} />
    <${VersionActions} model=${model} version=${version} onDone=${again} />
    <div class="grid wide">
      <${Admission} version=${version} /><${VersionGates} model=${model} version=${version} />
      <${Lineage} model=${model} version=${version} /><${ModelCard} card=${version.card} />
    </div>
    <${SignatureTable} version=${version} />
    <${Approvals} version=${version} />`;
}

/** @param {{model: Model, version: Version}} props */
function VersionSummary({ model, version }) {
  const content = address(`/admin/v1/models/${encodeURIComponent(model.name)}/versions/${encodeURIComponent(version.version)}/content`);
  const parent = ancestors(model.versions, version.version)[0];
  const other = model.versions.find((item) => item.version === parent) ?? model.versions.filter((item) => item.version !== version.version).at(-1);
  const compare = other && link(`${pathTo("models", model.name, "compare")}?${new URLSearchParams({ a: other.version, b: version.version })}`);
  return html`<${Facts} pairs=${[
    ["state", html`<${State} value=${version.state} /> ${version.reason}`],
    ["aliases", version.aliases.join(", ")],
    ["pushed", version.created_at && `${time(version.created_at)} by ${version.created_by ?? "nobody known"}`],
    ["digest", html`<${Digest} value=${version.digest} />`],
    ["size", version.size !== null && bytes(version.size)],
    ["links", html`<span class="row">${version.state === "READY" && html`<a href=${link(`${pathTo("models", model.name, "try")}?${new URLSearchParams({ version: version.version })}`)}>Try it</a>`}
      ${compare && html`<a href=${compare}>Compare with ${other?.version}</a>`}
      ${version.size !== null && html`<a href=${content} download="${model.name}-${version.version}.onnx">Download the content</a>`}</span>`],
  ]} />`;
}

/** @param {{version: Version}} props */
function Admission({ version }) {
  const facts = admissionFacts(version);
  return html`<section class="card" aria-labelledby="admission"><h2 id="admission">Admission</h2>
    ${facts.length ? html`<${Facts} pairs=${facts.map((fact) => [fact.name, fact.text])} />` : html`<${Empty}>There is no report.<//>`}</section>`;
}

/** @param {{model: Model, version: Version}} props */
function VersionGates({ model, version }) {
  const path = `/models/${encodeURIComponent(model.name)}/versions/${encodeURIComponent(version.version)}/gates`;
  const isStored = Boolean(version.created_at); // a watched folder's version has no record, and no gates
  const { value, error, again } = useAsync(async () => (isStored ? get(path) : { gates: [] }), [path, model.revision]);
  /** @type {{gate: string, passed: boolean, reason?: string}[]} */
  const gates = value?.gates ?? [];
  return html`<section class="card" aria-labelledby="gates"><h2 id="gates">Gates</h2>
    <${ErrorBox} error=${error} again=${again} />
    ${value && !gates.length && html`<${Empty}>${isStored ? "The policy asks for none." : "Versions of a watched folder have none."}<//>`}
    ${gates.length > 0 && html`<ul class="found">${gates.map((gate) => html`<li key=${gate.gate}><span class="badge ${gate.passed ? "good" : "bad"}">${gate.passed ? "passes" : "fails"}</span> <strong>${gate.gate}</strong> ${gate.reason}</li>`)}</ul>`}</section>`;
}

/** @param {{model: Model, version: Version}} props */
function Lineage({ model, version }) {
  const [before, after] = [ancestors(model.versions, version.version), children(model.versions, version.version)];
  const links = (/** @type {string[]} */ names) => names.map((item, index) => html`${index > 0 && ", "}<a key=${item} href=${link(pathTo("models", model.name, "versions", item))}>${item}</a>`);
  return html`<section class="card" aria-labelledby="lineage"><h2 id="lineage">Lineage</h2>
    <${Facts} pairs=${[
      ["parents", before.length > 0 && links(before)],
      ["children", after.length > 0 && links(after)],
      ...Object.entries(version.metadata).filter(([name]) => name !== "parent").map(([name, value]) => /** @type {[string, any]} */ ([name.replaceAll("_", " "), metadataText(value)])),
    ]} />
    ${!before.length && !after.length && !Object.keys(version.metadata).length && html`<${Empty}>It was pushed without metadata.<//>`}</section>`;
}

/** @param {unknown} value */
function metadataText(value) {
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value).map(([name, item]) => `${name} ${typeof item === "number" ? number(item, 6) : String(item)}`).join(", ");
}

/** @param {{card: Record<string, unknown> | null}} props */
function ModelCard({ card }) {
  const pairs = Object.entries(card ?? {}).map(([name, value]) => [name.replaceAll("_", " "), cardText(value)]);
  return html`<section class="card" aria-labelledby="card"><h2 id="card">Model card</h2>
    ${pairs.length ? html`<${Facts} pairs=${pairs} />` : html`<${Empty}>It has none.<//>`}</section>`;
}

/** @param {unknown} value */
function cardText(value) {
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value !== "object" || value === null) return String(value);
  return html`<${Facts} pairs=${Object.entries(value).map(([name, text]) => [name, String(text)])} />`;
}

/** @param {{version: Version}} props */
function SignatureTable({ version }) {
  const tensors = ["inputs", "outputs"].flatMap((side) => (version.signature?.[/** @type {"inputs"} */ (side)] ?? []).map((spec) => ({ side: side.slice(0, -1), ...spec })));
  const columns = [
    { key: "name", title: "Tensor" },
    { key: "side", title: "Side" },
    { key: "datatype", title: "Datatype" },
    { key: "shape", title: "Shape", cell: (/** @type {any} */ row) => shapeText(row.shape) },
  ];
  return html`<section aria-labelledby="signature"><h2 id="signature">Signature</h2>
    <${Table} caption="Inputs and outputs" columns=${columns} rows=${tensors} keyOf=${(/** @type {any} */ row) => `${row.side} ${row.name}`} empty="It is known once a worker has loaded the version." /></section>`;
}

/** @param {{version: Version}} props */
function Approvals({ version }) {
  const approvals = (version.approvals ?? []).map((item) => ({ key: `approval ${item.actor}`, kind: item.counts ? "approval" : "approval of another content", who: item.actor, at: item.at, detail: item.reason }));
  const signatures = (version.signatures ?? []).map((item) => ({ key: `signature ${item.digest}`, kind: "signature", who: item.signers.join(", "), at: item.added_at, detail: `added by ${item.added_by}` }));
  const columns = [
    { key: "kind", title: "Kind" },
    { key: "who", title: "By" },
    { key: "at", title: "At", cell: (/** @type {any} */ row) => time(row.at) },
    { key: "detail", title: "Reason" },
  ];
  return html`<section aria-labelledby="trust"><h2 id="trust">Signatures and approvals</h2>
    <${Table} caption="Signatures and approvals" columns=${columns} rows=${[...signatures, ...approvals]} keyOf=${(/** @type {any} */ row) => row.key} /></section>`;
}

/** @type {import("../app.js").View} */
export const versionView = { title: (params) => `${params.model}: version ${params.version}`, component: VersionView };
