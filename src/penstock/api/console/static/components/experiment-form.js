// The form of a new experiment: arms with their weights, who stays with an arm, and whether weights follow the rewards.

import { html, useState, valueTo } from "../lib/html.js";
import { send } from "../lib/api.js";
import { basisPoints } from "../lib/format.js";
import { readNumber } from "../lib/rollout-form.js";
import { addVersion, distributeEvenly } from "../lib/split.js";
import { ReasonDialog } from "./reason-dialog.js";
import { StickyEditor } from "./route-editors.js";
import { SplitEditor } from "./split-editor.js";

/** @param {{model: string, versions: string[], onStarted: (experiment: any) => void}} props */
export function ExperimentForm({ model, versions, onStarted }) {
  const [arms, setArms] = useState(() => distributeEvenly(versions.slice(0, 2).reduce(addVersion, {}), new Set()));
  const [locked, setLocked] = useState(new Set());
  const [sticky, setSticky] = useState(/** @type {string | null} */ (null));
  const [mode, setMode] = useState("fixed");
  const [floor, setFloor] = useState("5");
  const [asking, setAsking] = useState(false);
  const least = readNumber(floor);
  const faults = [
    ...(Object.keys(arms).length < 2 ? ["An experiment needs two arms or more."] : []),
    ...(least === null || Number.isNaN(least) ? ["The least weight must be a number."] : []),
  ];
  const body = { arms, mode, ...(sticky ? { sticky } : {}), ...(mode === "thompson" ? { floor: Math.round((least || 0) * 100) } : {}) };
  return html`<form class="form" onSubmit=${(/** @type {Event} */ event) => {
    event.preventDefault();
    if (!faults.length) setAsking(true);
  }}>
    <${SplitEditor} label="Arms" split=${arms} locked=${locked} versions=${versions} onChange=${(/** @type {any} */ split, /** @type {any} */ locks) => {
      setArms(split);
      setLocked(locks);
    }} />
    <div class="grid"><${StickyEditor} sticky=${sticky} onChange=${setSticky} />
      <div><label class="field">Weights<select value=${mode} onChange=${valueTo(setMode)}>
        <option value="fixed">stay as stated</option><option value="thompson">follow the rewards (Thompson sampling)</option></select></label>
      ${mode === "thompson" && html`<label class="field">Least weight of an arm, %<input class="short" type="text" inputmode="decimal" value=${floor} onInput=${valueTo(setFloor)} /></label>`}</div></div>
    <p class="small muted">Arms are compared by the rewards that you post as feedback for their answers.</p>
    ${faults.map((fault) => html`<p class="bad" key=${fault}>${fault}</p>`)}
    <button class="button primary" disabled=${faults.length > 0}>Start the experiment …</button>
    ${asking && html`<${ReasonDialog} title="Start the experiment" action="Start" onClose=${() => setAsking(false)} onDone=${onStarted}
      changes=${Object.entries(arms).map(([arm, points]) => ({ label: `Version ${arm}`, after: basisPoints(points) }))}
      perform=${(/** @type {any} */ how) => send("POST", `/models/${encodeURIComponent(model)}/experiments`, body, how)} />`}
  </form>`;
}
