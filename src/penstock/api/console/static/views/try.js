// Try it: a prediction by hand, its answer with version, route and time, and the same request for other clients.

import { html, useEffect, useMemo, useSignal, useState, valueTo } from "../lib/html.js";
import { usePermissions } from "../lib/access.js";
import { send } from "../lib/api.js";
import { useTopic } from "../lib/live.js";
import { announce } from "../lib/page.js";
import { route, setQuery } from "../lib/router.js";
import { ImageField, RowFields, TextField, emptyBoxes } from "../components/input-fields.js";
import { Explain } from "../components/explanation.js";
import { Permitted, Empty, ErrorBox, Loading } from "../components/notes.js";
import { Answer, Snippets } from "../components/prediction.js";
import { useCall } from "../components/use-call.js";
import { explain, predict } from "../predict/ask.js";
import { requestOf } from "../predict/request.js";
import { imageShape, shapeText } from "../predict/signature.js";
import { InputFault, readCsv, readJson, readValue, tensorOf } from "../predict/values.js";

/** @typedef {import("../components/version-actions.js").Model} Model */
/** @typedef {import("../models/compare.js").Version} Version */
/** @typedef {import("../predict/signature.js").TensorSpec} TensorSpec */
/** @typedef {import("../predict/values.js").Tensor} Tensor */
/** @typedef {import("../components/input-fields.js").Boxes} Boxes */
/** @typedef {import("../components/input-fields.js").Picture} Picture */
/** @typedef {{boxes: Boxes | null, json: string, csv: string, picture: Picture | null}} Typed */
/** @typedef {"form" | "json" | "csv" | "image"} Mode */

/** @type {Record<Mode, string>} */
const MODES = { form: "Form", json: "JSON", csv: "CSV", image: "Image" };

/** @param {{params: Record<string, string>}} props */
function TryView({ params }) {
  const name = params.model ?? "";
  /** @type {Model | null} */
  const model = useTopic(`model:${name}`);
  const split = useTopic(`route:${name}`);
  const { query } = useSignal(route);
  if (!model) return html`<${Loading} />`;
  const wanted = query.version ?? "";
  const described = describedVersion(model, wanted);
  const ready = model.versions.filter((item) => item.state === "READY").map((item) => item.version);
  return html`
    <p class="muted">This is a real request: the route decides, and the monitor, the metrics and your quota count it.</p>
    <${AnsweringField} model=${model} value=${wanted} />
    ${described?.signature ? html`<${TryForm} key=${`${name} ${signatureKey(described)}`} model=${name} others=${ready} wanted=${wanted} version=${described} split=${split} mode=${query.by ?? ""} />` : html`<${Empty}>No version is loaded whose inputs are known.<//>`}
    <${PastRequest} model=${name} version=${wanted} versions=${ready} />`;
}

/**
 * The version whose signature the form is made from: the named one, that of an alias, else one that answers.
 * @param {Model} model
 * @param {string} wanted
 */
function describedVersion(model, wanted) {
  const name = model.aliases[wanted || "champion"] ?? wanted;
  const ready = model.versions.filter((item) => item.state === "READY" && item.signature);
  return model.versions.find((item) => item.version === name) ?? (wanted ? undefined : ready.at(-1));
}

/** @param {Version} version */
function signatureKey(version) {
  return JSON.stringify(version.signature?.inputs);
}

/** @param {{model: Model, value: string}} props */
function AnsweringField({ model, value }) {
  return html`<div class="toolbar"><label class="field">Version <select value=${value} onChange=${valueTo((version) => setQuery({ version }))}>
    <option value="">as the route decides</option>
    ${Object.entries(model.aliases).map(([alias, version]) => html`<option key=${alias} value=${alias}>${alias} (${version})</option>`)}
    ${model.versions.map((item) => html`<option key=${item.version} value=${item.version}>${item.version} (${item.state.toLowerCase()})</option>`)}</select></label></div>`;
}

/**
 * Explains a captured request by its id.
 * @param {{model: string, version: string, versions: string[]}} props
 */
function PastRequest({ model, version, versions }) {
  const [id, setId] = useState("");
  return html`<details><summary>Explain a past request</summary><${Explain} action="Explain the request" allowed=${usePermissions(model)("operate")} versions=${versions}
    ask=${(/** @type {Record<string, string>} */ parameters) => send("POST", `/models/${encodeURIComponent(model)}/captured/explain`, { id, version, parameters })}>
    <label class="field">Id of a captured request <input maxlength="256" value=${id} onInput=${valueTo(setId)} /></label><//></details>`;
}

