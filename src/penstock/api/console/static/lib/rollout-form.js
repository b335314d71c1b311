// The form of a new rollout as plain values: texts of fields to the body of `POST /models/{model}/rollouts`.

/** @typedef {{metric: string, chosen: boolean, limit: string}} GuardField */
/** @typedef {{to: string, from: string, steps: string, minStep: string, deadline: string, alpha: string, holdBack: string,
 *     shadow: string, onInconclusive: string, dryRun: boolean, guards: GuardField[], minRequests: string, minLabels: string,
 *     query: string, queryMin: string, queryMax: string}} Form */
/** @typedef {{metric: string, title: string, field: string | null, usual: string, unit: string, factor: number}} GuardKind */

/** The guards that the form offers: the name of their limit, and how its unit is written. @type {GuardKind[]} */
export const GUARDS = [
  { metric: "errors", title: "Errors", field: "max_increase", usual: "", unit: "% more errors than the control", factor: 100 },
  { metric: "latency", title: "Latency", field: "max_ratio", usual: "1.2", unit: "× the control's time", factor: 1 },
  { metric: "outputs", title: "Outputs", field: "max", usual: "0.1", unit: "total variation", factor: 1 },
  { metric: "disagreement", title: "Disagreement", field: "max", usual: "2", unit: "% of mirrored requests", factor: 100 },
  { metric: "quality", title: "Quality", field: "max_increase", usual: "1", unit: "% more outputs that are not finite", factor: 100 },
  { metric: "performance", title: "Performance", field: "max_increase", usual: "5", unit: "% more wrong answers by labels", factor: 100 },
  { metric: "error_ratio", title: "Error ratio", field: "max", usual: "1", unit: "% errors at most", factor: 100 },
  { metric: "latency_p99", title: "Latency p99", field: "max_ms", usual: "100", unit: "ms at most", factor: 1 },
];

/**
 * The fields with a number: the setting that each stands for, its title, and what the setting is of it.
 * @type {{field: "minStep" | "deadline" | "alpha" | "holdBack" | "shadow" | "minRequests" | "minLabels", setting: string, title: string, factor: number}[]}
 */
export const NUMBERS = [
  { field: "minStep", setting: "min_step_seconds", title: "Least seconds of a step", factor: 1 },
  { field: "minRequests", setting: "min_requests", title: "Least requests of a step", factor: 1 },
  { field: "minLabels", setting: "min_labels", title: "Least labels of a step", factor: 1 },
  { field: "deadline", setting: "deadline_seconds", title: "Deadline in seconds", factor: 1 },
  { field: "alpha", setting: "alpha", title: "Sound versions rolled back, %", factor: 1 / 100 },
  { field: "holdBack", setting: "hold_back", title: "Hold-back of the control, %", factor: 100 },
  { field: "shadow", setting: "shadow", title: "Mirrored before the first step, %", factor: 1 },
];

/** Settings of each step. */
const OF_STEPS = ["min_requests", "min_labels"];

/** Values of an empty form. @returns {Form} */
export function emptyForm() {
  return {
    to: "", from: "", steps: "1 5 25 50 100", minStep: "30", deadline: "", alpha: "1", holdBack: "5", shadow: "",
    onInconclusive: "hold", dryRun: false, minRequests: "", minLabels: "", query: "", queryMin: "", queryMax: "",
    guards: GUARDS.map((kind) => ({ metric: kind.metric, chosen: ["errors", "latency"].includes(kind.metric), limit: kind.usual })),
  };
}

/**
 * Reads steps such as "1 5! 25 100" in percent; "!" waits for an approval before the next step.
 * @param {string} text
 * @returns {{steps: (number | {weight: number, approval: boolean})[], fault: string}}
 */
