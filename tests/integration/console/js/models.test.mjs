import assert from "node:assert/strict";
import { test } from "node:test";

import { admissionFacts, sharingText } from "../static/models/admission.js";
import { compareMetadata, compareMetrics, compareSignatures, haveSameSignature } from "../static/models/compare.js";
import { aliasFault, ancestors, children, nextVersion, pushVerdict, versionFault } from "../static/models/versions.js";

/** @param {Record<string, unknown>} changes */
function version(changes) {
  const x = { name: "x", datatype: "FP32", shape: [-1, 3] };
  return {
    version: "1", digest: "sha256:1", size: 10, created_at: "", created_by: "", state: "READY", reason: "", aliases: [],
    batching: null, card: null, signature: { inputs: [x], outputs: [] }, metadata: {}, admission: null, ...changes,
  };
}

test("metrics stand side by side with their difference", () => {
  const a = version({ metadata: { metrics: { accuracy: 0.9, auc: 0.5 } } });
  const b = version({ metadata: { metrics: { accuracy: 0.75, loss: 1 } } });
  assert.deepEqual(compareMetrics(a, b), [
    { name: "accuracy", a: 0.9, b: 0.75, delta: 0.75 - 0.9 },
    { name: "auc", a: 0.5, b: null, delta: null },
    { name: "loss", a: null, b: 1, delta: null },
  ]);
});

test("signatures and metadata show what differs", () => {
  const wider = version({ signature: { inputs: [{ name: "x", datatype: "FP32", shape: [-1, 4] }], outputs: [] } });
  assert.deepEqual(compareSignatures(version({}), wider), [
    { name: "input x", a: "FP32 [rows, 3]", b: "FP32 [rows, 4]", difference: "changed" },
  ]);
  assert.ok(haveSameSignature(version({}), version({ version: "2" })));
  assert.ok(!haveSameSignature(version({}), wider));
  const rows = compareMetadata(version({ metadata: { parameters: { depth: 4 }, source: "a" } }), version({ metadata: { parameters: { depth: 5 } } }));
  assert.deepEqual(rows.map((row) => [row.name, row.difference]), [["parameters.depth", "changed"], ["source", "removed"]]);
});

test("an admission report is lines", () => {
  const report = {
    verdict: "admitted", reason: "", p50_us: 40, memory_bytes: 3 << 20, ops: { Gemm: 2, Relu: 1 }, opset: { "": 17 },
    runtime: "onnxruntime 1.25", independent_rows: { proven: false, reason: "it mixes rows", operator: "Softmax", node: "n1" },
  };
  const facts = Object.fromEntries(admissionFacts(version({ admission: report })).map((fact) => [fact.name, fact.text]));
  assert.equal(facts["verdict"], "admitted");
  assert.equal(facts["requests share runs"], "the graph does not prove that rows are independent: it mixes rows (at Softmax 'n1')");
  assert.deepEqual([facts["run time of one row"], facts["memory"], facts["operators"], facts["operator sets"]], ["40 µs", "3 MiB", "Gemm × 2, Relu × 1", "ai.onnx 17"]);
  assert.equal(sharingText(version({ batching: "requests share runs: so", admission: report })), "requests share runs: so");
  assert.deepEqual(admissionFacts(version({})), []);
  assert.equal(admissionFacts(version({ admission: { verdict: "refused", reason: "no graph" } }))[0]?.text, "refused: no graph");
});

test("the next version follows the newest number", () => {
  assert.equal(nextVersion([]), "1");
  assert.equal(nextVersion([{ version: "9" }, { version: "10" }, { version: "1.4.0" }]), "11");
  assert.deepEqual(["1", "2026-11-20", "v1", "", "1".repeat(65)].map((text) => versionFault(text) === ""), [true, true, false, false, false]);
  assert.deepEqual(["champion", "1a", "a b"].map((text) => aliasFault(text) === ""), [true, false, false]);
});

test("lineage ends where it is unknown or goes in a circle", () => {
  const versions = [version({}), version({ version: "2", metadata: { parent: "1" } }), version({ version: "3", metadata: { parent: "2" } })];
  assert.deepEqual(ancestors(versions, "3"), ["2", "1"]);
  assert.deepEqual(children(versions, "1"), ["2"]);
  const circle = [version({ metadata: { parent: "2" } }), version({ version: "2", metadata: { parent: "1" } })];
  assert.deepEqual(ancestors(circle, "1"), ["2"]);
});

test("the answer to a push is a verdict", () => {
  assert.deepEqual(pushVerdict(201, { version: "2" }), { done: true, kind: "good", text: "admitted as version 2" });
  assert.match(pushVerdict(200, { version: "2" }).text, /same content already/);
  assert.deepEqual(pushVerdict(422, { error: "short", reason: "the whole reason" }).text, "admission refuses it: the whole reason");
  assert.equal(pushVerdict(409, { error: "taken" }).kind, "conflict");
  assert.equal(pushVerdict(500, {}).text, "the gateway answered 500");
});
