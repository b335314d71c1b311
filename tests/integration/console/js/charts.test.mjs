// Lines of charts: where they stand, where they break, and how evidence is drawn that is far beyond its boundary.

import assert from "node:assert/strict";
import { test } from "node:test";

import { rangeOf } from "../static/components/chart.js";
import { drawnEvidence, stepMoments } from "../static/components/evidence-chart.js";
import { linesOf } from "../static/components/sparkline.js";

test("a line breaks where a value is missing, and one point is none", () => {
  const across = (index) => index * 10;
  const down = (value) => 100 - value;
  assert.deepEqual(linesOf([1, 2, null, 3, null, 4, 5], across, down), ["0.0,99.0 10.0,98.0", "50.0,96.0 60.0,95.0"]);
  for (const values of [[], [1], [null], [NaN, 1]]) assert.deepEqual(linesOf(values, across, down), []);
});

test("the axis holds zero, all values and all levels, and is never empty", () => {
  assert.deepEqual(rangeOf([{ name: "a", values: [2, null, -1] }], [{ name: "alarm", value: 11 }]), [-1, 11]);
  assert.deepEqual(rangeOf([{ name: "a", values: [] }], []), [0, 1]);
});

test("evidence far beyond its boundary leaves room for the rest", () => {
  assert.deepEqual(drawnEvidence([0, null, 9000, -9], 5, 3), [0, null, 8, -2]);
  assert.deepEqual(drawnEvidence([9000], null, undefined), [9000]);
});

test("steps are moments at which they begin", () => {
  assert.deepEqual(stepMoments([0, 60, 120], [0, 1, 1]), [{ at: 60, name: "step 2" }]);
  assert.deepEqual(stepMoments([], []), []);
});
