// Names with their values, and digests that are too long for a line.

import { html } from "../lib/html.js";

const DIGEST_CHARACTERS = "sha256:".length + 12;

/** @param {{pairs: [string, any][]}} props pairs without a value are left out */
export function Facts({ pairs }) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return html`<dl class="facts">${shown.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

/** @param {{value: string | null | undefined}} props */
export function Digest({ value }) {
  if (!value) return html`<span class="muted">–</span>`;
  return html`<code title=${value}>${value.slice(0, DIGEST_CHARACTERS)}</code>`;
}
