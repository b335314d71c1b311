// Routes as the page edits them: what may be written, what differs between two of them, and both sides of a conflict.

/** @typedef {{header: string, equals: string, version: string}} Rule */
/** @typedef {{version: string, percent: number}} Shadow */
/** @typedef {{split: Record<string, number>, sticky: string | null, rules: Rule[], shadow: Shadow[]}} Route */
/** @typedef {{label: string, before: string, after: string}} Difference */
/** @typedef {{label: string, base: string, present: string, own: string, clashes: boolean}} Side */

const NOBODY = "–";

/**
 * Returns the part of a route that can be written, with everything in it.
 * @param {Record<string, any>} document a route of the admin API
 * @returns {Route}
 */
export function routeOf(document) {
  return {
    split: { ...document.split },
    sticky: document.sticky || null,
    rules: (document.rules || []).map((/** @type {Rule} */ rule) => ({ ...rule })),
    shadow: (document.shadow || []).map((/** @type {Shadow} */ item) => ({ ...item })),
  };
}

/**
 * Returns the body of `PUT /models/{model}/route`: a split without versions of zero points that nothing else names.
 * @param {Route} route
 * @returns {Record<string, any>}
 */
export function routeBody(route) {
  const split = Object.fromEntries(Object.entries(route.split).filter(([, points]) => points > 0));
  return {
    split,
    rules: route.rules,
    shadow: route.shadow,
    ...(route.sticky ? { sticky: route.sticky } : {}),
  };
}

/**
 * Returns a route as lines of text, one for each thing that may change.
 * @param {Route} route
 * @returns {Map<string, string>}
 */
export function ruleLines(route) {
  const lines = new Map();
  for (const [version, points] of Object.entries(route.split)) if (points) lines.set(`Version ${version}`, percentOf(points));
  lines.set("Sticky by", route.sticky ? `header ${route.sticky.replace(/^header:/, "")}` : NOBODY);
  route.rules.forEach((rule) => lines.set(`Rule: ${rule.header} is “${rule.equals}”`, `version ${rule.version}`));
  for (const item of route.shadow) lines.set(`Shadow ${item.version}`, `${item.percent} % of the requests`);
  return lines;
}

/** @param {number} points */
function percentOf(points) {
  return `${(points / 100).toLocaleString("en", { maximumFractionDigits: 2 })} %`;
}

/**
 * Returns what differs between two routes.
 * @param {Route} before
 * @param {Route} after
 * @returns {Difference[]}
 */
export function differences(before, after) {
  const [old, now] = [ruleLines(before), ruleLines(after)];
  return ruleLabels(old, now)
    .map((label) => ({ label, before: old.get(label) ?? NOBODY, after: now.get(label) ?? NOBODY }))
    .filter((line) => line.before !== line.after)
    .concat(orderOf(before, after));
}

/**
 * Rules are tried in their order, so a new order is a change.
 * @param {Route} before
 * @param {Route} after
 * @returns {Difference[]}
 */
function orderOf(before, after) {
  const [old, now] = [before, after].map((route) => route.rules.map((rule) => JSON.stringify([rule.header, rule.equals])));
  if (!old || !now || old.length !== now.length || !old.every((key) => now.includes(key))) return [];
  if (old.every((key, index) => key === now[index])) return [];
  const [earlier, later] = [before, after].map((route) => route.rules.map((rule) => rule.equals).join(", "));
  return [{ label: "Order of the rules", before: earlier ?? NOBODY, after: later ?? NOBODY }];
}

/**
 * Returns both sides of a conflict: what both began with, what is there now, and what one wanted. A line clashes where
 * both have changed it, and not to the same.
 * @param {Route} base
 * @param {Route} present
 * @param {Route} own
 * @returns {Side[]}
 */
export function sidesOf(base, present, own) {
  const [first, theirs, mine] = [ruleLines(base), ruleLines(present), ruleLines(own)];
  return ruleLabels(first, theirs, mine)
    .map((label) => sideOf(label, first.get(label) ?? NOBODY, theirs.get(label) ?? NOBODY, mine.get(label) ?? NOBODY))
    .filter((side) => side.present !== side.base || side.own !== side.base);
}

/**
 * @param {string} label
 * @param {string} base
 * @param {string} present
 * @param {string} own
 * @returns {Side}
 */
function sideOf(label, base, present, own) {
  return { label, base, present, own, clashes: present !== base && own !== base && present !== own };
}

/** @param {Map<string, string>[]} maps */
function ruleLabels(...maps) {
  return [...new Set(maps.flatMap((lines) => [...lines.keys()]))];
}

/**
 * Whether two routes send every request to the same version.
 * @param {Route} one
 * @param {Route} other
 */
export function isSame(one, other) {
  return differences(one, other).length === 0;
}

/**
 * Returns the faults of a route that the page can see by itself.
 * @param {Route} route
 * @returns {string[]}
 */
export function faultsOf(route) {
  const sum = Object.values(route.split).reduce((one, other) => one + other, 0);
  return [
    ...(sum === 10000 ? [] : [`The weights sum to ${percentOf(sum)}, not to 100 %.`]),
    ...(route.rules.every((rule) => rule.header && rule.equals && rule.version) ? [] : ["Each rule needs a header, a value and a version."]),
    ...(route.sticky === null || /^header:.+/.test(route.sticky) ? [] : ["The sticky header needs a name."]),
    ...(new Set(route.shadow.map((item) => item.version)).size === route.shadow.length ? [] : ["Each shadow must be another version."]),
  ];
}
