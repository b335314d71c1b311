// The form of a rollout: what the fields become, and which faults the page sees by itself.

import assert from "node:assert/strict";
import { test } from "node:test";

import { rolloutBody, emptyForm, readNumber, readSteps } from "../static/lib/rollout-form.js";

test("an empty form needs only a version", () => {
  assert.deepEqual(rolloutBody(emptyForm()).faults, ["Choose the version to roll out."]);
  assert.deepEqual(rolloutBody({ ...emptyForm(), to: "2" }), {
    body: {
      to: "2", on_inconclusive: "hold", steps: [100, 500, 2500, 5000, 10000],
      guards: [{ metric: "errors" }, { metric: "latency", max_ratio: 1.2 }],
      min_step_seconds: 30, alpha: 0.01, hold_back: 500,
    },
    faults: [],
  });
});

test("every field has its unit", () => {
  const form = { ...emptyForm(), to: "2", from: "1", minStep: "5", deadline: "3600", alpha: "0.5", holdBack: "0", shadow: "50", dryRun: true };
  form.guards = form.guards.map((guard) => ({ ...guard, chosen: true, limit: guard.metric === "errors" ? "0.7" : guard.limit }));
  const { body, faults } = rolloutBody(form);
  assert.deepEqual(faults, []);
  assert.deepEqual([body.from, body.deadline_seconds, body.alpha, body.hold_back, body.shadow, body.dry_run], ["1", 3600, 0.005, 0, 50, true]);
  assert.deepEqual(body.guards, [
    { metric: "errors", max_increase: 0.007 }, { metric: "latency", max_ratio: 1.2 }, { metric: "outputs", max: 0.1 },
    { metric: "disagreement", max: 0.02 }, { metric: "quality", max_increase: 0.01 }, { metric: "performance", max_increase: 0.05 },
    { metric: "error_ratio", max: 0.01 }, { metric: "latency_p99", max_ms: 100 },
  ]);
});

test("steps are read", () => {
  assert.deepEqual(readSteps("1, 5! 25% 100").steps, [100, { weight: 500, approval: true }, 2500, 10000]);
  assert.deepEqual(readSteps("0.05 12.5").steps, [5, 1250]);
  for (const text of ["", "5 5", "5 1", "0", "101", "a", "1.234", "-1"]) assert.notEqual(readSteps(text).fault, "", text);
});

test("numbers are read", () => {
  assert.equal(readNumber(""), null);
  assert.equal(readNumber(" 1.5 "), 1.5);
  for (const text of ["a", "-1", "1e5", "1.", "Infinity"]) assert.ok(Number.isNaN(readNumber(text)), text);
});

test("wrong fields are named", () => {
  const form = { ...emptyForm(), to: "2", steps: "9 1", minStep: "x", guards: emptyForm().guards.map((guard) => ({ ...guard, chosen: false })) };
  const { faults } = rolloutBody(form);
  assert.equal(faults.length, 3);
  form.guards = [{ metric: "latency", chosen: true, limit: "fast" }];
  assert.ok(rolloutBody(form).faults.includes("The limit of latency must be a number."));
});

test("steps may need requests and labels, and a query of Prometheus may be a guard", () => {
  const form = { ...emptyForm(), to: "2", steps: "5! 100", minRequests: "1000", minLabels: "50", query: " up ", queryMin: "-1", queryMax: "" };
  const { body, faults } = rolloutBody(form);
  assert.deepEqual(faults, []);
  assert.deepEqual(body.steps, [
    { weight: 500, approval: true, min_requests: 1000, min_labels: 50 },
    { weight: 10000, min_requests: 1000, min_labels: 50 },
  ]);
  assert.deepEqual(body.guards.at(-1), { metric: "promql", query: "up", min: -1 });
  assert.equal(rolloutBody({ ...form, queryMin: "" }).faults.length, 1);
  assert.equal(rolloutBody({ ...form, minLabels: "some" }).faults.length, 1);
});
