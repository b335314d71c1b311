// Pushes a version: a file by drag and drop or by the chooser, its progress, and the verdict of admission.

import { html, useRef, useState, valueTo } from "../lib/html.js";
import { bytes, percent } from "../lib/format.js";
import { announce } from "../lib/page.js";
import { modelFault, pushVerdict, versionFault } from "../models/versions.js";
import { pushFile } from "../models/upload.js";

/** @typedef {import("../models/versions.js").PushVerdict} PushVerdict */

/**
 * @param {{model: string, proposed: string, onPushed: (document: Record<string, unknown>) => void}} props `model` is ""
 *     where its name is asked for; `proposed` is the version that the form begins with
 */
export function PushForm({ model, proposed, onPushed }) {
  const [name, setName] = useState(model);
  const [version, setVersion] = useState(proposed);
  const [file, setFile] = useState(/** @type {File | null} */ (null));
  const [metadata, setMetadata] = useState("");
  const [reason, setReason] = useState("");
  const [sent, setSent] = useState(/** @type {number | null} */ (null));
  const [verdict, setVerdict] = useState(/** @type {PushVerdict | null} */ (null));
  const cancel = useRef(() => {});
  const fault = modelFault(name) || versionFault(version) || metadataFault(metadata);

  /** The verdict on another file is no longer shown. @param {File} next */
  function choose(next) {
    setFile(next);
    setVerdict(null);
  }

  /** @param {Event} event */
  async function submit(event) {
    event.preventDefault();
    if (!file || fault) return;
    setVerdict(null);
    setSent(0);
    const push = pushFile({ model: name, version, file, metadata: metadata.trim() ? JSON.parse(metadata) : {}, reason }, setSent);
    cancel.current = push.cancel;
    try {
      const { status, document } = await push.answer;
      finish(pushVerdict(status, document), document);
    } catch (error) {
      finish({ done: false, kind: "bad", text: /** @type {Error} */ (error).message }, {});
    }
  }

  /**
   * @param {PushVerdict} found
   * @param {Record<string, unknown>} document
   */
  function finish(found, document) {
    setSent(null);
    setVerdict(found);
    announce(found.text);
    if (found.done) onPushed(document);
  }

  return html`<form onSubmit=${submit}>
    <${DropZone} file=${file} onFile=${choose} />
    ${file && html`<div class="toolbar">
      ${!model && html`<label class="field">Model <input value=${name} required maxlength="128" onInput=${valueTo(setName)} /></label>`}
      <label class="field">Version <input value=${version} required maxlength="64" onInput=${valueTo(setVersion)} /></label>
    </div>
    <label class="field">Metadata (JSON, optional): metrics, parameters, parent, code_commit, card
      <textarea rows="3" value=${metadata} spellcheck="false" placeholder=${'{"metrics": {"accuracy": 0.97}, "parent": "1"}'} onInput=${valueTo(setMetadata)}></textarea></label>
    <label class="field">Reason <textarea rows="2" maxlength="2000" value=${reason} required onInput=${valueTo(setReason)}></textarea></label>
    ${fault && name && version && html`<p class="bad" role="alert">${fault}</p>`}
    <div class="row"><button class="button primary" disabled=${Boolean(fault) || sent !== null || !reason.trim()}>Push</button>
      ${sent !== null && html`<button type="button" class="button" onClick=${() => cancel.current()}>Cancel</button>`}</div>`}
    ${sent !== null && html`<${Progress} sent=${sent} />`}
    ${verdict && html`<div class="note ${verdict.done ? "good" : verdict.kind === "conflict" ? "warn" : "bad"}" role="alert"><p>${verdict.text}</p></div>`}
  </form>`;
}

/** @param {{file: File | null, onFile: (file: File) => void}} props */
function DropZone({ file, onFile }) {
  const [over, setOver] = useState(false);

  /** @param {DragEvent} event */
  function drop(event) {
    event.preventDefault();
    setOver(false);
    const files = event.dataTransfer?.files;
    if (!files?.[0]) return;
    const input = /** @type {HTMLElement} */ (event.currentTarget).querySelector("input");
    if (input) input.files = files; // else the box says that no file is chosen
    onFile(files[0]);
  }

  return html`<label class="card drop ${over ? "over" : ""}" onDragOver=${(/** @type {DragEvent} */ event) => {
    event.preventDefault();
    setOver(true);
  }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <span>An ONNX graph, or a tar with a graph and its files. Drop it here, or choose it:</span>
    <input type="file" aria-label="File to push" onChange=${(/** @type {any} */ event) => event.currentTarget.files[0] && onFile(event.currentTarget.files[0])} />
    ${file && html`<strong>${file.name}, ${bytes(file.size)}</strong>`}
  </label>`;
}

/** @param {{sent: number}} props */
function Progress({ sent }) {
  const text = sent < 1 ? `${percent(sent)} sent` : "Sent. Admission examines it, and the workers load it …";
  return html`<div role="status"><progress max="1" value=${sent < 1 ? sent : undefined} aria-label="Push"></progress> ${text}</div>`;
}

/** @param {string} text */
function metadataFault(text) {
  if (!text.trim()) return "";
  try {
    const value = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? "" : "the metadata must be a JSON object";
  } catch {
    return "the metadata is not JSON";
  }
}
