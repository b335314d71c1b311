// Spreads the 10,000 points of a split over versions. Every function returns a new split, which sums to 10,000.

/** @typedef {Record<string, number>} Split points by version */
/** @typedef {ReadonlySet<string>} Locked the versions whose points stay as they are */

export const POINTS = 10000;

/**
 * Spreads a whole number over parts in proportion to their shares, or evenly where all shares are zero. What is lost by
 * rounding goes to the largest remainders, the first part first.
 * @param {number} total
 * @param {number[]} shares none is negative
 * @returns {number[]}
 */
export function spread(total, shares) {
  const sum = shares.reduce((one, other) => one + other, 0);
  const exact = shares.map((share) => (sum ? (total * share) / sum : total / shares.length));
  const parts = exact.map(Math.floor);
  const order = exact.map((value, index) => ({ index, rest: value - Math.floor(value) }));
  order.sort((one, other) => other.rest - one.rest || one.index - other.index);
  let missing = total - parts.reduce((one, other) => one + other, 0);
  for (const { index } of order) {
    if (missing <= 0) break;
    parts[index] = (parts[index] ?? 0) + 1;
    missing -= 1;
  }
  return parts;
}

/**
 * Returns the versions beside one that may change.
 * @param {Split} split
 * @param {Locked} locked
 * @param {string} [version]
 */
export function freeVersions(split, locked, version) {
  return Object.keys(split).filter((name) => name !== version && !locked.has(name));
}

/**
 * Returns the most points that a version can have: those that no other version has locked.
 * @param {Split} split
 * @param {Locked} locked
 * @param {string} version
 */
export function mostPoints(split, locked, version) {
  const others = Object.entries(split).filter(([name]) => name !== version && locked.has(name));
  return POINTS - others.reduce((sum, [, points]) => sum + points, 0);
}

/**
 * Whether a version can move: it is free, and another one is free to take or give points.
 * @param {Split} split
 * @param {Locked} locked
 * @param {string} version
 */
export function canMove(split, locked, version) {
  return !locked.has(version) && freeVersions(split, locked, version).length > 0;
}

/**
 * Gives a version so many points, as far as locks allow; the other free versions share the rest in proportion.
 * @param {Split} split
 * @param {Locked} locked
 * @param {string} version
 * @param {number} wanted
 * @returns {Split}
 */
export function setPoints(split, locked, version, wanted) {
  if (!canMove(split, locked, version) || !Number.isFinite(wanted)) return { ...split };
  const most = mostPoints(split, locked, version);
  const points = Math.min(most, Math.max(0, Math.round(wanted)));
  return { ...shareAmong(split, freeVersions(split, locked, version), most - points), [version]: points };
}

/**
 * @param {Split} split
 * @param {string[]} versions
 * @param {number} points
 * @returns {Split}
 */
function shareAmong(split, versions, points) {
  const parts = spread(points, versions.map((name) => split[name] ?? 0));
  return { ...split, ...Object.fromEntries(versions.map((name, index) => [name, parts[index] ?? 0])) };
}

/**
 * Gives all free versions the same number of points, to one point.
 * @param {Split} split
 * @param {Locked} locked
 * @returns {Split}
 */
export function distributeEvenly(split, locked) {
  const free = freeVersions(split, locked);
  const rest = POINTS - Object.entries(split).reduce((sum, [name, points]) => sum + (locked.has(name) ? points : 0), 0);
  const parts = spread(rest, free.map(() => 0));
  return free.length ? { ...split, ...Object.fromEntries(free.map((name, index) => [name, parts[index] ?? 0])) } : { ...split };
}

/**
 * Adds a version with no points; the first one gets all.
 * @param {Split} split
 * @param {string} version
 * @returns {Split}
 */
export function addVersion(split, version) {
  return version in split ? { ...split } : { ...split, [version]: Object.keys(split).length ? 0 : POINTS };
}

/**
 * Removes a version and shares its points among the free ones; null if nobody could take them.
 * @param {Split} split
 * @param {Locked} locked
 * @param {string} version
 * @returns {Split | null}
 */
export function removeVersion(split, locked, version) {
  const { [version]: points = 0, ...rest } = split;
  const free = freeVersions(rest, locked);
  if (!Object.keys(rest).length || (points && !free.length)) return null;
  const had = free.reduce((sum, name) => sum + (rest[name] ?? 0), 0);
  return points ? shareAmong(rest, free, had + points) : rest;
}

/**
 * Reads points from a number box: whole points such as "250", or percent such as "2.5 %"; null for anything else.
 * @param {string} text
 * @returns {number | null}
 */
export function readPoints(text) {
  const found = /^\s*(\d{1,5}(?:[.,]\d{1,2})?)\s*(%?)\s*$/.exec(text);
  if (!found) return null;
  const value = Number((found[1] ?? "").replace(",", ".")) * (found[2] ? 100 : 1);
  const points = Math.round(value);
  return points <= POINTS && Math.abs(points - value) < 1e-6 ? points : null;
}
