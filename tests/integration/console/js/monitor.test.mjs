// The pure parts of the views of the monitor, of retraining and of the time line.

import assert from "node:assert/strict";
import { test } from "node:test";

const lib = new URL("../static/lib/", import.meta.url);
const evidence = await import(new URL("evidence.js", lib));
const timeline = await import(new URL("timeline.js", lib));
const policy = await import(new URL("policy-form.js", lib));
const retraining = await import(new URL("retraining.js", lib));

const column = (name, state, log_e) => ({ name, state, log_e, psi: 0.1 });

test("columns that drift come first, then those with the most evidence", () => {
  const document = { features: [column("a", "ok", 5), column("b", "drift", 0)], outputs: [column("y", "ok", 9)], joint: column("joint", "ok", 7) };
  assert.deepEqual(evidence.columnsOf(document).map((item) => [item.name, item.side]), [["b", "input"], ["y", "output"], ["joint", "joint"], ["a", "input"]]);
  assert.deepEqual(evidence.columnsOf({}), []);
});

test("effect sizes are held against what chance gives", () => {
  const rows = evidence.effectsOf({ psi: 0.3, psi_threshold: 0.1, js: 0.2, ks: 0.01, ks_threshold: null });
  assert.deepEqual(rows.map((row) => [row.name, row.limit, row.exceeds]), [["PSI", 0.1, true], ["Jensen-Shannon", null, false], ["Kolmogorov-Smirnov", null, false]]);
});

test("bins are shares of the window and of the reference", () => {
  const bins = evidence.binsOf({ bins: ["low", "high"], counts: [1, 3], reference_counts: [5, 5] });
  assert.deepEqual(bins[1], { bin: "high", share: 0.75, reference: 0.5, change: 0.25, count: 3 });
  assert.deepEqual(evidence.binsOf({ bins: ["low"], counts: [0], reference_counts: [0] })[0].share, 0);
  assert.equal(evidence.movedText({ moved: [{ bin: "3..4", change: 0.042 }, { bin: "0", change: -0.1 }, { bin: "9", change: 0 }] }), "3..4 +4.2 %, 0 −10.0 %");
  assert.equal(evidence.movedText({}), "");
});

test("metrics by labels stand beside those that are estimated", () => {
  const rows = evidence.metricRows({ windowed: { accuracy: 0.9 }, prequential: { accuracy: 0.8, kappa: 0.5 }, estimated: { accuracy: 0.7, rows: 12 } });
  assert.deepEqual(rows, [{ name: "accuracy", windowed: 0.9, overall: 0.8, estimated: 0.7 }, { name: "kappa", windowed: null, overall: 0.5, estimated: null }]);
  assert.deepEqual(evidence.metricRows(undefined), []);
});

test("an alarm has caused the request with its onset, or the first one after it that rests on drift of the same version", () => {
  const alarm = { kind: "drift.detected.v1", seq: 5, subject: "models/m/versions/1" };
  const request = (seq, subject, statistic) => ({ seq, subject, data: { conditions: [{ statistic }] } });
  const requests = [request(9, alarm.subject, "e-SR"), request(8, alarm.subject, "e-SR"), request(7, alarm.subject, "schedule"), request(6, "models/m/versions/2", "e-SR"), request(4, alarm.subject, "e-SR")];
  assert.equal(evidence.retrainingOf(alarm, requests).seq, 8);
  assert.equal(evidence.retrainingOf({ ...alarm, kind: "performance.degraded.v1" }, requests).seq, 7);
  assert.equal(evidence.retrainingOf({ ...alarm, kind: "quality.violated.v1" }, requests), null);
  const certain = { ...request(3, alarm.subject, "e-SR"), data: { conditions: [{ statistic: "e-SR", features: [{ name: "age", since: 17.25 }] }] } };
  assert.equal(evidence.retrainingOf({ ...alarm, data: { name: "age", since: 17.25 } }, [...requests, certain]).seq, 3, "stored before its alarm");
  assert.equal(evidence.retrainingOf({ ...alarm, data: { name: "age", since: 18 } }, [...requests, certain]).seq, 8, "another drift");
  assert.ok(evidence.isAboutColumn({ data: { name: "age" } }, "age"));
  assert.ok(evidence.isAboutColumn({ data: { slice: { country: "de" }, columns: ["age where country is de"] } }, "age"));
  assert.ok(!evidence.isAboutColumn({ data: { name: "wage", columns: ["age"] } }, "age"));
});