export function readSteps(text) {
  /** @type {{weight: number, approval: boolean}[]} */
  const steps = [];
  for (const part of text.split(/[\s,;]+/).filter(Boolean)) {
    const found = /^(\d{1,3}(?:\.\d{1,2})?)%?(!?)$/.exec(part);
    if (!found) return { steps: [], fault: `“${part}” is not a step: write percent, such as 5, and 5! to wait for an approval.` };
    steps.push({ weight: Math.round(Number(found[1]) * 100), approval: found[2] === "!" });
  }
  const grow = steps.every((step, index) => step.weight > (steps[index - 1]?.weight ?? 0) && step.weight <= 10000);
  if (!steps.length || !grow) return { steps: [], fault: "Steps must grow, from above 0 to 100 percent at most." };
  return { steps: steps.map((step) => (step.approval ? step : step.weight)), fault: "" };
}

/**
 * Reads a number of a field; null where it is empty, NaN where it is none.
 * @param {string} text
 */
export function readNumber(text) {
  const trimmed = text.trim();
  return trimmed === "" ? null : /^\d+(\.\d+)?$/.test(trimmed) ? Number(trimmed) : NaN;
}

/**
 * Returns the body for a form, and the faults that the page can see by itself.
 * @param {Form} form
 * @returns {{body: Record<string, any>, faults: string[]}}
 */
export function rolloutBody(form) {
  const { steps, fault } = readSteps(form.steps);
  const guards = [...form.guards.filter((guard) => guard.chosen).map(guardOf), ...queryGuard(form)];
  const wrong = NUMBERS.filter(({ field }) => Number.isNaN(readNumber(form[field]))).map(({ title }) => `“${title}” must be a number.`);
  const faults = [...(form.to ? [] : ["Choose the version to roll out."]), ...(fault ? [fault] : []), ...wrong];
  if (!guards.length) faults.push("Choose at least one guard.");
  faults.push(...form.guards.filter((guard) => guard.chosen && Number.isNaN(readNumber(guard.limit))).map((guard) => `The limit of ${guard.metric} must be a number.`));
  if (form.query.trim() && [form.queryMin, form.queryMax].every((text) => !isSigned(text))) faults.push("The query needs a number that it must not be below or above.");
  const gates = valuesOf(form, true);
  const gated = Object.keys(gates).length ? steps.map((step) => ({ ...(typeof step === "number" ? { weight: step } : step), ...gates })) : steps;
  return { body: { ...fixedOf(form), steps: gated, guards, ...valuesOf(form, false) }, faults };
}

/**
 * @param {Form} form
 * @returns {Record<string, any>}
 */
function fixedOf(form) {
  return {
    to: form.to,
    ...(form.from ? { from: form.from } : {}),
    on_inconclusive: form.onInconclusive,
    ...(form.dryRun ? { dry_run: true } : {}),
  };
}

/** @param {Form} form @param {boolean} ofSteps */
function valuesOf(form, ofSteps) {
  const values = NUMBERS.filter(({ setting }) => OF_STEPS.includes(setting) === ofSteps).flatMap(({ field, setting, factor }) => {
    const value = readNumber(form[field]);
    return value === null ? [] : [[setting, setting === "hold_back" ? Math.round(value * factor) : roundedSetting(value * factor)]];
  });
  return Object.fromEntries(values);
}

/** @param {number} value */
function roundedSetting(value) {
  return Number(value.toPrecision(12));
}

/** @param {string} text */
function isSigned(text) {
  return text.trim() !== "" && Number.isFinite(Number(text));
}

/** The guard by a query of Prometheus, if there is a query. @param {Form} form */
function queryGuard({ query, queryMin, queryMax }) {
  if (!query.trim()) return [];
  return [{ metric: "promql", query: query.trim(), ...(isSigned(queryMin) ? { min: Number(queryMin) } : {}), ...(isSigned(queryMax) ? { max: Number(queryMax) } : {}) }];
}

/** @param {GuardField} guard */
function guardOf(guard) {
  const kind = GUARDS.find((item) => item.metric === guard.metric);
  const limit = readNumber(guard.limit);
  if (!kind?.field || limit === null) return { metric: guard.metric };
  return { metric: guard.metric, [kind.field]: roundedSetting(limit / kind.factor) };
}
