// Types of what the console uses of signals; they are for checks, and are not served.
export interface ReadonlySignal<T> {
  readonly value: T;
  peek(): T;
  subscribe(call: (value: T) => void): () => void;
}
export interface Signal<T> extends ReadonlySignal<T> {
  value: T;
}
export declare function signal<T>(value: T): Signal<T>;
export declare function computed<T>(make: () => T): ReadonlySignal<T>;
export declare function effect(run: () => void | (() => void)): () => void;
export declare function batch<T>(run: () => T): T;