test("each entry of the time line leads to its object", () => {
  const place = (entry) => timeline.placeOf({ kind: "", subject: "models/m", model: "m", ...entry });
  const table = [
    [{ kind: "drift.detected.v1", subject: "models/m/versions/1", data: { name: "a/b" } }, ["models", "m", "monitor", "a/b"]],
    [{ kind: "quality.violated.v1", subject: "models/m/versions/1", data: {} }, ["models", "m", "monitor"]],
    [{ kind: "policy.set", subject: "models/m/policy" }, ["models", "m", "monitor"]],
    [{ kind: "retraining.requested.v1", subject: "models/m/versions/1", data: {} }, ["models", "m", "retraining"]],
    [{ kind: "route.set", subject: "models/m/route" }, ["models", "m", "traffic"]],
    [{ kind: "rollout.pause", subject: "models/m/rollouts/r1" }, ["models", "m", "rollouts", "r1"]],
    [{ kind: "rollout.finished.v1", subject: "models/m/versions/2", data: { rollout: "r2" } }, ["models", "m", "rollouts", "r2"]],
    [{ kind: "experiment.stop", subject: "models/m/experiments/e1" }, ["models", "m", "experiments", "e1"]],
    [{ kind: "version.add", subject: "models/m/versions/3" }, ["models", "m", "versions", "3"]],
    [{ kind: "alias.move", subject: "models/m/aliases/champion" }, ["models", "m"]],
    [{ kind: "key.create", subject: "keys/bot", model: "" }, ["access"]],
    [{ kind: "audit.checkpoint.v1", subject: "audit", model: "" }, null],
  ];
  for (const [entry, expected] of table) assert.deepEqual(place(entry), expected, entry.kind);
  assert.equal(timeline.objectOf({ kind: "alias.move", subject: "models/m/aliases/champion", model: "m" }), "alias champion");
  assert.equal(timeline.objectOf({ kind: "model.configure", subject: "models/m", model: "m" }), "m");
});

test("a change is a difference by path, without its digest", () => {
  const changes = [{ path: "split.2", before: 0, after: 500 }, { path: "sticky", after: "header:x" }, { path: "old", before: [1] }, { path: "record", before: "a", after: "b" }, { path: "", more: 7 }];
  assert.deepEqual(timeline.diffRows(changes), [
    { path: "split.2", before: "0", after: "500", sign: "±" },
    { path: "sticky", before: "", after: "header:x", sign: "+" },
    { path: "old", before: "[1]", after: "", sign: "−" },
  ]);
  assert.equal(timeline.leftOut(changes), 7);
  assert.deepEqual(timeline.diffRows(undefined), []);
});

test("kinds and sentences are words", () => {
  assert.equal(timeline.kindText("drift.detected.v1"), "drift detected");
  assert.equal(timeline.severityOf("drift.detected.v1"), "bad");
  assert.equal(timeline.severityOf("candidate.passed.v1"), "good");
  assert.equal(timeline.severityOf("route.set"), "");
  assert.equal(timeline.sentenceOf({ data: { message: "age drifts" }, reason: "x" }), "age drifts");
  assert.equal(timeline.sentenceOf({ reason: "holidays" }), "holidays");
  assert.equal(timeline.sentenceOf({ data: { rule: "weekly" } }), "rule weekly");
  assert.equal(timeline.sentenceOf({ data: { what: "gap", realised: 0.5, estimated: 0.812345 } }), "realised accuracy 0.5, expected by its probabilities 0.812");
  assert.equal(timeline.sentenceOf({ data: { what: "errors", recent_error: 0.25, baseline_error: 0.1 } }), "error 0.25 lately, 0.1 before");
  assert.equal(timeline.sentenceOf({}), "");
});

