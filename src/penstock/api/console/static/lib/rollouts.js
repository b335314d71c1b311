// Rollouts as texts and choices: how far one is, what may be done with it, and its evidence with the newest point.

/** @typedef {{verb: string, key: string, title: string, says: string, permission: string, danger: boolean}} Action */

/** @type {Action[]} */
const ROLLOUT_ACTIONS = [
  { verb: "pause", key: "p", title: "Pause", says: "It holds the present weights. Harm still rolls it back.", permission: "operate", danger: false },
  { verb: "resume", key: "r", title: "Resume", says: "It goes on at its step, and the step begins anew.", permission: "operate", danger: false },
  { verb: "approve", key: "y", title: "Approve the step", says: "The step may be left as soon as its other conditions hold.", permission: "approve", danger: false },
  { verb: "promote", key: "m", title: "Promote now", says: "The version gets all the traffic now, without waiting for evidence.", permission: "operate", danger: true },
  { verb: "abort", key: "x", title: "Abort", says: "The version loses its traffic now; the route is as before the rollout.", permission: "operate", danger: true },
];

/** @param {any} rollout */
export function isOpen(rollout) {
  return rollout.state === "running" || rollout.state === "paused";
}

/**
 * Returns what can be done with a rollout now, whoever may do it.
 * @param {any} rollout
 * @returns {Action[]}
 */
export function rolloutActions(rollout) {
  if (!isOpen(rollout)) return [];
  const step = rollout.steps[rollout.step];
  const waits = typeof step === "object" && step !== null && step.approval && rollout.waiting_for?.includes("a person's approval");
  /** @type {Record<string, boolean>} */
  const possible = { pause: rollout.state === "running", resume: rollout.state === "paused", approve: Boolean(waits), promote: true, abort: true };
  return ROLLOUT_ACTIONS.filter((action) => possible[action.verb]);
}

/**
 * Returns the steps with their weights, and which are over, present or to come; a rollout that was not promoted ended at its step.
 * @param {any} rollout
 * @returns {{title: string, weight: number, state: "over" | "now" | "ended" | "to come"}[]}
 */
export function stepsOf(rollout) {
  const most = 10000 - rollout.hold_back;
  const promoted = rollout.state === "promoted";
  const present = promoted || isOpen(rollout) ? "now" : "ended";
  const weights = rollout.steps.map((/** @type {any} */ step) => Math.min(most, typeof step === "number" ? step : step.weight));
  const steps = weights.map((/** @type {number} */ weight, /** @type {number} */ index) => ({
    title: `Step ${index + 1}`, weight, state: promoted || index < rollout.step ? "over" : index === rollout.step ? present : "to come",
  }));
  if (rollout.shadow > 0) steps.unshift({ title: "Mirrored", weight: 0, state: rollout.step < 0 && !promoted ? present : "over" });
  return [...steps, { title: "Promoted", weight: 10000, state: promoted ? "now" : "to come" }];
}

/**
 * Returns the evidence over time with the newest evidence of the rollout as the last point, if it is newer: that of now,
 * or that of its end.
 * @param {any} history `evidence_history` of the admin API
 * @param {any} rollout with its changes
 * @param {number} time seconds since the epoch
 * @returns {any}
 */
export function withNewest(history, rollout, time) {
  const last = history.at[history.at.length - 1];
  const now = isOpen(rollout) ? time : Date.parse(rollout.changes?.at(-1)?.at) / 1000;
  if (!(last === undefined ? now : now > last)) return history;
  const guards = Object.entries(history.guards).map(([name, series]) => {
    const evidence = rollout.evidence[name];
    const { log_e: against, log_e_pass: passing } = /** @type {any} */ (series);
    return [name, { log_e: [...against, evidence?.log_e > 0 ? evidence.log_e : (against[against.length - 1] ?? 0)], log_e_pass: [...passing, evidence?.log_e_pass ?? null] }];
  });
  return {
    at: [...history.at, now], step: [...history.step, rollout.step], weight: [...history.weight, rollout.weight], guards: Object.fromEntries(guards),
  };
}

/** How the effect of each guard reads; the admin API gives ratios. @type {Record<string, (value: number) => string>} */
const GUARD_EFFECTS = {
  errors: (value) => `${signedEffect(value * 100)} percentage points of errors`,
  latency: (value) => `${roundedEffect(value)} times the control's time`,
  outputs: (value) => `${roundedEffect(value)} total variation`,
  disagreement: (value) => `${roundedEffect(value * 100)} % disagree`,
  quality: (value) => `${signedEffect(value * 100)} percentage points not finite`,
  performance: (value) => `${signedEffect(value * 100)} percentage points wrong`,
  error_ratio: (value) => `${roundedEffect(value * 100)} % errors`,
  latency_p99: (value) => `${roundedEffect(value * 100)} % slower than the limit`,
};

/**
 * Says how much worse the canary looks.
 * @param {string} metric
 * @param {number | null} effect
 */
export function effectText(metric, effect) {
  if (effect === null || effect === undefined) return "not known yet";
  return (GUARD_EFFECTS[metric] || ((/** @type {number} */ value) => String(roundedEffect(value))))(effect);
}

/** @param {number} value */
function roundedEffect(value) {
  return Number(value.toPrecision(3));
}

/** @param {number} value */
function signedEffect(value) {
  const shown = roundedEffect(value);
  return shown > 0 ? `+${shown}` : String(shown);
}
