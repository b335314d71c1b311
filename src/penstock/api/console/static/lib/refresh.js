// Documents that follow the stream: a topic's own one, or one that is fetched again when the topic changes.

import { useEffect, useRef, useState } from "./html.js";
import { get } from "./api.js";
import { useTopic } from "./live.js";

/** @typedef {Record<string, any>} Document */
/** @typedef {{value: any, error: Error | null}} State */

const LEAST_MS = 500;

/**
 * Returns the document at a path of the admin API: fetched at once, when `path` changes, and after changes of `trigger`, at
 * most twice a second. The answer of an older call is dropped; the document of before is shown until the next is there.
 * @param {string} path
 * @param {unknown} trigger
 * @returns {State & {again: () => void}}
 */
export function useFetched(path, trigger) {
  const [state, setState] = useState(/** @type {State} */ ({ value: null, error: null }));
  const [count, setCount] = useState(0);
  const last = useRef({ at: 0, path: "" });
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
  return { ...state, again: () => setCount(count + 1) };
}

/**
 * Returns the document at a path as `useFetched`, with the changes of a topic; with `isTopic` the document of the topic is
 * the one at the path.
 * @param {string} path
 * @param {string} topic
 * @param {{isTopic?: boolean}} [following]
 */
export function useDocument(path, topic, { isTopic = false } = {}) {
  const changed = useTopic(topic);
  const { value, error, again } = useFetched(path, isTopic ? null : changed);
  return isTopic && changed ? { value: changed, error: null, again } : { value, error, again };
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

/**
 * Returns a rollout or experiment with all that its page shows: the stream has it without its history, which is fetched
 * when it changes; null before the first.
 * @param {string} model
 * @param {"rollouts" | "experiments"} kind
 * @param {string} id
 * @returns {{trial: any, whole: any, path: string, error: Error | null, again: () => void}} `whole` has the history
 */
export function useTrial(model, kind, id) {
  const path = `/models/${encodeURIComponent(model)}/${kind}/${encodeURIComponent(id)}`;
  const newest = useTopic(`${kind}:${model}`)?.[kind].find((/** @type {any} */ item) => item.id === id);
  const { value: whole, error, again } = useFetched(path, newest?.revision);
  const trial = newest && newest.revision >= whole?.revision ? { ...whole, ...newest } : whole;
  return { trial, whole, path, error, again };
}
