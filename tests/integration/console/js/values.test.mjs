import assert from "node:assert/strict";
import { test } from "node:test";

import { readCsv, readJson, readValue, splitCsv, tensorOf } from "../static/predict/values.js";

const X = { name: "x", datatype: "FP32", shape: [-1, 3] };
const IDS = { name: "ids", datatype: "INT64", shape: [-1, 1] };
const WORD = { name: "word", datatype: "BYTES", shape: [-1] };
const PIXELS = { name: "pixels", datatype: "FP32", shape: [-1, 1, 2, 2] };

test("values are read by their datatype", () => {
  assert.deepEqual(["1.5", " -2e3 ", ".5", "", "NaN"].map((text) => readValue(text, "FP32")), [1.5, -2000, 0.5, null, null]);
  assert.deepEqual(["1", "false", "TRUE"].map((text) => readValue(text, "BOOL")), [true, false, true]);
  assert.equal(readValue("9007199254740993", "INT64"), 9007199254740993n);
  assert.equal(readValue("+7", "UINT8"), 7);
  assert.equal(readValue(" a ", "BYTES"), " a ");
});

test("a value that does not fit is a sentence", () => {
  /** @type {[string, string, RegExp][]} */
  const wrong = [
    ["a", "FP32", /'a' is not a number/],
    ["0x10", "FP64", /not a number/],
    ["1e999", "FP64", /too large/],
    ["", "INT32", /not a whole number/],
    ["1.5", "INT64", /not a whole number/],
    ["256", "UINT8", /256 is not between 0 and 255 \(UINT8\)/],
    ["-1", "UINT64", /not between/],
    ["9223372036854775808", "INT64", /not between/],
    ["yes", "BOOL", /not true or false/],
    ["", "FP16", /missing/],
  ];
  for (const [text, datatype, expected] of wrong) assert.throws(() => readValue(text, datatype), expected);
});

test("nested lists are tensors, and flat ones where one size is free", () => {
  assert.deepEqual(tensorOf(X, [[1, 2, 3], [4, 5, 6]]).shape, [2, 3]);
  assert.deepEqual(tensorOf(X, [1, 2, 3, 4, 5, 6]), { name: "x", datatype: "FP32", shape: [2, 3], data: [1, 2, 3, 4, 5, 6] });
  assert.deepEqual(tensorOf(PIXELS, [1, 2, 3, 4]).shape, [1, 1, 2, 2]);
  assert.deepEqual(tensorOf({ name: "n", datatype: "FP32", shape: [] }, 3), { name: "n", datatype: "FP32", shape: [], data: [3] });
  assert.deepEqual(tensorOf(X, [[null, 1, "2"]]).data, [null, 1, 2]);
});

test("a tensor of another shape says what was expected", () => {
  assert.throws(() => tensorOf(X, [[1, 2]]), /got the shape \[1, 2\]; expected 'x' FP32 \[rows, 3\]/);
  assert.throws(() => tensorOf(X, [[1, 2, 3], [1]]), /differ in length/);
  assert.throws(() => tensorOf(X, [1, 2]), /got 2 values/);
  assert.throws(() => tensorOf(X, [[[1, 2, 3]]]), /expected 'x'/);
  assert.throws(() => tensorOf(X, [[1, true, 3]]), /true is not a value of FP32/);
  assert.throws(() => tensorOf(IDS, [[1.5]]), /not a whole number/);
  assert.throws(() => tensorOf(IDS, [[2 ** 60]]), /write it as a text/);
});

test("JSON is a request, values by name, or the values of the only input", () => {
  const expected = [{ name: "x", datatype: "FP32", shape: [1, 3], data: [1, 2, 3] }];
  for (const text of ['[[1,2,3]]', "[1,2,3]", '{"x": [[1,2,3]]}', '{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1,2,3]}]}'])
    assert.deepEqual(readJson(text, [X]), expected);
  assert.deepEqual(readJson('{"ids": [[1]], "word": ["a"]}', [IDS, WORD]).map((tensor) => tensor.name), ["ids", "word"]);
  assert.throws(() => readJson("[[1]]", [IDS, WORD]), /expected an object with "ids", "word"/);
  assert.throws(() => readJson('{"y": [1]}', [X]), /no input 'y'; it takes 'x' FP32/);
  assert.throws(() => readJson('{"x": [["a", 1, 2]]}', [X]), /input 'x': 'a' is not a number/);
  assert.throws(() => readJson("{", [X]), /not JSON/);
  assert.throws(() => readJson('{"inputs": [{}]}', [X]), /no name/);
});

test("CSV is rows, with or without a head", () => {
  const expected = [[1, 2, 3], [4, 5, 6]].flat();
  for (const text of ["1,2,3\n4,5,6\n", "a;b;c\n1;2;3\n4;5;6", "1\t2\t3\r\n\r\n4\t5\t6"])
    assert.deepEqual(readCsv(text, [X])[0]?.data, expected);
  assert.deepEqual(readCsv("c,a,b\n3,1,2", [X], ["a", "b", "c"])[0]?.data, [1, 2, 3]);
  assert.deepEqual(readCsv("1,,3", [X])[0]?.data, [1, null, 3]);
  assert.deepEqual(readCsv('word,ids\n"a, ""b""",7', [IDS, WORD]).map((tensor) => tensor.data), [[7], ['a, "b"']]);
  assert.throws(() => readCsv("ids\n7", [IDS, WORD]), /does not name the input 'word'/);
  assert.throws(() => readCsv("\n", [X]), /no line/);
  assert.throws(() => readCsv("1,2\n", [X]), /expected 'x'/);
});

test("a line break between quotes belongs to the field", () => {
  assert.deepEqual(splitCsv('a,"b\nc"\nd,e'), [["a", "b\nc"], ["d", "e"]]);
});
