/**
 * Asks for predictions and explanations by the ops port: a page of it cannot reach the data ports, which are another origin.
 *
 * @typedef {{document: Record<string, any>, version: string, route: string, id: string, stages: import("./answer.js").StageTime[], ms: number}} Prediction
 *   `ms` is the time of the whole call as the page sees it.
 */

import { fetchRaw, requestHeaders, send } from "../lib/api.js";
import { stageTimes } from "./answer.js";
import { requestText } from "./request.js";

/**
 * The answer to a request; throws an ApiError.
 * @param {string} model
 * @param {string} version "" where the route decides
 * @param {import("./request.js").InferRequest} request
 * @param {Record<string, string>} fields header fields for rules and sticky splits
 * @returns {Promise<Prediction>}
 */
export async function predict(model, version, request, fields) {
  const body = requestText(request);
  /** @type {Record<string, string>} */
  const stated = Object.keys(fields).length ? { "penstock-forward": JSON.stringify(fields) } : {};
  const headers = requestHeaders({ headers: { "content-type": "application/json", ...stated } });
  const query = version ? `?version=${encodeURIComponent(version)}` : "";
  const began = performance.now();
  const response = await fetchRaw("POST", `/models/${encodeURIComponent(model)}/predict${query}`, { body, headers });
  const document = await response.json();
  return {
    document,
    version: response.headers.get("penstock-model-version") ?? "",
    route: response.headers.get("penstock-route") ?? "",
    id: response.headers.get("x-request-id") ?? "",
    stages: stageTimes(response.headers.get("server-timing")),
    ms: performance.now() - began,
  };
}

/**
 * The explanation of the answer of a version to a request; throws an ApiError.
 * @param {string} model
 * @param {string} version
 * @param {import("./request.js").InferRequest} request
 * @param {Record<string, string>} parameters
 */
export function explain(model, version, request, parameters) {
  const body = `{"parameters":${JSON.stringify(parameters)},${requestText(request).slice(1)}`;
  const path = `/models/${encodeURIComponent(model)}/explain?version=${encodeURIComponent(version)}`;
  return send("POST", path, new Blob([body], { type: "application/json" }));
}
