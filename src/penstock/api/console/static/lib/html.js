// Templates and hooks: Preact bound to htm, and signals. Every view takes them from here.

import htm from "../vendor/htm.mjs";
import { useCallback, useEffect, useMemo, useReducer, useRef, useState } from "../vendor/hooks.mjs";
import { Component, Fragment, h, render } from "../vendor/preact.mjs";

export { Component, Fragment, render };
export { useCallback, useEffect, useMemo, useRef, useState };

/** A template such as html`<p class="muted">${text}</p>`: values become text, never markup. */
export const html = htm.bind(h);

/**
 * A value outside of components: `value` reads or sets it, `subscribe` calls a function now and after each change until
 * the returned function is called.
 * @template T
 */
export class Signal {
  /** @type {T} */ #value;
  /** @type {Set<(value: T) => void>} */ #users = new Set();

  /** @param {T} value */
  constructor(value) {
    this.#value = value;
  }

  get value() {
    return this.#value;
  }

  set value(value) {
    if (value === this.#value) return;
    this.#value = value;
    for (const user of [...this.#users]) user(value);
  }

  /** @param {(value: T) => void} user */
  subscribe(user) {
    this.#users.add(user);
    user(this.#value);
    return () => void this.#users.delete(user);
  }
}

/**
 * Returns the value of a signal, and renders the component again when it changes.
 * @template T
 * @param {Signal<T>} source
 * @returns {T}
 */
export function useSignal(source) {
  const [, redraw] = useReducer((/** @type {number} */ count) => count + 1, 0);
  const shown = source.value;
  const last = useRef(shown);
  last.current = shown;
  useEffect(
    () =>
      source.subscribe((/** @type {T} */ value) => {
        if (value !== last.current) redraw(undefined);
      }),
    [source],
  );
  return shown;
}

/**
 * Returns what an asynchronous call gives: `value` is null until then, `error` null unless it failed. Called again when
 * one of `inputs` changes or `again` is called; the answer of an older call is dropped.
 * @template T
 * @param {() => Promise<T>} call
 * @param {unknown[]} inputs
 * @returns {{value: T | null, error: Error | null, again: () => void}}
 */
export function useAsync(call, inputs) {
  const [state, setState] = useState(/** @type {{value: T | null, error: Error | null}} */ ({ value: null, error: null }));
  const [count, setCount] = useState(0);
  useEffect(() => {
    let isCurrent = true;
    call().then(
      (value) => isCurrent && setState({ value, error: null }),
      (error) => isCurrent && setState((/** @type {{value: T | null}} */ old) => ({ value: old.value, error })),
    );
    return () => {
      isCurrent = false;
    };
  }, [...inputs, count]);
  return { ...state, again: () => setCount(count + 1) };
}

/**
 * Returns a handler of events that passes on the text of their field.
 * @param {(text: string) => void} set
 */
export function valueTo(set) {
  return (/** @type {{currentTarget: HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement}} */ event) => set(event.currentTarget.value);
}
