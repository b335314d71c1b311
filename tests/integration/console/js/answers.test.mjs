// Two answers side by side: places, differences, other shapes, and long outputs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { SHOWN, compareOutputs, elementPlace, tensorText, textOf } from "../static/lib/answers.js";

const tensor = (data, shape = [data.length], name = "y") => ({ name, datatype: "FP32", shape, data });

test("elements that differ are marked, with the difference", () => {
  const [output] = compareOutputs([tensor([0.1, 0.9], [1, 2])], [tensor([0.1, 0.4], [1, 2])]);
  assert.equal(output.differing, 1);
  assert.deepEqual(output.pairs.map((pair) => [pair.place, pair.differs]), [["0, 0", false], ["0, 1", true]]);
  assert.ok(Math.abs(output.pairs[1].difference + 0.5) < 1e-12);
  assert.equal(output.shape, "[1, 2]");
});

test("texts, missing elements and other shapes can be compared", () => {
  const [output] = compareOutputs([tensor(["cat"], [1])], [tensor(["dog", "<b>"], [2])]);
  assert.deepEqual(output.pairs.map((pair) => [pair.answer, pair.shadow, pair.difference]), [["cat", "dog", null], ["–", "<b>", null]]);
  assert.equal(output.shape, "[1] and [2]");
  const outputs = compareOutputs([tensor([1], [1], "a")], [tensor([1], [1], "b")]);
  assert.deepEqual(outputs.map((item) => [item.name, item.differing]), [["a", 1], ["b", 1]]);
});

test("of a long output those that differ come first", () => {
  const one = Array.from({ length: 100 }, () => 0);
  const other = one.map((value, index) => (index === 99 ? 1 : value));
  const [output] = compareOutputs([tensor(one)], [tensor(other)]);
  assert.equal(output.pairs.length, SHOWN);
  assert.equal(output.pairs[0].place, "99");
  assert.equal(output.left, 100 - SHOWN);
});

test("places follow the shape", () => {
  assert.equal(elementPlace(5, [2, 3]), "1, 2");
  assert.equal(elementPlace(7, []), "7");
  assert.equal(elementPlace(0, [0, 3]), "0, 0");
});

test("values as text", () => {
  assert.deepEqual([0.1234567891, 3, "<i>", true, null, undefined].map(textOf), ["0.1234568", "3", "<i>", "true", "null", "–"]);
  assert.equal(tensorText(tensor([1, 2, 3]), 2), "1, 2, … (1 more)");
  assert.equal(tensorText({ name: "x", datatype: "FP32", shape: [2, 1], data: [[1], [2]] }), "1, 2");
});