/** @param {{model: string, others: string[], wanted: string, version: Version, split: any, mode: string}} props */
function TryForm({ model, others, wanted, version, split, mode }) {
  const specs = useMemo(() => version.signature?.inputs ?? [], [signatureKey(version)]);
  const { features } = version;
  const [typed, setTyped] = useState(/** @type {Typed} */ ({ boxes: emptyBoxes(specs), json: "", csv: "", picture: null }));
  const [fields, setFields] = useState(/** @type {Record<string, string>} */ ({}));
  const { busy, error, value, run, clear } = useCall();
  const modes = modesOf(specs, typed);
  const by = modes.find((item) => item === mode) ?? /** @type {Mode} */ (modes[0]);
  const read = useMemo(() => readForm(by, typed, specs, features), [by, typed, specs, String(features)]);
  const stated = Object.fromEntries(Object.entries(fields).filter((entry) => entry[1]));
  const allowed = usePermissions(model)("predict");

  useEffect(clear, [wanted]);

  /** @param {Event} event */
  function submit(event) {
    event.preventDefault();
    const request = read.tensors && requestOf(read.tensors);
    if (!request) return;
    void run(async () => {
      const prediction = await predict(model, wanted, request, stated);
      announce(`Version ${prediction.version} has answered`);
      return { prediction, request };
    });
  }

  return html`<form onSubmit=${submit}>
      <div class="row" role="group" aria-label="How the inputs are given">${modes.map((item) => html`<button type="button" key=${item} class="button" aria-pressed=${item === by} onClick=${() => setQuery({ by: item })}>${MODES[item]}</button>`)}</div>
      <${Inputs} by=${by} specs=${specs} features=${features} typed=${typed} onChange=${(/** @type {Partial<Typed>} */ changes) => setTyped({ ...typed, ...changes })} />
      <${RuleFields} split=${split} fields=${fields} onChange=${setFields} />
      ${read.fault && html`<p class="bad" role="alert">${read.fault}</p>`}
      <${Permitted} action="Predict" reason=${allowed.reason}><button class="button primary" disabled=${!read.tensors || busy}>Predict</button><//>
    </form>
    <div aria-live="polite">
      <${ErrorBox} error=${error} />
      ${value && html`<${Answer} prediction=${value.prediction} />`}
    </div>
    ${value && html`<${Explain} key=${value.prediction.id} action="Explain" allowed=${allowed} versions=${others} ask=${(/** @type {Record<string, string>} */ parameters) => explain(model, value.prediction.version, value.request, parameters)} />`}
    <${Snippets} question=${read.tensors && { model, version: wanted, request: requestOf(read.tensors), fields: stated }} />`;
}

/**
 * @param {TensorSpec[]} specs
 * @param {Typed} typed
 * @returns {Mode[]}
 */
function modesOf(specs, typed) {
  /** @type {Mode[]} */
  const modes = typed.boxes ? ["form", "json", "csv"] : ["json", "csv"];
  return specs.length === 1 && specs.some((spec) => imageShape(spec)) ? ["image", ...modes] : modes;
}

/**
 * The tensors of what was typed, or what is wrong with it; neither while nothing was.
 * @param {Mode} by
 * @param {Typed} typed
 * @param {TensorSpec[]} specs
 * @param {string[]} features
 * @returns {{tensors: Tensor[] | null, fault: string}}
 */
