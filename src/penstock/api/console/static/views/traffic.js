// The traffic of a model: who answers, the split by sliders, rules, sticky, shadows, and what everything would change.

import { html, useAsync, useSignal, useState } from "../lib/html.js";
import { usePermissions } from "../lib/access.js";
import { get, send } from "../lib/api.js";
import { basisPoints, number, time } from "../lib/format.js";
import { useDelayed } from "../lib/delayed.js";
import { useTopic } from "../lib/live.js";
import { link, pathTo, route } from "../lib/router.js";
import { routeBody, differences, faultsOf, isSame, routeOf } from "../lib/routes.js";
import { Bar } from "../components/bar.js";
import { Chart } from "../components/chart.js";
import { Permitted, ErrorBox, Loading } from "../components/notes.js";
import { Changes, ReasonDialog } from "../components/reason-dialog.js";
import { RouteConflict } from "../components/route-conflict.js";
import { RulesEditor, ShadowEditor, StickyEditor } from "../components/route-editors.js";
import { SplitEditor } from "../components/split-editor.js";

/** @typedef {import("../lib/routes.js").Route} Route */
/** @typedef {{document: any, route: Route}} Base the route that editing began with */

const MOST_ENTRIES = 20;

/** What keys do; the component fills it in. @type {Record<string, () => void>} */
const actions = {};

/** @param {{params: Record<string, string>}} props */
function Traffic({ params }) {
  const model = params.model || "";
  const present = useTopic(`route:${model}`);
  const traffic = useTopic("traffic");
  const document = useTopic(`model:${model}`);
  const { query } = useSignal(route);
  if (!present || !document) return html`<${Loading} />`;
  const recent = traffic?.models?.[model];
  return html`<${CurrentTraffic} model=${model} present=${present} recent=${recent} />
    <${LastMinutes} series=${recent?.series} end=${traffic?.at} at=${query.at} />
    <${RouteEditor} key=${model} model=${model} present=${present} versions=${readyVersions(document)} recent=${recent?.versions || {}} />`;
}

/** @param {any} document a model of the admin API */
function readyVersions(document) {
  return document.versions.filter((/** @type {any} */ item) => item.state === "READY").map((/** @type {any} */ item) => item.version);
}

/** @param {{model: string, present: any, recent: any}} props */
function CurrentTraffic({ model, present, recent }) {
  const versions = Object.entries(recent?.versions || {}).filter(([, item]) => !(/** @type {any} */ (item).shadow));
  const real = versions.map(([name, item]) => ({ name, share: /** @type {any} */ (item).share_basis_points || 0 }));
  const split = Object.entries(present.split).map(([name, share]) => ({ name, share: Number(share) }));
  return html`<section class="card" aria-label="Now">
    <h2>Now</h2><p>${present.answers}.</p>
    <div class="grid"><div><p class="small muted">${present.set ? "Stated split" : "Without a route"}</p><${Bar} parts=${split} label="Stated split" /></div>
      <div><p class="small muted">Last minute, ${number(recent?.requests_per_second ?? 0)} requests a second at this gateway</p><${Bar} parts=${real} label="Real share in the last minute" none="no requests" /></div></div>
    <p class="small">${present.shadow.map((/** @type {any} */ item) => html`<a key=${item.version} href=${link(pathTo("models", model, "shadow", item.version))}>Shadow ${item.version}, ${item.percent} %</a>${" "}`)}<span class="muted">Revision ${present.revision}.</span></p>
  </section>`;
}

/**
 * The requests of the last ten minutes; `at` is a moment to look at, such as that of an alarm.
 * @param {{series: any, end: number, at: string | undefined}} props
 */
function LastMinutes({ series, end, at }) {
  const count = series?.requests.length;
  if (!count) return null;
  const step = series.step_seconds;
  const start = end - (count - 1) * step; // the end of the first step
  const moment = Date.parse(at || "") / 1000;
  const isBefore = moment < start - step;
  return html`<section class="card"><h2>Requests a second</h2>
    ${isBefore && html`<p class="muted">${time(at)} is before these minutes; a dashboard of the metrics has older traffic.</p>`}
    <${Chart} label="Requests a second" at=${[start, end]} series=${[{ name: "requests a second", values: series.requests.map((/** @type {number} */ item) => item / step) }]}
      moments=${isBefore ? [] : [{ name: `at ${time(at)}`, at: Math.max(start, moment) }]} /></section>`;
}

