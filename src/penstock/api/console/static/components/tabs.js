// The tabs of a model: its pages, the present one marked.

import { html, useSignal } from "../lib/html.js";
import { link, pathTo, route } from "../lib/router.js";

/** Step in the path and title; the server renders the same. @type {[string, string][]} */
const TABS = [["", "Versions"], ["traffic", "Traffic"], ["rollouts", "Rollouts"], ["monitor", "Monitor"], ["retraining", "Retraining"], ["try", "Try it"]];

/** Pages below a tab whose address begins with another step; the server knows the same. @type {Record<string, string>} */
const BELOW = { versions: "", compare: "", shadow: "traffic", experiments: "rollouts" };

/** @param {{model: string}} props */
export function Tabs({ model }) {
  const { path } = useSignal(route);
  const step = path.slice(pathTo("models", model).length).replace(/^\/+/, "").split("/")[0] || "";
  const here = BELOW[step] ?? step;
  return html`<nav class="tabs" aria-label="Model"><ul>
    ${TABS.map(([tab, title]) => html`<li key=${tab}><a href=${link(pathTo("models", model, ...(tab ? [tab] : [])))} aria-current=${tab === here ? "page" : undefined}>${title}</a></li>`)}
  </ul></nav>`;
}
