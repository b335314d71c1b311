// Experiments as numbers to draw and choices.

import assert from "node:assert/strict";
import { test } from "node:test";

import { experimentActions, armsOf } from "../static/lib/experiments.js";

const arm = (mean, low, high, rewards = 10) => ({ weight: 5000, requests: 20, rewards, mean, low, high, label_delay_seconds: {} });

test("intervals lie on one scale", () => {
  const [one, other] = armsOf({ arms: { 1: arm(0.2, 0, 0.4), 2: arm(0.6, 0.5, 0.8) }, best: "2" });
  assert.deepEqual([one.from, one.at, one.to], [0, 25, 50]);
  assert.deepEqual([other.from, other.at, other.to].map(Math.round), [63, 75, 100]);
  assert.deepEqual([one.isBest, other.isBest], [false, true]);
});

test("without rewards nothing is known", () => {
  const [one] = armsOf({ arms: { 1: arm(null, 0, 1, 0), 2: arm(null, 0, 1, 0) }, best: null });
  assert.deepEqual([one.from, one.to, one.at], [0, 100, null]);
});

test("everything that is drawn lies in the frame", () => {
  for (const arms of [{ 1: arm(-5, -9, -1), 2: arm(3, -2, 8) }, { 1: arm(0, 0, 0), 2: arm(0, 0, 0) }, { 1: arm(1, 1, 1) }]) {
    for (const item of armsOf({ arms, best: null })) {
      for (const place of [item.from, item.to, item.at]) assert.ok(place >= 0 && place <= 100, `${place}`);
      assert.ok(item.from <= item.to);
    }
  }
});

test("what can be done follows from the state", () => {
  const verbs = (state) => experimentActions({ state }).map((action) => action.verb);
  assert.deepEqual([verbs("running"), verbs("paused"), verbs("stopped")], [["pause", "stop"], ["resume", "stop"], []]);
});