test("filters become a query, and pages join without doubles", () => {
  assert.equal(timeline.queryOf({ model: "a&b", kind: "", person: undefined }), "?model=a%26b");
  assert.equal(timeline.queryOf({}), "");
  const page = (...numbers) => numbers.map((seq) => ({ source: "event", seq }));
  assert.deepEqual(timeline.joinPages(page(3, 2), page(2, 1)).map((entry) => entry.seq), [3, 2, 1]);
});

const POLICY = { monitor: { sample: 1, slices: ["a"] }, triggers: [{ name: "weekly", when: { schedule: "0 3 * * 1" } }], revision: 4 };

test("the form changes the settings that it has, and leaves the others", () => {
  const plain = policy.policyOf(POLICY);
  assert.ok(!("revision" in plain));
  const texts = policy.textsOf(plain);
  assert.deepEqual([texts["monitor.sample"], texts["monitor.slices"], texts["slo.error_ratio"]], ["1", "a", ""]);
  assert.deepEqual(policy.withTexts(plain, texts), plain);
  const changed = policy.withTexts(plain, { ...texts, "monitor.sample": "0.5", "monitor.slices": "a, b,", "slo.error_ratio": "0.01" });
  assert.deepEqual(changed, { monitor: { sample: 0.5, slices: ["a", "b"] }, triggers: plain.triggers, slo: { error_ratio: 0.01 } });
  assert.deepEqual(policy.withTexts(changed, { ...policy.textsOf(changed), "slo.error_ratio": "" }).slo, undefined);
  assert.deepEqual(policy.changesOf(plain, changed).map((change) => change.label), ["monitor.sample", "monitor.slices", "slo"]);
  assert.deepEqual(policy.changesOf(plain, plain), []);
});

test("a policy is written as YAML that means the same", () => {
  const text = policy.toYaml({ monitor: { sample: 0.5, slices: [] }, triggers: [{ name: "a", when: { all: [{ drift: {} }, { not: { schedule: "@daily" } }] } }], on: "yes", budget: 1e21, tiny: 1e-7, "odd key: #": "a: b # c\n'\"" });
  assert.equal(text, `monitor:
  sample: 0.5
  slices: []
triggers:
  - name: a
    when:
      all:
        - drift: {}
        - not:
            schedule: "@daily"
"on": "yes"
budget: 1.0e+21
tiny: 1.0e-7
"odd key: #": "a: b # c\\n'\\""
`);
  assert.equal(policy.toYaml({}), "{}\n");
});

test("dead deliveries come first, then those that wait", () => {
  const rows = retraining.deliveriesOf([{ state: "sent", event: 1 }, { state: "pending", event: 2 }, { state: "dead", event: 3 }, { state: "dead", event: 4 }]);
  assert.deepEqual(rows.map((row) => row.event), [3, 4, 2, 1]);
});

test("what a rule rests on is a sentence", () => {
  assert.equal(retraining.evidenceText({ statistic: "accuracy", value: 0.81234567, threshold: { below: 0.9 } }), "accuracy 0.8123, threshold below 0.9");
  assert.equal(retraining.evidenceText({ statistic: "e-SR", value: 2, threshold: 1, features: [{ name: "age" }, { name: "zip" }] }), "drifting columns 2, threshold 1 (age, zip)");
  assert.equal(retraining.evidenceText({ statistic: "e-SR on errors", state: "drift" }), "e-SR on errors drift");
});

test("the marks of an exam are rows", () => {
  const rows = retraining.examRows({ whole: { rows: 200, candidate: 0.9, champion: 0.8 }, slices: { "country = de": { rows: 20, candidate: 0.7, champion: null } }, noised: 0.85 });
  assert.deepEqual(rows.map((row) => [row.name, row.candidate, row.champion]), [["all rows", 0.9, 0.8], ["country = de", 0.7, null], ["with noise", 0.85, null]]);
});
