import assert from "node:assert/strict";
import { test } from "node:test";

import { outputTable, stageTimes } from "../static/predict/answer.js";
import { MOST_FEATURES, explanationOf } from "../static/predict/explanation.js";
import { drawnSize, pixelValues } from "../static/predict/image.js";
import { requestOf, requestText } from "../static/predict/request.js";
import { boxesOf, imageShape, kindOf, labelsOf, shapeText } from "../static/predict/signature.js";
import { curlCommand, needsFile, predictCommand, reachable, shellWord, tritonProgram } from "../static/predict/snippets.js";

/** @param {number[]} shape @param {string} [datatype] */
const spec = (shape, datatype = "FP32") => ({ name: "x", datatype, shape });

test("a form has boxes for one row of a short input", () => {
  assert.deepEqual([[-1, 3], [1, 3], [-1], [3], [], [-1, 65], [-1, -1], [4, 3], [-1, 2, 2]].map((shape) => boxesOf(spec(shape))), [
    3, 3, 1, 3, 1, 0, 0, 0, 4,
  ]);
  assert.deepEqual(["FP16", "INT64", "BOOL", "BYTES"].map(kindOf), ["number", "integer", "flag", "text"]);
  assert.equal(shapeText([-1, 3, -1]), "[rows, 3, any]");
});

test("boxes are labelled by the features where their number fits", () => {
  assert.deepEqual(labelsOf(spec([-1, 2]), ["age", "income"]), ["age", "income"]);
  assert.deepEqual(labelsOf(spec([-1, 2]), ["age"]), ["0", "1"]);
  assert.deepEqual(labelsOf(spec([-1, 2]), ["a", "a"]), ["0", "1"]);
  assert.deepEqual(labelsOf(spec([-1, 1]), []), ["x"]);
});

test("an image fits where the channels are one, three or four", () => {
  assert.deepEqual(imageShape(spec([-1, 3, 224, 200])), { channels: 3, height: 224, width: 200, first: true, batch: true });
  assert.deepEqual(imageShape(spec([1, -1, -1, 3], "UINT8")), { channels: 3, height: 0, width: 0, first: false, batch: true });
  assert.deepEqual(imageShape(spec([28, 28, 1])), { channels: 1, height: 28, width: 28, first: false, batch: false });
  for (const shape of [[-1, 3], [-1, 5, 224, 224], [-1, 3, 2, 2], [8, 3, 224, 224]]) assert.equal(imageShape(spec(shape)), null);
  assert.equal(imageShape(spec([1, 3, 224, 224], "INT64")), null);
});

test("pixels are values in the order of the tensor", () => {
  const rgba = [255, 0, 0, 255, 0, 255, 51, 255]; // red, and green with a little blue
  assert.deepEqual(pixelValues(rgba, 1, 2, { channels: 3, first: true }, "unit"), [1, 0, 0, 1, 0, 0.2]);
  assert.deepEqual(pixelValues(rgba, 1, 2, { channels: 3, first: false }, "bytes"), [255, 0, 0, 0, 255, 51]);
  assert.deepEqual(pixelValues(rgba, 1, 2, { channels: 1, first: true }, "bytes"), [76, 155]);
  assert.deepEqual(pixelValues(rgba, 1, 1, { channels: 3, first: true }, "signed"), [1, -1, -1]);
  assert.deepEqual(pixelValues([124, 116, 104, 255], 1, 1, { channels: 3, first: true }, "imagenet").map(Math.abs).map(Math.floor), [0, 0, 0]);
  assert.throws(() => pixelValues([1], 1, 1, { channels: 1, first: true }, "unit"), RangeError);
});

test("an image is drawn at the size of the input", () => {
  const shape = { channels: 3, height: 224, width: 0, first: true, batch: true };
  assert.deepEqual(drawnSize(shape, { width: 1024, height: 100 }), { height: 224, width: 512 });
});

const REQUEST = requestOf([
  { name: "x", datatype: "FP32", shape: [1, 3], data: [1.5, null, -2] },
  { name: "it's", datatype: "INT64", shape: [1], data: [9007199254740993n] },
]);

test("a request is JSON with all digits of its numbers", () => {
  assert.equal(
    requestText(REQUEST),
    '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1.5,null,-2]},' +
      '{"name":"it\'s","datatype":"INT64","shape":[1],"data":[9007199254740993]}]}',
  );
  assert.equal(requestText(requestOf([]), true), '{"inputs": []}');
});

const GATEWAY = { http: "127.0.0.1:8000", grpc: "127.0.0.1:8001", tls: false, authentication: false };

test("a request is a curl command", () => {
  const question = { gateway: GATEWAY, model: "a b", version: "1", request: REQUEST, fields: { "x-user-id": "7" } };
  const command = curlCommand(question);
  assert.match(command, /^curl http:\/\/127\.0\.0\.1:8000\/v2\/models\/a%20b\/versions\/1\/infer /);
  assert.match(command, /-H 'x-user-id: 7'/);
  assert.match(command, /"it'\\''s"/);
  assert.doesNotMatch(command, /authorization|cacert/);
  const secure = curlCommand({ ...question, gateway: { ...GATEWAY, tls: true, authentication: true } });
  assert.match(secure, /^curl https:/);
  assert.match(secure, /authorization: Bearer \$\(cat "\$PENSTOCK_TOKEN_FILE"\)/);
});