/** @param {{model: string, present: any, versions: string[], recent: Record<string, any>}} props */
function RouteEditor({ model, present, versions, recent }) {
  const [base, setBase] = useState(/** @type {Base | null} */ (null));
  const [own, setOwn] = useState(/** @type {Route | null} */ (null));
  const [locked, setLocked] = useState(new Set());
  const [dialog, setDialog] = useState("");
  const allowed = usePermissions(model)("operate");
  for (const name of Object.keys(actions)) delete actions[name];
  if (!allowed.allowed) return html`<${Permitted} action="Change the traffic" reason=${allowed.reason} />`;
  if (present.trial) return html`<${TrialNote} model=${model} trial=${present.trial} />`;

  const from = base || { document: present, route: routeOf(present) };
  const shown = own || from.route;
  const change = (/** @type {Partial<Route>} */ part) => {
    if (!base) setBase(from);
    setOwn({ ...shown, ...part });
  };
  const leave = () => {
    setBase(null);
    setOwn(null);
    setLocked(new Set());
  };
  const dirty = own !== null && !isSame(from.route, own);
  const faults = faultsOf(shown);
  actions.write = () => dirty && !faults.length && setDialog("write");
  actions.discard = leave;
  return html`<section aria-label="Change the traffic">
    <h2>Change</h2>
    ${base && base.document.revision !== present.revision && html`<${RouteChanged} model=${model} base=${base} present=${present} own=${shown} onTheirs=${leave} onKeep=${() => setBase({ document: present, route: routeOf(present) })} />`}
    <${SplitEditor} split=${shown.split} locked=${locked} versions=${versions} recent=${recent}
      onChange=${(/** @type {any} */ split, /** @type {any} */ locks) => {
        setLocked(locks);
        change({ split });
      }} />
    <div class="grid">
      <${StickyEditor} sticky=${shown.sticky} onChange=${(/** @type {any} */ sticky) => change({ sticky })} />
      <${ShadowEditor} model=${model} shadow=${shown.shadow} versions=${versions} onChange=${(/** @type {any} */ shadow) => change({ shadow })} />
    </div>
    <${RulesEditor} rules=${shown.rules} versions=${versions} onChange=${(/** @type {any} */ rules) => change({ rules })} />
    <${RoutePreview} model=${model} route=${shown} dirty=${dirty} faults=${faults} base=${from.route} />
    <div class="row">
      <button type="button" class="button primary" disabled=${!dirty || faults.length > 0} onClick=${actions.write}>Write the route … <kbd aria-hidden="true">w</kbd></button>
      <button type="button" class="button" disabled=${own === null} onClick=${leave}>Discard <kbd aria-hidden="true">u</kbd></button>
      ${present.set && html`<button type="button" class="button danger" onClick=${() => setDialog("remove")}>Remove the route …</button>`}
    </div>
    ${dialog === "write" && html`<${WriteDialog} model=${model} base=${from} own=${shown} onClose=${() => setDialog("")} onDone=${leave} />`}
    ${dialog === "remove" && html`<${ReasonDialog} title="Remove the route" action="Remove" danger revision=${present.revision} onClose=${() => setDialog("")} onDone=${leave}
      perform=${(/** @type {any} */ how) => send("DELETE", `/models/${encodeURIComponent(model)}/route`, {}, how)} current=${() => presentOf(model, from, shown)}>
      <p>Without a route the version with alias “champion” answers, or the newest one that is ready.</p><//>`}
  </section>`;
}

/** @param {{model: string, trial: {kind: string, id: string}}} props */
function TrialNote({ model, trial }) {
  return html`<div class="note"><p>${trial.kind === "rollout" ? "A rollout" : "An experiment"} decides the traffic until it is over.${" "}<a href=${link(pathTo("models", model, `${trial.kind}s`, trial.id))}>Look at it</a>; end it there to change the route by hand.</p></div>`;
}

/** @param {{model: string, base: Base, present: any, own: Route, onTheirs: () => void, onKeep: () => void}} props */
function RouteChanged({ model, base, present, own, onTheirs, onKeep }) {
  const { value } = useAsync(() => lastEntries(model), [present.revision]);
  return html`<div class="note warn" role="status"><p><strong>Somebody changed it in between.</strong> You began with revision ${base.document.revision}; now it is ${present.revision}.</p>
    <${RouteConflict} base=${base.route} present=${routeOf(present)} own=${own} entries=${value || []} />
    <div class="row"><button type="button" class="button" onClick=${onTheirs}>Take what is there now</button>
      <button type="button" class="button" onClick=${onKeep}>Go on with mine</button></div></div>`;
}

/** @param {{model: string, route: Route, base: Route, dirty: boolean, faults: string[]}} props */
function RoutePreview({ model, route, base, dirty, faults }) {
  const body = routeBody(route);
  const input = dirty && !faults.length ? JSON.stringify(body) : null;
  const { value, error, waiting } = useDelayed(input, () => send("POST", `/models/${encodeURIComponent(model)}/route/preview`, body));
  if (!dirty) return html`<p class="muted">Nothing is changed yet.</p>`;
  if (faults.length) return html`<div class="note bad" role="alert"><ul>${faults.map((fault) => html`<li key=${fault}>${fault}</li>`)}</ul></div>`;
  return html`<div class="note" aria-live="polite" aria-busy=${waiting}><h3>What this does</h3>
    <${Changes} changes=${differences(base, route)} />
    <${ErrorBox} error=${error} />
    ${value && html`<ul>${value.sentences.map((/** @type {string} */ sentence) => html`<li key=${sentence}>${sentence}</li>`)}</ul>
      ${value.moved_points ? html`<p class="small muted">${basisPoints(value.moved_points)} of the callers get another version.</p>` : null}`}
  </div>`;
}

/** @param {{model: string, base: Base, own: Route, onClose: () => void, onDone: () => void}} props */
function WriteDialog({ model, base, own, onClose, onDone }) {
  return html`<${ReasonDialog} title="Write the route" action="Write" changes=${differences(base.route, own)} revision=${base.document.revision} onClose=${onClose} onDone=${onDone}
    perform=${(/** @type {any} */ how) => send("PUT", `/models/${encodeURIComponent(model)}/route`, routeBody(own), how)}
    current=${() => presentOf(model, base, own)} />`;
}

/**
 * Returns what is there now, for the dialog after a conflict: both sides, and who changed it. Throws if nothing has
 * changed: then the refusal has another cause, which the dialog shows.
 * @param {string} model
 * @param {Base} base
 * @param {Route} own
 */
async function presentOf(model, base, own) {
  const [present, entries] = await Promise.all([get(`/models/${encodeURIComponent(model)}/route`), lastEntries(model)]);
  if (present.revision === base.document.revision) throw new Error("nothing has changed");
  return { revision: present.revision, summary: html`<${RouteConflict} base=${base.route} present=${routeOf(present)} own=${own} entries=${entries} />` };
}

/**
 * Returns the last change of a route in the audit; nothing where the audit cannot be read.
 * @param {string} model
 * @returns {Promise<any[]>}
 */
async function lastEntries(model) {
  const audit = await get(`/audit?model=${encodeURIComponent(model)}&limit=${MOST_ENTRIES}`).catch(() => ({ entries: [] }));
  return audit.entries.filter((/** @type {any} */ entry) => entry.subject === `models/${model}/route`).slice(-1);
}

/** @type {import("../app.js").View} */
export const trafficView = {
  title: (params) => `${params.model}: traffic`,
  component: Traffic,
  keys: { w: ["write the route", () => actions.write?.()], u: ["discard the change", () => actions.discard?.()] },
};
