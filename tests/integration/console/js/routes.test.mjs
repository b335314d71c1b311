// Differences of routes, and both sides of a conflict, as tables.

import assert from "node:assert/strict";
import { test } from "node:test";

import { routeBody, differences, faultsOf, isSame, routeOf, sidesOf } from "../static/lib/routes.js";

const BASE = routeOf({
  split: { 1: 9500, 2: 500 }, sticky: "header:x-user-id", rules: [{ header: "x-canary", equals: "always", version: "2" }],
  shadow: [{ version: "3", percent: 100 }], stable: "1", set: true, revision: 7,
});

test("a document becomes a route that can be changed without changing the document", () => {
  const document = { split: { 1: 10000 }, rules: [], shadow: [] };
  const route = routeOf(document);
  route.split["1"] = 1;
  assert.deepEqual(document.split, { 1: 10000 });
  assert.equal(route.sticky, null);
  assert.deepEqual(routeOf({}), { split: {}, sticky: null, rules: [], shadow: [] });
});

test("the body has what can be written", () => {
  assert.deepEqual(routeBody({ ...BASE, split: { 1: 10000, 2: 0 } }), {
    split: { 1: 10000 }, sticky: "header:x-user-id", rules: BASE.rules, shadow: BASE.shadow,
  });
  assert.equal("sticky" in routeBody({ ...BASE, sticky: null }), false);
});

test("each thing that changes is one line", () => {
  const after = { ...BASE, split: { 1: 9000, 2: 1000 }, sticky: null, shadow: [], rules: [] };
  assert.deepEqual(differences(BASE, after), [
    { label: "Version 1", before: "95 %", after: "90 %" },
    { label: "Version 2", before: "5 %", after: "10 %" },
    { label: "Sticky by", before: "header x-user-id", after: "–" },
    { label: "Rule: x-canary is “always”", before: "version 2", after: "–" },
    { label: "Shadow 3", before: "100 % of the requests", after: "–" },
  ]);
  assert.equal(isSame(BASE, routeOf(BASE)), true);
  assert.equal(isSame(BASE, { ...BASE, split: { ...BASE.split, 4: 0 } }), true);
});

test("the order of rules is a change", () => {
  const rules = [{ header: "a", equals: "1", version: "1" }, { header: "a", equals: "2", version: "2" }];
  const [line] = differences({ ...BASE, rules }, { ...BASE, rules: [...rules].reverse() });
  assert.deepEqual(line, { label: "Order of the rules", before: "1, 2", after: "2, 1" });
});

test("a conflict shows both sides, and where they clash", () => {
  const present = { ...BASE, split: { 1: 5000, 2: 5000 } };
  const own = { ...BASE, split: { 1: 9000, 2: 1000 }, sticky: null };
  assert.deepEqual(sidesOf(BASE, present, own), [
    { label: "Version 1", base: "95 %", present: "50 %", own: "90 %", clashes: true },
    { label: "Version 2", base: "5 %", present: "50 %", own: "10 %", clashes: true },
    { label: "Sticky by", base: "header x-user-id", present: "header x-user-id", own: "–", clashes: false },
  ]);
  assert.deepEqual(sidesOf(BASE, own, own).map((side) => side.clashes), [false, false, false]);
  assert.deepEqual(sidesOf(BASE, BASE, BASE), []);
});

test("faults that the page can see", () => {
  assert.deepEqual(faultsOf(BASE), []);
  const bad = { split: { 1: 9000 }, sticky: "header:", rules: [{ header: "", equals: "", version: "" }], shadow: [BASE.shadow[0], BASE.shadow[0]] };
  assert.equal(faultsOf(bad).length, 4);
});
