// The right side of the header: who is signed in, whether the page is live, the colour scheme, search and help.

import { html, useSignal, useState } from "../lib/html.js";
import { whoami } from "../lib/access.js";
import { time } from "../lib/format.js";
import { liveState, problems } from "../lib/live.js";
import { address, csrf, recall, remember } from "../lib/page.js";
import { link } from "../lib/router.js";
import { openOverlay } from "./overlays.js";

export function Status() {
  return html`<${LiveBadge} /><${CallerName} />
    <button type="button" class="button quiet" onClick=${() => openOverlay("search")}>Search <kbd>/</kbd></button>
    <button type="button" class="button quiet" onClick=${() => openOverlay("help")}>Keys <kbd>?</kbd></button>
    <${ThemeSwitch} />`;
}

const TEXTS = { idle: "", live: "live", stale: "stale since", paused: "paused since" };

function LiveBadge() {
  const { state, since } = useSignal(liveState);
  const [problem] = Object.entries(useSignal(problems));
  if (state === "idle") return null;
  if (state === "live" && problem) return html`<span class="badge warn" role="status" title=${problem[1]}>older: ${problem[0]}</span>`;
  const kind = state === "live" ? "good" : "warn";
  return html`<span class="badge ${kind}" role="status">${TEXTS[state]}${state !== "live" && html` <time>${time(since / 1000).slice(11)}</time>`}</span>`;
}

/** Who is signed in; where there is no authentication, nobody is. */
function CallerName() {
  const caller = useSignal(whoami);
  if (!caller || caller.method === "anonymous") return null;
  return html`<a class="small" href=${link("/console/access")}>${caller.name}</a>
    ${csrf && html`<form method="post" action=${address("/console/sign-out")}>
      <input type="hidden" name="csrf" value=${csrf} /><button class="button quiet">Sign out</button></form>`}`;
}

const THEMES = ["", "light", "dark"];

/** Switches between the browser's preference, light and dark. */
function ThemeSwitch() {
  const [theme, setTheme] = useState(recall("theme"));
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] || "";
  function change() {
    remember("theme", next);
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    setTheme(next);
  }
  return html`<button type="button" class="button quiet" onClick=${change}>Theme: ${theme || "auto"}</button>`;
}
