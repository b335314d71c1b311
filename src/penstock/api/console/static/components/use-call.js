// Calls that somebody starts by a button: whether one is under way, and what the last one gave.

import { useState } from "../lib/html.js";

const IDLE = { busy: false, error: /** @type {Error | null} */ (null), value: /** @type {any} */ (null) };

/** Returns what the last call gave, and `run` for another one; its value stays until the next one has ended. */
export function useCall() {
  const [state, setState] = useState(IDLE);

  /** @param {() => Promise<any>} call */
  async function run(call) {
    setState({ ...state, busy: true, error: null });
    try {
      setState({ ...IDLE, value: await call() });
    } catch (error) {
      setState({ ...IDLE, error: /** @type {Error} */ (error) });
    }
  }

  return { ...state, run, clear: () => setState(IDLE) };
}
