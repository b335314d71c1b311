// Calls that wait until the input rests, so that a moving slider asks the gateway once.

import { useEffect, useState } from "./html.js";

const REST_MS = 300;

/**
 * Returns what an asynchronous call gives for an input; called `REST_MS` after the last change of it. The answer to an
 * older input stays until the next one comes. Without an input (null) nothing is asked.
 * @template T
 * @param {string | null} input a text that says everything the call depends on
 * @param {() => Promise<T>} call
 * @returns {{value: T | null, error: Error | null, waiting: boolean}}
 */
export function useDelayed(input, call) {
  const [state, setState] = useState(/** @type {{value: T | null, error: Error | null, input: string | null}} */ ({ value: null, error: null, input: null }));
  useEffect(() => {
    if (input === null) return undefined;
    let isCurrent = true;
    const timer = setTimeout(() => {
      call().then(
        (value) => isCurrent && setState({ value, error: null, input }),
        (error) => isCurrent && setState({ value: null, error, input }),
      );
    }, REST_MS);
    return () => {
      isCurrent = false;
      clearTimeout(timer);
    };
  }, [input]);
  if (input === null) return { value: null, error: null, waiting: false };
  return { value: state.value, error: state.error, waiting: state.input !== input };
}
