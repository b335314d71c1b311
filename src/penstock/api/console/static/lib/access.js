// Who uses the console, and what they may do. The gateway decides; this only keeps the page from offering what it refuses.

import { Signal, useSignal } from "./html.js";
import { get } from "./api.js";

/** @typedef {{models: string, roles: string[], permissions: string[]}} Grant */
/** @typedef {{name: string, method: string, groups: string[], expires_at: number | null, grants: Grant[]}} Caller */

/** The caller; null until the gateway has answered. */
export const whoami = new Signal(/** @type {Caller | null} */ (null));

/** Asks who the caller is. */
export async function loadWhoami() {
  whoami.value = await get("/whoami");
}

/**
 * Returns whether the caller may do something with a model ("" stands for all models), and why not; renders the component
 * again when it is known who the caller is. There is no other way to ask: a page would keep its first answer.
 * @param {string} model
 * @returns {(permission: string) => {allowed: boolean, reason: string}}
 */
export function usePermissions(model) {
  useSignal(whoami);
  return (permission) => may(permission, model);
}

/**
 * Whether a pattern names a model: "fraud-*" names "fraud-1".
 * @param {string} pattern
 * @param {string} model
 */
export function matches(pattern, model) {
  return pattern.endsWith("*") ? model.startsWith(pattern.slice(0, -1)) : pattern === model;
}

/**
 * @param {string} permission such as "operate"
 * @param {string} model
 * @returns {{allowed: boolean, reason: string}}
 */
function may(permission, model) {
  const caller = whoami.value;
  if (!caller) return { allowed: false, reason: "Your permissions are not known yet." };
  const allowed = caller.grants.some(
    (grant) => grant.permissions.includes(permission) && (model ? matches(grant.models, model) : grant.models === "*"),
  );
  const subject = model ? "this model" : "all models";
  return { allowed, reason: allowed ? "" : `You need the permission “${permission}” for ${subject}.` };
}
