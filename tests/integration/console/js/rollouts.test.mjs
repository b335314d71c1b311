// Rollouts as texts and choices, as tables.

import assert from "node:assert/strict";
import { test } from "node:test";

import { rolloutActions, effectText, isOpen, stepsOf, withNewest } from "../static/lib/rollouts.js";

const RUNNING = {
  state: "running", step: 1, weight: 500, steps: [100, { weight: 500, approval: true }, 10000], hold_back: 500, shadow: 0,
  waiting_for: ["a person's approval"], evidence: { errors: { log_e_pass: 2 } },
};
const verbs = (rollout) => rolloutActions(rollout).map((action) => action.verb);

test("what can be done follows from the state", () => {
  assert.deepEqual(verbs(RUNNING), ["pause", "approve", "promote", "abort"]);
  assert.deepEqual(verbs({ ...RUNNING, waiting_for: [] }), ["pause", "promote", "abort"]);
  assert.deepEqual(verbs({ ...RUNNING, step: 0, state: "paused" }), ["resume", "promote", "abort"]);
  for (const state of ["promoted", "rolled_back", "inconclusive"]) {
    assert.deepEqual(verbs({ ...RUNNING, state }), []);
    assert.equal(isOpen({ ...RUNNING, state }), false);
  }
});

test("no two actions have the same key", () => {
  const keys = [...rolloutActions(RUNNING), ...rolloutActions({ ...RUNNING, state: "paused" })].map((action) => `${action.verb}${action.key}`);
  const all = new Set(keys.map((text) => text.slice(-1)));
  assert.equal(all.size, new Set(keys).size);
});

test("steps are over, present or to come", () => {
  assert.deepEqual(stepsOf(RUNNING).map((step) => [step.weight, step.state]), [[100, "over"], [500, "now"], [9500, "to come"], [10000, "to come"]]);
  assert.deepEqual(stepsOf({ ...RUNNING, shadow: 50, step: -1 }).map((step) => step.state), ["now", "to come", "to come", "to come", "to come"]);
  assert.deepEqual(stepsOf({ ...RUNNING, state: "promoted", step: 2 }).map((step) => step.state), ["over", "over", "over", "now"]);
  assert.deepEqual(stepsOf({ ...RUNNING, state: "rolled_back" }).map((step) => step.state), ["over", "ended", "to come", "to come"]);
});

test("the newest evidence is the last point, and that of the end of a rollout", () => {
  const history = { at: [1, 2], step: [0, 1], weight: [100, 500], guards: { errors: { log_e: [0, 1], log_e_pass: [0, 1] } } };
  const newest = withNewest(history, RUNNING, 5);
  assert.deepEqual(newest, { at: [1, 2, 5], step: [0, 1, 1], weight: [100, 500, 500], guards: { errors: { log_e: [0, 1, 1], log_e_pass: [0, 1, 2] } } });
  const ended = { ...RUNNING, state: "rolled_back", evidence: { errors: { log_e: 7, log_e_pass: 0 } }, changes: [{ at: "1970-01-01T00:00:04+00:00" }] };
  assert.deepEqual(withNewest(history, ended, 9).at, [1, 2, 4]);
  assert.deepEqual(withNewest(history, ended, 9).guards.errors, { log_e: [0, 1, 7], log_e_pass: [0, 1, 0] });
  assert.equal(withNewest(history, { ...ended, changes: [{ at: "1970-01-01T00:00:01+00:00" }] }, 9), history);
  assert.equal(withNewest(history, RUNNING, 2), history);
});

test("effects have the unit of their guard", () => {
  assert.equal(effectText("errors", 0.0123), "+1.23 percentage points of errors");
  assert.equal(effectText("latency", 1.2345), "1.23 times the control's time");
  assert.equal(effectText("promql", 7), "7");
  assert.equal(effectText("errors", null), "not known yet");
});
