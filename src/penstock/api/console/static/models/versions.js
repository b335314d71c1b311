/**
 * Rules of versions that a page needs before it asks: names, order, lineage, and what a push answered.
 *
 * @typedef {import("./compare.js").Version} Version
 * @typedef {{done: boolean, text: string, kind: "good" | "bad" | "conflict"}} PushVerdict
 */

const VERSION = /^[0-9][0-9A-Za-z._+-]{0,63}$/;
const MODEL = /^[0-9A-Za-z_][0-9A-Za-z._-]{0,127}$/;
const ALIAS = /^[A-Za-z][0-9A-Za-z._+-]{0,63}$/;

/** @param {string} text */
export function versionFault(text) {
  return VERSION.test(text) ? "" : "a version begins with a digit and has at most 64 letters, digits and . _ + -";
}

/** @param {string} text */
export function modelFault(text) {
  return MODEL.test(text) ? "" : "a model's name has letters, digits and . _ -";
}

/** @param {string} text */
export function aliasFault(text) {
  return ALIAS.test(text) ? "" : "an alias begins with a letter";
}

/**
 * The version after the newest whole number, a proposal for the next push.
 * @param {readonly {version: string}[]} versions
 */
export function nextVersion(versions) {
  const numbers = versions.map((item) => item.version).filter((text) => /^\d{1,9}$/.test(text)).map(Number);
  return String(Math.max(0, ...numbers) + 1);
}

/**
 * The versions from which one comes, the nearest first; ends where a parent is unknown, or comes again.
 * @param {readonly Version[]} versions
 * @param {string} version
 */
export function ancestors(versions, version) {
  const parents = new Map(versions.map((item) => [item.version, item.metadata.parent]));
  /** @type {string[]} */
  const line = [];
  let parent = parents.get(version);
  while (typeof parent === "string" && parent !== version && !line.includes(parent)) {
    line.push(parent);
    parent = parents.get(parent);
  }
  return line;
}

/**
 * The versions that name one as their parent.
 * @param {readonly Version[]} versions
 * @param {string} version
 */
export function children(versions, version) {
  return versions.filter((item) => item.metadata.parent === version).map((item) => item.version);
}

/**
 * What the answer to a push means.
 * @param {number} status
 * @param {Record<string, unknown>} document
 * @returns {PushVerdict}
 */
export function pushVerdict(status, document) {
  const error = typeof document.reason === "string" && document.reason ? document.reason : String(document.error ?? "");
  if (status === 201) return { done: true, kind: "good", text: `admitted as version ${String(document.version)}` };
  if (status === 200) return { done: true, kind: "good", text: `version ${String(document.version)} has the same content already` };
  if (status === 409) return { done: false, kind: "conflict", text: error };
  return { done: false, kind: "bad", text: status === 422 ? `admission refuses it: ${error}` : error || `the gateway answered ${status}` };
}

/**
 * Whether a version is one that could take an alias, and why not.
 * @param {Version} version
 */
export function aliasTargetFault(version) {
  return version.state === "READY" ? "" : `version ${version.version} is not ready: ${version.reason || version.state.toLowerCase()}`;
}
