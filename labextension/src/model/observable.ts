import { useSyncExternalStore } from 'react';

/** A value that tells when it was replaced. Values are never changed in place. */
export interface Observable<T> {
  get(): T;
  set(value: T): void;
  subscribe(listener: () => void): () => void;
}

/** An observable that starts with `value`. */
export function observable<T>(value: T): Observable<T> {
  let current = value;
  const listeners = new Set<() => void>();
  return {
    get: () => current,
    set: next => {
      if (!Object.is(next, current)) {
        current = next;
        listeners.forEach(listener => listener());
      }
    },
    subscribe: listener => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    }
  };
}

/** The current value, rendering again when it is replaced. */
export function useObservable<T>(source: Observable<T>): T {
  return useSyncExternalStore(source.subscribe, source.get);
}
