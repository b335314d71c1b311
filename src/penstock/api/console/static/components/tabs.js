// The tabs of a model: its pages, the present one marked.

import { html, useSignal } from "../lib/html.js";
import { link, pathTo, route } from "../lib/router.js";

/** Step in the path and title; the server renders the same. @type {[string, string][]} */
const TABS = [["", "Versions"], ["traffic", "Traffic"], ["rollouts", "Rollouts"], ["monitor", "Monitor"], ["retraining", "Retraining"], ["try", "Try it"]];

/** @param {{model: string}} props */
export function Tabs({ model }) {
  const { path } = useSignal(route);
  const here = path.slice(pathTo("models", model).length).replace(/^\/+/, "").split("/")[0];
  return html`<nav class="tabs" aria-label="Model"><ul>
    ${TABS.map(([step, title]) => html`<li key=${step}><a href=${link(pathTo("models", model, ...(step ? [step] : [])))} aria-current=${step === here ? "page" : undefined}>${title}</a></li>`)}
  </ul></nav>`;
}
