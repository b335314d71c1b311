// Calls of the admin API. The console can do nothing that a program cannot do with the same calls.

import { address, csrf } from "./page.js";

/** @typedef {Record<string, any>} Document A JSON object of the admin API. */
/** @typedef {{reason?: string, revision?: number | null, headers?: Record<string, string>}} SendOptions */

/** An answer with an error status; `kind` is the header penstock-fault, such as "conflict". */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {string} kind
   * @param {Document} document
   */
  constructor(status, message, kind, document) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.kind = kind;
    this.document = document;
  }
}

const OUT_OF_REACH = 0;

/**
 * Returns the document at a path of the admin API, such as "/models"; throws an ApiError.
 * @param {string} path
 * @returns {Promise<any>}
 */
export function get(path) {
  return call("GET", path, undefined, {});
}

/**
 * Makes a change and returns the new document; throws an ApiError, with status 409 if `revision` is not the present one.
 * @param {string} method
 * @param {string} path
 * @param {Document | Blob | ArrayBuffer | null} [body] a document is sent as JSON, with the reason in it
 * @param {SendOptions} [options]
 * @returns {Promise<any>}
 */
export async function send(method, path, body, options = {}) {
  const result = await call(method, path, body, options);
  if (!path.endsWith("/preview")) await afterChange.run();
  return result;
}

/** What the page does before a change counts as made: it fetches what it shows, so that the next change rests on it. */
export const afterChange = { run: async () => /** @type {unknown} */ (undefined) };

/**
 * @param {string} method
 * @param {string} path
 * @param {Document | Blob | ArrayBuffer | null | undefined} body
 * @param {SendOptions} options
 */
async function call(method, path, body, options) {
  const headers = headersOf(method, body, options);
  return documentOf(await fetchRaw(method, path, { body: readBody(method, body, options), headers }));
}

/**
 * Makes a request and returns the response as it is; throws an ApiError for an error status.
 * @param {string} method
 * @param {string} path
 * @param {{body?: BodyInit, headers?: Record<string, string>}} [options] headers replace those that each change has
 * @returns {Promise<Response>}
 */
export async function fetchRaw(method, path, { body, headers } = {}) {
  const fields = headers || (method === "GET" ? {} : requestHeaders({}));
  let response;
  try {
    response = await fetch(address(`/admin/v1${path}`), { method, body, headers: fields, cache: "no-store", credentials: "same-origin" });
  } catch {
    throw new ApiError(OUT_OF_REACH, "The gateway cannot be reached; try again.", "unreachable", {});
  }
  if (response.ok) return response;
  throw errorOf(response, await documentOf(response));
}

/**
 * Returns the header fields that a change needs: the token of the session, the reason and the revision it rests on.
 * @param {SendOptions} options
 * @returns {Record<string, string>}
 */
export function requestHeaders({ reason, revision, headers }) {
  /** @type {Record<string, string>} */
  const fields = { accept: "application/json", ...headers };
  if (csrf) fields["penstock-csrf"] = csrf;
  if (revision !== undefined && revision !== null) fields["if-match"] = `"${revision}"`;
  if (reason) fields["penstock-reason"] = encodeURIComponent(reason);
  return fields;
}

/**
 * Returns the header fields of a request; the reason is in the body of a document, and in the header of other bodies.
 * @param {string} method
 * @param {unknown} body
 * @param {SendOptions} options
 * @returns {Record<string, string>}
 */
function headersOf(method, body, { reason, ...options }) {
  if (method === "GET") return { accept: "application/json", ...options.headers };
  if (isBytes(body)) return requestHeaders({ reason, ...options });
  return { ...requestHeaders(options), "content-type": "application/json" };
}

/**
 * @param {string} method
 * @param {Document | Blob | ArrayBuffer | null | undefined} body
 * @param {SendOptions} options
 */
function readBody(method, body, { reason }) {
  if (method === "GET") return undefined;
  if (isBytes(body)) return body;
  return JSON.stringify(reason ? { ...body, reason } : body || {});
}

/**
 * @param {unknown} body
 * @returns {body is Blob | ArrayBuffer}
 */
function isBytes(body) {
  return body instanceof Blob || body instanceof ArrayBuffer;
}

/** @param {Response} response */
async function documentOf(response) {
  const text = await response.text();
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    return { text };
  }
}

/**
 * Returns the error of a response; without a valid session the page for signing in is opened.
 * @param {Response} response
 * @param {any} document
 */
function errorOf(response, document) {
  if (response.status === 401) openSignIn();
  const message = document.error || `The gateway answered with status ${response.status}.`;
  return new ApiError(response.status, message, response.headers.get("penstock-fault") || "", document);
}

/** Opens the page for signing in, which leads back here. */
export function openSignIn() {
  const here = location.href.slice(address("/").length - 1);
  location.assign(address(`/console/sign-in?next=${encodeURIComponent(here)}`));
}
