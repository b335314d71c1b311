// Documents that follow a topic of the stream: the topic's own one, or one that is fetched again when the topic changes.

import { useEffect, useRef, useState } from "./html.js";
import { get } from "./api.js";
import { useTopic } from "./live.js";

/** @typedef {Record<string, any>} Document */
/** @typedef {{value: Document | null, error: Error | null}} State */
/** @typedef {{isTopic?: boolean, everyMs?: number}} Following `isTopic`: the topic's document is the one at the path;
 *     `everyMs`: fetch it after this time too, for changes that the topic does not carry */

const LEAST_MS = 2000;

/**
 * Returns the document at a path of the admin API: fetched at once, when `path` changes, and after changes of a topic, at
 * most every two seconds. The answer of an older call is dropped; the document of before is shown until the next is there.
 * @param {string} path
 * @param {string} topic
 * @param {Following} [following]
 * @returns {State & {again: () => void}}
 */
export function useDocument(path, topic, { isTopic = false, everyMs = 0 } = {}) {
  const changed = useTopic(topic);
  const [state, setState] = useState(/** @type {State} */ ({ value: null, error: null }));
  const [count, setCount] = useState(0);
  const last = useRef({ at: 0, path: "" });
  const trigger = isTopic ? null : changed;
  useEffect(() => {
    let isCurrent = true;
    const call = () => {
      last.current = { at: Date.now(), path };
      get(path).then(
        (value) => isCurrent && setState({ value, error: null }),
        (error) => isCurrent && setState((/** @type {State} */ old) => ({ value: old.value, error })),
      );
    };
    const wait = last.current.path === path ? Math.max(0, last.current.at + LEAST_MS - Date.now()) : 0;
    const timer = setTimeout(call, wait);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [path, trigger, count]);
  useEffect(() => {
    if (!everyMs) return undefined;
    const timer = setInterval(() => document.hidden || setCount((/** @type {number} */ old) => old + 1), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  const value = isTopic && changed ? changed : state.value;
  return { value, error: isTopic && changed ? null : state.error, again: () => setCount(count + 1) };
}

/**
 * Returns the number of the newest event of a model, 0 before the first: what rests on events is fetched again by it.
 * @param {string} model
 * @returns {number}
 */
export function useNewestEvent(model) {
  const events = /** @type {Document[]} */ (useTopic("events") || []);
  return events.findLast((event) => `${event.subject}/`.startsWith(`models/${model}/`))?.sequence ?? 0;
}
