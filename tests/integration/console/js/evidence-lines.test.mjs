// The drawing of evidence: inside its frame, in order, with boundaries where they belong.

import assert from "node:assert/strict";
import { test } from "node:test";

import { describeEvidence, layOut, passedText } from "../static/lib/evidence-lines.js";

const SIZE = { width: 400, height: 120 };

test("lines lie in the frame, and the boundary above the evidence that has not reached it", () => {
  const series = [{ name: "against", values: [0, 1, 2, -9], boundary: 5 }, { name: "for", values: [0, 0.5, 3.5, 4], boundary: 3 }];
  const { lines, zero, left, right, top, bottom } = layOut([100, 110, 130, 160], series, [0, 0, 1, 1], SIZE);
  for (const line of lines) {
    const points = line.points.split(" ").map((pair) => pair.split(",").map(Number));
    assert.deepEqual(points.map(([x]) => x), points.map(([x]) => x).sort((one, other) => one - other));
    for (const [x, y] of points) assert.ok(x >= left && x <= right && y >= top && y <= bottom, `${x},${y}`);
  }
  const [against, passing] = lines;
  assert.ok(against.boundary < passing.boundary && passing.boundary < zero);
  assert.equal(against.last, -9);
  const heights = passing.points.split(" ").map((pair) => Number(pair.split(",")[1]));
  assert.ok(heights[2] < passing.boundary && heights[1] > passing.boundary);
});

test("evidence far beyond its boundary leaves room for the rest", () => {
  const { lines, zero, top } = layOut([0, 1], [{ name: "for", values: [0, 9000], boundary: 3 }, { name: "against", values: [0, 0], boundary: 5 }], [0, 0], SIZE);
  assert.ok(zero - lines[0].boundary > 20 && lines[1].boundary - top > 20);
  assert.equal(Number(lines[0].points.split(" ")[1].split(",")[1]), top);
});

test("steps and times are marked", () => {
  const { steps, times } = layOut([0, 60, 7200], [], [0, 1, 1], SIZE);
  assert.deepEqual(steps.map((label) => label.text), ["step 2"]);
  assert.deepEqual(times.map((label) => label.text), ["0 s", "60 min", "2.0 h"]);
});

test("one point, none, and gaps can be drawn", () => {
  for (const at of [[], [5]]) {
    const { lines } = layOut(at, [{ name: "a", values: at.map(() => 1), boundary: null }], at.map(() => 0), SIZE);
    assert.ok(!lines[0].points.includes("NaN"));
    assert.equal(lines[0].boundary, null);
  }
  const { lines } = layOut([0, 1, 2], [{ name: "a", values: [0, null, 1], boundary: null }], [0, 0, 0], SIZE);
  assert.equal(lines[0].points.split(" ").length, 2);
});

test("times in the unit that people use", () => {
  assert.deepEqual([5, 600, 7200, 400000].map(passedText), ["5 s", "10 min", "2.0 h", "4.6 d"]);
});

test("the drawing is also a sentence", () => {
  const text = describeEvidence("errors", { verdict: "undecided", log_e: 1, log_e_fail_at: 5, log_e_pass: 2, log_e_pass_at: 3 });
  assert.equal(text, "errors: undecided; evidence against it 1 of 5, for it 2 of 3");
});
