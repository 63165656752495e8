import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { Client } from '../api/client';
import { ApiError } from '../api/client';
import type { Event } from '../api/schema';
import { createStore } from '../model/store';
import { event, job, run } from './things';

const GATHERED = 200;

/** A server with a log of events, answering as the real one does. */
function server(history: Event[], seqs: Record<string, number>) {
  const asked: string[] = [];
  const client = {
    health: () => Promise.resolve({}),
    jobs: () => {
      asked.push('jobs');
      const jobs = Object.entries(seqs).map(([id, seq]) => job(id, { seq }));
      return Promise.resolve({ jobs, page: { next: '', total: jobs.length } });
    },
    job: (id: string) => {
      asked.push(`job ${id}`);
      const seq = seqs[id];
      return seq === undefined
        ? Promise.reject(new ApiError(404, { code: 'job_not_found', message: id, mend: '', detail: {} }))
        : Promise.resolve(job(id, { seq }));
    },
    run: (id: string) => {
      asked.push(`run ${id}`);
      return Promise.resolve(run(id.slice(0, 1), Number(id.slice(2)), { seq: 50, state: 'complete' }));
    },
    runs: (id: string) => {
      asked.push(`runs ${id}`);
      return Promise.resolve({ runs: [run(id, 1), run(id, 2)], page: { next: '', total: 2 } });
    },
    events: (after: number) => {
      asked.push(`events ${after}`);
      // pages of two, so that catching up needs several
      const events = history.filter(({ seq }) => seq > after).slice(0, 2);
      return Promise.resolve({ events, last: events.at(-1)?.seq ?? after });
    }
  } as unknown as Client;
  return { client, asked, history, seqs };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe('a store', () => {
  it('catches up page by page after a hint, and fetches what was named once', async () => {
    const remote = server([], { a: 1 });
    const store = createStore(remote.client);
    await store.load();
    remote.asked.length = 0;
    remote.history.push(event(2, 'run.state', 'a', 'a-1'), event(3, 'job.created', 'b'), event(4, 'run.state', 'b', 'b-1'));
    remote.seqs['b'] = 4;
    [2, 3, 4].forEach(seq => store.hint(seq));
    await vi.advanceTimersByTimeAsync(GATHERED);
    expect(store.state.get().seq).toBe(4);
    expect(store.state.get().listed).toContain('b');
    expect(remote.asked).toEqual(['events 1', 'job a', 'job b', 'events 3', 'job b', 'events 4']);
  });

  it('does not ask for what it has seen, but does after the stream was closed', async () => {
    const remote = server([], { a: 9 });
    const store = createStore(remote.client);
    await store.load();
    remote.asked.length = 0;
    store.hint(9);
    await vi.advanceTimersByTimeAsync(GATHERED);
    expect(remote.asked).toEqual([]);
    store.hint(0);
    await vi.advanceTimersByTimeAsync(GATHERED);
    expect(remote.asked).toEqual(['events 9']);
  });

  it('fetches runs only of what is looked at', async () => {
    const remote = server([], { a: 1 });
    const store = createStore(remote.client);
    await store.load();
    const close = store.watchJob('a');
    await vi.advanceTimersByTimeAsync(0);
    remote.asked.length = 0;
    remote.history.push(event(2, 'run.state', 'a', 'a-1'));
    store.hint(2);
    await vi.advanceTimersByTimeAsync(GATHERED);
    expect(remote.asked).toContain('run a-1');
    expect(store.state.get().runs.get('a-1')?.state).toBe('complete');
    close();
    remote.asked.length = 0;
    remote.history.push(event(3, 'run.state', 'a', 'a-2'));
    store.hint(3);
    await vi.advanceTimersByTimeAsync(GATHERED);
    expect(remote.asked.some(question => question.startsWith('run'))).toBe(false);
  });

  it('drops a job that is gone when it is fetched', async () => {
    const remote = server([], { a: 1 });
    const store = createStore(remote.client);
    await store.load();
    delete remote.seqs['a'];
    remote.history.push(event(2, 'run.state', 'a', 'a-1'));
    store.hint(2);
    await vi.advanceTimersByTimeAsync(GATHERED);
    expect(store.state.get().listed).toEqual([]);
    expect(store.state.get().gone.has('a')).toBe(true);
  });

  it.each([
    [404, 'not_ours', 'missing'],
    [0, 'no_answer', 'missing'],
    [503, 'unavailable', 'broken']
  ])('tells a server of status %i and code %s as %s', async (status, code, shown) => {
    const remote = server([], {});
    const error = new ApiError(status, { code, message: 'no', mend: 'do', detail: {} });
    const store = createStore({ ...remote.client, health: () => Promise.reject(error) });
    await store.load();
    expect(store.state.get()).toMatchObject({ server: shown, serverError: { mend: 'do' } });
  });

  it('asks what happened while the first page came', async () => {
    const remote = server([event(2, 'job.created', 'b')], { a: 1 });
    const store = createStore(remote.client);
    const loading = store.load();
    store.hint(0);
    await loading;
    await vi.advanceTimersByTimeAsync(GATHERED);
    expect(remote.asked.slice(0, 2)).toEqual(['jobs', 'events 1']);
  });

  it('tries again to catch up when the server was not ready', async () => {
    const remote = server([], { a: 1 });
    const { events } = remote.client;
    let failures = 2;
    const error = new ApiError(503, { code: 'unavailable', message: 'starting', mend: '', detail: {} });
    const store = createStore({ ...remote.client, events: after => (failures-- > 0 ? Promise.reject(error) : events(after)) });
    await store.load();
    remote.history.push(event(2, 'run.state', 'a', 'a-1'));
    store.hint(2);
    await vi.advanceTimersByTimeAsync(GATHERED);
    expect(store.state.get().serverError).not.toBeNull();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(store.state.get()).toMatchObject({ seq: 2, serverError: null });
  });

  it('comes back by itself when the stream opens again', async () => {
    const remote = server([], { a: 1 });
    const { health } = remote.client;
    const error = new ApiError(0, { code: 'no_answer', message: 'no', mend: '', detail: {} });
    let isUp = false;
    const store = createStore({ ...remote.client, health: () => (isUp ? health() : Promise.reject(error)) });
    await store.load();
    expect(store.state.get().server).toBe('missing');
    isUp = true;
    store.hint(0);
    await vi.advanceTimersByTimeAsync(GATHERED);
    expect(store.state.get()).toMatchObject({ server: 'ready', listed: ['a'] });
  });
});
