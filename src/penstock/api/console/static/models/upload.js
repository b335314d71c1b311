/**
 * Sends a file to the registry and says how far it is: `fetch` says nothing of an upload's progress.
 *
 * @typedef {{status: number, document: Record<string, unknown>}} Uploaded
 * @typedef {{model: string, version: string, file: Blob, metadata: Record<string, unknown>, reason: string}} Push
 */

import { requestHeaders } from "../lib/api.js";
import { address } from "../lib/page.js";

/**
 * Pushes a file as a version. `onProgress` gets the share that was sent, 1 from when admission examines it.
 * @param {Push} push
 * @param {(share: number) => void} onProgress
 * @returns {{answer: Promise<Uploaded>, cancel: () => void}} the answer is rejected if the gateway cannot be reached
 */
export function pushFile({ model, version, file, metadata, reason }, onProgress) {
  const call = new XMLHttpRequest();
  call.open("PUT", address(`/admin/v1/models/${encodeURIComponent(model)}/versions/${encodeURIComponent(version)}`));
  /** @type {Record<string, string>} */
  const stated = Object.keys(metadata).length ? { "penstock-metadata": asciiJson(metadata) } : {};
  for (const [name, value] of Object.entries(requestHeaders({ reason, headers: stated }))) call.setRequestHeader(name, value);
  call.upload.addEventListener("progress", (event) => onProgress(event.lengthComputable ? event.loaded / event.total : 0));
  call.upload.addEventListener("load", () => onProgress(1));
  /** @type {Promise<Uploaded>} */
  const answer = new Promise((resolve, reject) => {
    call.addEventListener("load", () => resolve({ status: call.status, document: parsed(call.responseText) }));
    for (const name of ["error", "abort", "timeout"])
      call.addEventListener(name, () => reject(new Error(name === "abort" ? "The push was cancelled." : "The gateway cannot be reached; try again.")));
  });
  call.send(file);
  return { answer, cancel: () => call.abort() };
}

/**
 * JSON in ASCII, as header fields carry it.
 * @param {unknown} value
 */
export function asciiJson(value) {
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** @param {string} text @returns {Record<string, unknown>} */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
