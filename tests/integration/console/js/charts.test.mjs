// Lines of charts: where they stand, where they break, and how evidence is drawn that is far beyond its boundary.

import assert from "node:assert/strict";
import { test } from "node:test";

import { gapsOf, rangeOf, scaleOf } from "../static/components/chart.js";
import { drawnEvidence, stepMoments } from "../static/components/evidence-chart.js";
import { linesOf } from "../static/components/sparkline.js";

test("a line breaks where a value is missing, and one point is a dot", () => {
  const across = (index) => index * 10;
  const down = (value) => 100 - value;
  assert.deepEqual(linesOf([1, 2, null, 3, null, 4, 5], across, down), ["0.0,99.0 10.0,98.0", "30.0,97.0 30.0,97.0", "50.0,96.0 60.0,95.0"]);
  assert.deepEqual(linesOf([NaN, 1], across, down), ["10.0,99.0 10.0,99.0"]);
  for (const values of [[], [null], [NaN]]) assert.deepEqual(linesOf(values, across, down), []);
});

test("a line breaks over the time in which nothing was measured", () => {
  const at = [0, 5, 10, 15, 600, 605, 611];
  assert.deepEqual(at.map((_, index) => gapsOf(at)(index)), [false, false, false, false, true, false, false]);
  assert.deepEqual(linesOf([1, 1, 1, 1, 2, 2, 2], (index) => index, (value) => value, gapsOf(at)), ["0.0,1.0 1.0,1.0 2.0,1.0 3.0,1.0", "4.0,2.0 5.0,2.0 6.0,2.0"]);
  for (const even of [[], [0], [0, 900], [0, 60, 120], [0, 60, 180, 600]]) assert.ok(!even.some((_, index) => gapsOf(even)(index)));
});

test("an axis ends at round values", () => {
  assert.deepEqual(scaleOf(0, 11.7), { low: 0, high: 15, step: 5 });
  assert.deepEqual(scaleOf(-0.6, 9.1), { low: -5, high: 10, step: 5 });
  assert.deepEqual(scaleOf(0, 2765), { low: 0, high: 3000, step: 1000 });
  assert.deepEqual(scaleOf(0, 1), { low: 0, high: 1, step: 0.5 });
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