test("a long request is in a file", () => {
  const data = Array.from({ length: 2000 }, (_, index) => index);
  const request = requestOf([{ name: "x", datatype: "FP32", shape: [1, 2000], data }]);
  const question = { gateway: GATEWAY, model: "m", version: "", request, fields: {} };
  assert.ok(needsFile(question));
  for (const text of [curlCommand(question), predictCommand(question)]) assert.match(text, /--data @request\.json/);
  assert.match(tritonProgram(question), /json\.load/);
});

test("the command line has a note where it cannot say the same", () => {
  const question = { gateway: GATEWAY, model: "m", version: "", request: REQUEST, fields: { "x-a": "1" } };
  assert.match(predictCommand(question), /^# penstock predict sends no header fields/);
  assert.match(predictCommand({ ...question, version: "champion", fields: {} }), /^penstock predict m \\\n {2}--version champion/);
});

test("a program states its inputs as Python does", () => {
  const program = tritonProgram({ gateway: GATEWAY, model: "m", version: "2", request: REQUEST, fields: { "x-a": "1" } });
  assert.match(program, /np\.array\(\[1\.5, np\.nan, -2\], dtype=np\.float32\)\.reshape\(\[1, 3\]\)/);
  assert.match(program, /dtype=np\.int64/);
  assert.match(program, /client\.infer\("m", \[input_1, input_2\], model_version="2", headers=\{"x-a": "1"\}\)/);
  assert.doesNotMatch(program, /import os/);
});

test("an address of every interface is that of the page", () => {
  const hosts = ["0.0.0.0:8000", "[::]:8000", "10.0.0.1:8000"].map((http) => reachable({ ...GATEWAY, http }, "ops.example").http);
  assert.deepEqual(hosts, ["ops.example:8000", "ops.example:8000", "10.0.0.1:8000"]);
});

test("words of a shell are quoted where they must be", () => {
  assert.deepEqual(["a-b", "", "$(x)", "it's"].map(shellWord), ["a-b", "''", "'$(x)'", "'it'\\''s'"]);
});

test("stages are read from server-timing", () => {
  assert.deepEqual(stageTimes("decode;dur=0.02, run;dur=1"), [
    { stage: "decode", ms: 0.02 },
    { stage: "run", ms: 1 },
  ]);
  assert.deepEqual([stageTimes(null), stageTimes("nonsense, a;dur=x")], [[], []]);
});

test("outputs are a line for each row where all have as many", () => {
  const label = { name: "label", datatype: "INT64", shape: [2], data: [3, 4] };
  const scores = { name: "scores", datatype: "FP32", shape: [2, 2], data: [0.123456789, 1, null, "a"] };
  const table = outputTable([label, scores]);
  assert.deepEqual(table.heads, ["label INT64 [2]", "scores FP32 [2, 2]"]);
  assert.deepEqual(table.lines, [["3", "0.123457  1"], ["4", "NaN  a"]]);
  assert.equal(outputTable([label, { ...scores, shape: [4] }]).lines.length, 1);
  assert.deepEqual(outputTable([]), { heads: [], lines: [], left: 0 });
  const long = { name: "y", datatype: "FP32", shape: [100], data: new Array(100).fill(0) };
  assert.equal(outputTable([long]).left, 50);
});

/** @param {string} name @param {number[]} shape @param {unknown[]} data */
const output = (name, shape, data) => ({ name, datatype: "FP64", shape, data });

test("an explanation has the features of a row and column, the largest first", () => {
  const document = {
    outputs: [
      output("attributions", [2, 2, 2], [1, 2, 3, 4, 5, 6, -7, -8]),
      output("error", [2, 2, 2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]),
      output("base_value", [2], [10, 20]),
      output("prediction", [2, 2], [14, 26, 8, 18]),
      output("features", [2], ["a", "b"]),
    ],
  };
  assert.deepEqual(explanationOf(document, 1, 1), {
    rows: 2, columns: 2, base: 20, prediction: 18,
    parts: [{ feature: "b", value: -8, error: 0.8 }, { feature: "a", value: 6, error: 0.6 }],
  });
});

test("features beyond the largest are one part", () => {
  const count = MOST_FEATURES + 3;
  const ones = new Array(count).fill(1);
  const document = {
    outputs: [
      output("attributions", [1, count], ones), output("error", [1, count], ones), output("base_value", [1], [0]),
      output("prediction", [1, 1], [count]), output("features", [count], ones.map((_, index) => `x[${index}]`)),
    ],
  };
  const { parts } = explanationOf(document, 0, 0);
  assert.equal(parts.length, MOST_FEATURES + 1);
  assert.deepEqual(parts.at(-1), { feature: "3 others", value: 3, error: null });
});
