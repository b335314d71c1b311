// Shares of a whole as one bar, with the same as text beside it.

import { html } from "../lib/html.js";
import { basisPoints } from "../lib/format.js";

/** @typedef {{name: string, share: number}} Part a version, and its share in basis points (10000 is all) */

const BAR_COLOURS = 6;

/**
 * Shows a split; parts without a share are left out. `none` stands for a split without parts.
 * @param {{parts: Part[], label: string, none?: string}} props
 */
export function Bar({ parts, label, none = "nobody" }) {
  const shown = parts.filter((part) => part.share > 0);
  const text = shown.map((part) => `${part.name}: ${basisPoints(part.share)}`).join(", ") || none;
  let at = 0;
  const pieces = shown.map((part, index) => {
    const x = at;
    at += part.share;
    return html`<rect x=${x} y="0" width=${part.share} height="10" class="series-${(index % BAR_COLOURS) + 1}"><title>${part.name}: ${basisPoints(part.share)}</title></rect>`;
  });
  return html`<div class="split">
    <svg class="bar" viewBox="0 0 10000 10" preserveAspectRatio="none" role="img" aria-label="${label}: ${text}">${pieces}</svg>
    <span class="small muted" aria-hidden="true">${text}</span>
  </div>`;
}
