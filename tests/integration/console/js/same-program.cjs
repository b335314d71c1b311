// Compares two scripts by their syntax trees, of which one has neither comments nor needless spaces: `node
// --expose-internals same-program.cjs A B` fails with the first difference. The indentation of lines in HTML is none, nor is a line
// feed at either end of a text.
"use strict";

const { deepStrictEqual } = require("node:assert/strict");
const { readFileSync } = require("node:fs");
const { parse } = require("internal/deps/acorn/acorn/dist/acorn");

function treeOf(file) {
  const tree = parse(readFileSync(file, "utf8"), { ecmaVersion: "latest", sourceType: "module" });
  return JSON.parse(JSON.stringify(tree, (key, value) => (key === "start" || key === "end" ? undefined : plain(value))));
}

function plain(value) {
  if (typeof value === "bigint") return `${value}n`;
  if (value?.type !== "TaggedTemplateExpression" || value.tag.name !== "html") return value;
  const quasis = value.quasi.quasis.map((quasi) => ({ ...quasi, value: quasi.value.cooked.replace(/\s*\n\s*/g, "\n").replace(/\n(?=<)|(?<=>)\n|\n$/g, "") }));
  return { ...value, quasi: { ...value.quasi, quasis } };
}

deepStrictEqual(treeOf(process.argv[2]), treeOf(process.argv[3]));
