// One stream of server-sent events for the whole page. It carries the topics that views use, and is closed while the tab
// is hidden. Nothing else is asked for again and again: while the gateway refuses a stream, the page is stale, and says so.

import { Signal, useEffect, useSignal } from "./html.js";
import { loadWhoami } from "./access.js";
import { afterChange, get } from "./api.js";
import { address } from "./page.js";

/** @typedef {{state: "idle" | "live" | "stale" | "paused", since: number}} LiveState "idle": nothing on the page is live;
 *     `since` in milliseconds since the epoch */
/** @typedef {{document: Signal<any>, users: number}} Topic */

const HIDDEN_MS = 5000;
const SILENT_MS = 40000;
const OPEN_MS = 30;
const RETRY_MS = 5000;
const MOST_EVENTS = 200;

/** Whether what the page shows is what the gateway has now. */
export const liveState = new Signal(/** @type {LiveState} */ ({ state: "idle", since: Date.now() }));

/** Why documents of the page cannot be made now, by topic. */
export const problems = new Signal(/** @type {Record<string, string>} */ ({}));

/** @type {Map<string, Topic>} */
const topics = new Map();
/** @type {EventSource | null} */
let source = null;
let lastId = "";
let lastMessage = Date.now();
let opening = 0;
let hiding = 0;

/**
 * Returns the newest document of a topic, null before the first one; for the topic "events" the newest events, the oldest
 * first. A component that uses it is rendered again when it changes.
 * @param {string} name such as "models" or "route:fraud"
 * @returns {any}
 */
export function useTopic(name) {
  const topic = topicOf(name);
  useEffect(() => {
    topics.set(name, topic); // the last view may just have left it
    topic.users += 1;
    if (topic.users === 1) reopenSoon();
    return () => leave(name, topic);
  }, [name]);
  return useSignal(topic.document);
}

/** @param {string} name */
function topicOf(name) {
  let topic = topics.get(name);
  if (!topic) topics.set(name, (topic = { document: new Signal(null), users: 0 }));
  return topic;
}

/**
 * @param {string} name
 * @param {Topic} topic
 */
function leave(name, topic) {
  topic.users -= 1;
  if (topic.users > 0) return;
  topics.delete(name);
  reopenSoon();
}

/** Topics of one change of the page come together: the stream is opened once for all of them. */
function reopenSoon() {
  openLater(OPEN_MS);
}

/** @param {number} wait in milliseconds */
function openLater(wait) {
  clearTimeout(opening);
  opening = setTimeout(openStream, wait);
}

function openStream() {
  closeStream();
  const used = [...topics].filter(([, topic]) => topic.users > 0).map(([name]) => name);
  if (!used.length) show("idle");
  if (!used.length || document.hidden) return;
  const query = new URLSearchParams({ topics: used.join(",") });
  if (lastId && used.includes("events")) query.set("last-event-id", lastId);
  source = new EventSource(address(`/admin/v1/stream?${query}`));
  source.addEventListener("open", note);
  source.addEventListener("heartbeat", note);
  source.addEventListener("error", fail);
  source.addEventListener("problem", noteProblem);
  for (const name of used) source.addEventListener(name, (event) => receive(name, event));
}

function closeStream() {
  source?.close();
  source = null;
  problems.value = {};
}

/**
 * @param {string} name
 * @param {MessageEvent<string>} event
 */
function receive(name, event) {
  if (event.lastEventId) lastId = event.lastEventId;
  note();
  putDocument(name, JSON.parse(event.data));
}

/**
 * @param {string} name
 * @param {any} value
 */
function putDocument(name, value) {
  const topic = topics.get(name);
  if (!topic || value.revision < topic.document.value?.revision) return; // it was made before the one that is shown
  topic.document.value = name === "events" ? withEvents(topic.document.value, value) : value;
}

/**
 * Adds events to those that are known, without doubles.
 * @param {any[] | null} known
 * @param {any} value one event, or a document of several
 */
function withEvents(known, value) {
  /** @type {any[]} */
  const added = Array.isArray(value.events) ? value.events : [value];
  const seen = new Set((known || []).map((event) => event.sequence));
  return [...(known || []), ...added.filter((event) => !seen.has(event.sequence))].slice(-MOST_EVENTS);
}

function note() {
  lastMessage = Date.now();
  show("live");
}

/** A document that cannot be made stays as it was. @param {MessageEvent<string>} event */
function noteProblem(event) {
  note();
  const { topic, error } = JSON.parse(event.data);
  const { [topic]: _, ...others } = problems.value;
  problems.value = error ? { ...others, [topic]: error } : others;
}

/** @param {LiveState["state"]} state */
function show(state) {
  if (liveState.value.state !== state) liveState.value = { state, since: lastMessage };
}

/**
 * The browser connects again by itself, unless the gateway has refused the stream: then the page asks who the caller is,
 * which opens the page for signing in where nobody is any more, fetches what it has not got yet, and tries again.
 */
function fail() {
  if (liveState.value.state !== "idle") show("stale");
  if (source?.readyState !== EventSource.CLOSED) return;
  closeStream();
  loadWhoami().catch(() => undefined);
  fetchTopics(([name, topic]) => FETCHED.test(name) && topic.document.value === null);
  openLater(RETRY_MS);
}

/** @param {(entry: [string, Topic]) => boolean} isWanted */
function fetchTopics(isWanted) {
  return Promise.allSettled([...topics].filter(isWanted).map(([name]) => fetchTopic(name)));
}

/** Fetches the document of a topic by the call of its name. @param {string} name */
async function fetchTopic(name) {
  const [kind = "", model] = name.split(/:(.*)/s);
  const path = kind === "model" ? "" : `/${kind}`;
  putDocument(name, await get(model ? `/models/${encodeURIComponent(model)}${path}` : path));
}

/** Topics whose documents are those of such calls. */
const FETCHED = /^(overview|traffic|fleet|workers|monitor)|:/;

function watchVisibility() {
  clearTimeout(hiding);
  if (!document.hidden) {
    if (!source) openStream();
    return;
  }
  hiding = setTimeout(() => {
    closeStream();
    if (topics.size) show("paused");
  }, HIDDEN_MS);
}

/** A connection that is cut without a word is noticed by its silence: the gateway sends something every 15 seconds. */
function watchSilence() {
  if (source && Date.now() - lastMessage > SILENT_MS) {
    show("stale");
    openStream();
  }
}

/** Topics whose documents have the revision that a change rests on. */
const REVISED = /^(model|route|rollouts|experiments|retraining):/;

/** Begins to watch whether the tab is visible and whether the stream is silent. */
export function startLive() {
  afterChange.run = () => fetchTopics(([name]) => REVISED.test(name));
  document.addEventListener("visibilitychange", watchVisibility);
  setInterval(watchSilence, 5000);
}
