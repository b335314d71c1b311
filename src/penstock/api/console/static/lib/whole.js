// The whole document of a rollout or experiment: the stream shows it without its history, which is fetched when it changes.

import { useEffect, useRef, useState } from "./html.js";
import { get } from "./api.js";

const LOOK_MS = 2000;

/**
 * Returns the document at a path; fetched again when the stream shows a later revision, at most every two seconds.
 * @param {string} path
 * @param {number | undefined} revision
 * @returns {{whole: any, error: Error | null, again: () => void}}
 */
export function useWhole(path, revision) {
  const [state, setState] = useState(/** @type {{whole: any, error: Error | null}} */ ({ whole: null, error: null }));
  const asked = useRef(0);
  const load = () => {
    asked.current = Date.now();
    get(path).then(
      (whole) => setState({ whole, error: null }),
      (error) => setState((/** @type {{whole: any}} */ old) => ({ ...old, error })),
    );
  };
  const known = state.whole?.revision;
  useEffect(() => {
    if (known !== undefined && (revision === undefined || revision <= known)) return undefined;
    const timer = setTimeout(load, Math.max(0, asked.current + LOOK_MS - Date.now()));
    return () => clearTimeout(timer);
  }, [path, revision, known]);
  return { ...state, again: load };
}