function readForm(by, typed, specs, features) {
  try {
    return { tensors: triedTensors(by, typed, specs, features), fault: "" };
  } catch (fault) {
    if (!(fault instanceof InputFault)) throw fault;
    return { tensors: null, fault: fault.message };
  }
}

/**
 * @param {Mode} by
 * @param {Typed} typed
 * @param {TensorSpec[]} specs
 * @param {string[]} features
 * @returns {Tensor[] | null}
 */
function triedTensors(by, typed, specs, features) {
  if (by === "json") return typed.json.trim() ? readJson(typed.json, specs) : null;
  if (by === "csv") return typed.csv.trim() ? readCsv(typed.csv, specs, features) : null;
  if (by === "image") return typed.picture && [pictureTensor(typed.picture)];
  return typed.boxes && specs.map((spec) => boxTensor(spec, typed.boxes?.[spec.name] ?? []));
}

/** @param {Picture} picture @returns {Tensor} */
function pictureTensor({ spec, shape, data }) {
  return { name: spec.name, datatype: spec.datatype, shape, data };
}

/**
 * One row of an input from its boxes.
 * @param {TensorSpec} spec
 * @param {string[]} texts
 * @returns {Tensor}
 */
function boxTensor(spec, texts) {
  const values = texts.map((text) => readValue(text, spec.datatype));
  if (!spec.shape.length) return tensorOf(spec, values[0]);
  const shape = spec.shape.map((size, index) => (size < 0 ? (index ? size : 1) : size));
  return { name: spec.name, datatype: spec.datatype, shape: spec.shape.length === 1 ? [values.length] : shape, data: values };
}

/** @param {{by: Mode, specs: TensorSpec[], features: string[], typed: Typed, onChange: (changes: Partial<Typed>) => void}} props */
function Inputs({ by, specs, features, typed, onChange }) {
  const inputs = specs.map((spec) => `${spec.name} ${spec.datatype} ${shapeText(spec.shape)}`).join(", ");
  if (by === "form") return html`<${RowFields} specs=${specs} features=${features} boxes=${typed.boxes ?? {}} onChange=${(/** @type {Boxes} */ boxes) => onChange({ boxes })} />`;
  if (by === "image") return html`<${ImageField} specs=${specs} picture=${typed.picture} onPicture=${(/** @type {Picture | null} */ picture) => onChange({ picture })} />`;
  if (by === "csv") return html`<${TextField} key="csv" label="Rows as CSV for ${inputs}" accept=".csv,text/csv,text/plain" text=${typed.csv} onChange=${(/** @type {string} */ csv) => onChange({ csv })} />`;
  return html`<${TextField} key="json" label="A V2 request, values by name, or the values of the only input: ${inputs}" accept=".json,application/json" text=${typed.json} onChange=${(/** @type {string} */ json) => onChange({ json })} />`;
}

/**
 * The header fields that the route looks at.
 * @param {{split: any, fields: Record<string, string>, onChange: (fields: Record<string, string>) => void}} props
 */
function RuleFields({ split, fields, onChange }) {
  const sticky = typeof split?.sticky === "string" ? [split.sticky.replace(/^header:/, "")] : [];
  const names = [...new Set([...sticky, ...(split?.rules ?? []).map((/** @type {any} */ rule) => rule.header)])];
  if (!names.length) return null;
  return html`<fieldset><legend>Header fields that the route looks at</legend><div class="row">
    ${names.map((name) => html`<label class="field" key=${name}>${name} <input maxlength="256" value=${fields[name] ?? ""} onInput=${(/** @type {any} */ event) => onChange({ ...fields, [name]: event.currentTarget.value })} /></label>`)}</div></fieldset>`;
}

/** @type {import("../app.js").View} */
export const tryView = { title: (params) => `${params.model}: try it`, component: TryView };
