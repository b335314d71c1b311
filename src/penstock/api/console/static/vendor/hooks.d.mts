// Types of what the console uses of Preact's hooks; they are for checks, and are not served.
export declare function useState<T>(initial: T | (() => T)): [T, (next: T | ((old: T) => T)) => void];
export declare function useReducer<S, A>(reduce: (state: S, action: A) => S, initial: S): [S, (action: A) => void];
export declare function useRef<T>(initial: T): { current: T };
export declare function useEffect(effect: () => void | (() => void), inputs?: readonly unknown[]): void;
export declare function useMemo<T>(make: () => T, inputs: readonly unknown[]): T;
export declare function useCallback<F extends (...args: any[]) => any>(call: F, inputs: readonly unknown[]): F;
