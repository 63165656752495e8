import { useEffect, useState } from 'react';

import type { Client, Query } from '../api/client';
import { ApiError } from '../api/client';
import type { ErrorBody } from '../api/schema';

/** The time in milliseconds, once a second while `isRunning`. */
export function useNow(isRunning: boolean): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!isRunning) {
      return;
    }
    const tick = () => setNow(Date.now());
    const first = setTimeout(tick, 0);
    const timer = setInterval(tick, 1000);
    return () => {
      clearTimeout(first);
      clearInterval(timer);
    };
  }, [isRunning]);
  return now;
}

/** The words of any failure. */
export function errorBody(error: unknown): ErrorBody {
  if (error instanceof ApiError) {
    return error.body;
  }
  return { code: 'unexpected', message: error instanceof Error ? error.message : String(error), mend: '', detail: {} };
}

/** Something fetched: `value` stays while it is fetched again. */
export interface Fetched<T> {
  value: T | null;
  error: ErrorBody | null;
}

/** Fetch something, again whenever `key` changes. */
export function useFetched<T>(key: string, fetch: () => Promise<T>): Fetched<T> {
  const [fetched, setFetched] = useState<Fetched<T>>({ value: null, error: null });
  useEffect(() => {
    let isCurrent = true;
    fetch().then(
      value => isCurrent && setFetched({ value, error: null }),
      (error: unknown) => isCurrent && setFetched(before => ({ ...before, error: errorBody(error) }))
    );
    return () => {
      isCurrent = false;
    };
    // eslint-disable-next-line react-hooks/exhaustive-deps -- `key` says when the answer would differ
  }, [key]);
  return fetched;
}

/** Save what an endpoint answers as a file of the person's, through the browser and without a token in any address. */
export async function download(client: Client, path: string, name: string, query: Query = {}): Promise<void> {
  const response = await client.open(path, { query });
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // the browser has taken hold of the blob by the next task
  setTimeout(() => URL.revokeObjectURL(url), 0);
}
