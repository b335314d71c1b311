// Experiments as numbers to draw and choices: the interval of each arm on one scale, and what may be done.

/** @typedef {import("./rollouts.js").Action} Action */
/** @typedef {{arm: string, weight: number, requests: number, rewards: number, mean: number | null, low: number, high: number,
 *     from: number, to: number, at: number | null, isBest: boolean}} Arm `from`, `to` and `at` lie between 0 and 100 */

/**
 * Returns the arms with their intervals on one scale, which holds all means and, where rewards have come, all intervals.
 * @param {any} experiment
 * @returns {Arm[]}
 */
export function armsOf(experiment) {
  const arms = Object.entries(experiment.arms);
  const known = arms.filter(([, item]) => /** @type {any} */ (item).rewards > 0).map(([, item]) => /** @type {any} */ (item));
  const low = Math.min(0, ...known.map((item) => item.low));
  const high = Math.max(low + 1e-9, ...known.map((item) => item.high), known.length ? -Infinity : 1);
  const place = (/** @type {number} */ value) => Math.min(100, Math.max(0, ((value - low) / (high - low)) * 100));
  return arms.map(([arm, given]) => {
    const item = /** @type {any} */ (given);
    const has = item.rewards > 0;
    return {
      arm, weight: item.weight, requests: item.requests, rewards: item.rewards, mean: item.mean, low: item.low, high: item.high,
      from: has ? place(item.low) : 0, to: has ? place(item.high) : 100, at: item.mean === null ? null : place(item.mean), isBest: experiment.best === arm,
    };
  });
}

/** @type {Action[]} */
const EXPERIMENT_ACTIONS = [
  { verb: "pause", key: "p", title: "Pause", says: "The weights stay as they are; rewards still count.", permission: "operate", danger: false },
  { verb: "resume", key: "r", title: "Resume", says: "Weights may follow the rewards again.", permission: "operate", danger: false },
  { verb: "stop", key: "x", title: "Stop", says: "The experiment ends; the route is as before it.", permission: "operate", danger: true },
];

/**
 * Returns what can be done with an experiment now, whoever may do it.
 * @param {any} experiment
 */
export function experimentActions(experiment) {
  /** @type {Record<string, string[]>} */
  const possible = { running: ["pause", "stop"], paused: ["resume", "stop"] };
  return EXPERIMENT_ACTIONS.filter((action) => (possible[experiment.state] || []).includes(action.verb));
}
