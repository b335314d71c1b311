// Splits sum to 10,000 whatever is moved, locked, added or removed: tables and random sequences of actions.

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  POINTS, addVersion, canMove, distributeEvenly, freeVersions, mostPoints, readPoints, removeVersion, setPoints, spread,
} from "../static/lib/split.js";

const none = new Set();
const sum = (split) => Object.values(split).reduce((one, other) => one + other, 0);

/** Random numbers that are the same in every run (mulberry32). */
function generator(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

test("the rest is spread in proportion", () => {
  assert.deepEqual(setPoints({ a: 5000, b: 3000, c: 2000 }, none, "a", 0), { a: 0, b: 6000, c: 4000 });
  assert.deepEqual(setPoints({ a: 10000, b: 0, c: 0 }, none, "a", 9000), { a: 9000, b: 500, c: 500 });
  assert.deepEqual(setPoints({ a: 9999, b: 1 }, none, "b", 2), { a: 9998, b: 2 });
});

test("a locked version keeps its points and limits the others", () => {
  const locked = new Set(["b"]);
  assert.equal(mostPoints({ a: 5000, b: 3000, c: 2000 }, locked, "a"), 7000);
  assert.deepEqual(setPoints({ a: 5000, b: 3000, c: 2000 }, locked, "a", 99999), { a: 7000, b: 3000, c: 0 });
  assert.deepEqual(setPoints({ a: 5000, b: 3000, c: 2000 }, locked, "b", 1), { a: 5000, b: 3000, c: 2000 });
});

test("without another free version nothing moves", () => {
  const split = { a: 4000, b: 6000 };
  assert.equal(canMove(split, new Set(["b"]), "a"), false);
  assert.deepEqual(setPoints(split, new Set(["b"]), "a", 1), split);
  assert.equal(canMove({ a: POINTS }, none, "a"), false);
});

test("what is not a number moves nothing", () => {
  assert.deepEqual(setPoints({ a: 1000, b: 9000 }, none, "a", NaN), { a: 1000, b: 9000 });
});

test("free versions get the same", () => {
  assert.deepEqual(distributeEvenly({ a: 1, b: 2, c: 9997 }, none), { a: 3334, b: 3333, c: 3333 });
  assert.deepEqual(distributeEvenly({ a: 1000, b: 2000, c: 7000 }, new Set(["a"])), { a: 1000, b: 4500, c: 4500 });
  assert.deepEqual(distributeEvenly({ a: 4000, b: 6000 }, new Set(["a", "b"])), { a: 4000, b: 6000 });
});

test("versions come and go", () => {
  assert.deepEqual(addVersion({}, "a"), { a: POINTS });
  assert.deepEqual(addVersion({ a: POINTS }, "b"), { a: POINTS, b: 0 });
  assert.deepEqual(addVersion({ a: POINTS }, "a"), { a: POINTS });
  assert.deepEqual(removeVersion({ a: 2000, b: 3000, c: 5000 }, none, "c"), { a: 4000, b: 6000 });
  assert.deepEqual(removeVersion({ a: 10000, b: 0 }, new Set(["a"]), "b"), { a: 10000 });
  assert.equal(removeVersion({ a: 4000, b: 6000 }, new Set(["a"]), "b"), null);
  assert.equal(removeVersion({ a: POINTS }, none, "a"), null);
});

test("points are read from a number box", () => {
  const table = [["250", 250], [" 2.5 % ", 250], ["2,5%", 250], ["100%", 10000], ["0.01 %", 1], ["0.001%", null], ["10001", null],
    ["1.5", null], ["-1", null], ["a", null], ["", null], ["100.01%", null]];
  for (const [text, points] of table) assert.equal(readPoints(text), points, text);
});

test("a whole number is spread to whole numbers", () => {
  const random = generator(1);
  for (let turn = 0; turn < 2000; turn += 1) {
    const shares = Array.from({ length: 1 + Math.floor(random() * 8) }, () => Math.floor(random() ** 3 * POINTS));
    const total = Math.floor(random() * (POINTS + 1));
    const parts = spread(total, shares);
    const all = shares.reduce((one, other) => one + other, 0);
    assert.equal(parts.reduce((one, other) => one + other, 0), total);
    parts.forEach((part, index) => {
      const exact = all ? (total * shares[index]) / all : total / shares.length;
      assert.ok(Number.isInteger(part) && Math.abs(part - exact) < 1 + 1e-9, `${part} of ${exact}`);
    });
  }
});

test("every sequence of actions leaves 10,000 points, none below zero, and locks as they are", () => {
  for (let seed = 0; seed < 300; seed += 1) {
    const random = generator(seed);
    const pick = (names) => names[Math.floor(random() * names.length)];
    let split = { v0: POINTS };
    const locked = new Set();
    for (let turn = 0; turn < 40; turn += 1) {
      const before = { ...split };
      const version = pick(Object.keys(split));
      const action = pick(["move", "move", "move", "add", "remove", "lock", "even"]);
      if (action === "move") split = setPoints(split, locked, version, Math.floor((random() * 3 - 1) * POINTS));
      if (action === "add" && Object.keys(split).length < 32) split = addVersion(split, `v${turn + 1}`);
      if (action === "remove") split = removeVersion(split, locked, version) ?? split;
      if (action === "even") split = distributeEvenly(split, locked);
      if (action === "lock") locked.has(version) ? locked.delete(version) : locked.add(version);
      assert.equal(sum(split), POINTS);
      assert.ok(Object.values(split).every((points) => Number.isInteger(points) && points >= 0), JSON.stringify(split));
      if (action !== "remove") for (const name of locked) assert.equal(split[name] ?? 0, before[name] ?? 0);
      assert.equal(freeVersions(split, locked, version).some((name) => locked.has(name)), false);
    }
  }
});
