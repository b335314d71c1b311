// The split as one row for each version: a slider, a number box, a lock, and what the version really did in the last minute.

import { html, useState, valueTo } from "../lib/html.js";
import { basisPoints, milliseconds, percent, rate } from "../lib/format.js";
import { POINTS, addVersion, canMove, distributeEvenly, mostPoints, readPoints, removeVersion, setPoints } from "../lib/split.js";

/** @typedef {import("../lib/split.js").Split} Split */
/** @typedef {{share_basis_points?: number, requests_per_second?: number, error_ratio?: number | null, p50_ms?: number | null, p99_ms?: number | null}} Recent */
/** @typedef {{currentTarget: HTMLInputElement}} InputEvent_ */

/**
 * Edits a split. `versions` are those that can be added, `recent` what each version did in the last minute.
 * @param {{split: Split, locked: Set<string>, versions: string[], recent?: Record<string, Recent>, label?: string,
 *     onChange: (split: Split, locked: Set<string>) => void}} props
 */
export function SplitEditor({ split, locked, versions, recent, label = "Split", onChange }) {
  const absent = versions.filter((version) => !(version in split));
  const free = Object.keys(split).filter((version) => !locked.has(version));
  return html`<fieldset class="splits"><legend>${label}</legend>
    ${Object.keys(split).map((version) => html`<${Row} key=${version} version=${version} split=${split} locked=${locked} recent=${recent?.[version]} hasRecent=${recent !== undefined} onChange=${onChange} />`)}
    <div class="toolbar">
      <button type="button" class="button" disabled=${free.length < 2} onClick=${() => onChange(distributeEvenly(split, locked), locked)}>Distribute evenly</button>
      <${AddVersion} versions=${absent} onAdd=${(/** @type {string} */ version) => onChange(addVersion(split, version), locked)} />
    </div>
  </fieldset>`;
}

/** @param {{version: string, split: Split, locked: Set<string>, recent?: Recent, hasRecent: boolean, onChange: (split: Split, locked: Set<string>) => void}} props */
function Row({ version, split, locked, recent, hasRecent, onChange }) {
  const points = split[version] ?? 0;
  const fixed = locked.has(version);
  const movable = canMove(split, locked, version);
  const most = fixed ? POINTS : mostPoints(split, locked, version);
  const removed = removeVersion(split, locked, version);
  const move = (/** @type {number} */ wanted) => onChange(setPoints(split, locked, version, wanted), locked);
  return html`<div class="split-row" role="group" aria-label="Version ${version}">
    <strong class="split-name">${version}</strong>
    <input type="range" min="0" max=${most} step="1" value=${points} disabled=${!movable} aria-label="Weight of version ${version}" aria-valuetext=${basisPoints(points)}
      onInput=${(/** @type {InputEvent_} */ event) => move(Number(event.currentTarget.value))} />
    <${PointsBox} version=${version} points=${points} disabled=${!movable} onPoints=${move} />
    <span class="number split-percent">${basisPoints(points)}</span>
    <button type="button" class="button quiet" aria-pressed=${fixed} aria-label="Lock version ${version}" onClick=${() => onChange(split, toggled(locked, version))}>${fixed ? "Locked" : "Lock"}</button>
    <button type="button" class="button quiet" disabled=${!removed} aria-label="Remove version ${version} from the split" onClick=${() => removed && onChange(removed, without(locked, version))}>Remove</button>
    ${hasRecent && html`<${LastMinute} recent=${recent} />`}
  </div>`;
}

/** @param {Set<string>} locked @param {string} version */
function toggled(locked, version) {
  return locked.has(version) ? without(locked, version) : new Set([...locked, version]);
}

/** @param {Set<string>} locked @param {string} version */
function without(locked, version) {
  return new Set([...locked].filter((name) => name !== version));
}

/**
 * A number box: whole points out of 10,000, or percent with a sign. What cannot be read stays and is marked.
 * @param {{version: string, points: number, disabled: boolean, onPoints: (points: number) => void}} props
 */
function PointsBox({ version, points, disabled, onPoints }) {
  const [text, setText] = useState(/** @type {string | null} */ (null));
  const wrong = text !== null && readPoints(text) === null;
  const take = () => {
    const read = text === null ? null : readPoints(text);
    if (read !== null) onPoints(read);
    if (!wrong) setText(null);
  };
  return html`<input class="number split-box" type="text" inputmode="decimal" value=${text ?? points} disabled=${disabled} aria-invalid=${wrong}
    aria-label="Points of version ${version} out of 10,000" title=${wrong ? "Whole points from 0 to 10000, or percent such as 2.5 %" : "Points out of 10,000, or percent such as 2.5 %"}
    onInput=${valueTo(setText)} onChange=${take} onBlur=${take}
    onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Escape" && setText(null)} />`;
}

/** @param {{recent?: Recent}} props */
function LastMinute({ recent }) {
  if (!recent?.requests_per_second) return html`<span class="split-recent small muted">no requests in the last minute</span>`;
  return html`<span class="split-recent small muted">last minute: really <strong>${basisPoints(recent.share_basis_points)}</strong>, ${rate(recent.requests_per_second)}, errors ${percent(recent.error_ratio)}, p50 ${milliseconds(recent.p50_ms)}, p99 ${milliseconds(recent.p99_ms)}</span>`;
}

/** @param {{versions: string[], onAdd: (version: string) => void}} props */
function AddVersion({ versions, onAdd }) {
  if (!versions.length) return null;
  return html`<label class="field">Add a version
    <select value="" onChange=${(/** @type {{currentTarget: HTMLSelectElement}} */ event) => {
      if (event.currentTarget.value) onAdd(event.currentTarget.value);
      event.currentTarget.value = "";
    }}><option value="">choose …</option>${versions.map((version) => html`<option key=${version} value=${version}>${version}</option>`)}</select>
  </label>`;
}
