import { describe, expect, it } from 'vitest';

import { NO_JOBS, runsOf, sections, withEvents, withJob, withJobList, withoutJob, withRuns } from '../model/jobs';
import { event, job, run } from './things';

const page = (next = '', total = 2) => ({ next, total });

describe('the list', () => {
  it('starts after the last change of what it shows', () => {
    const state = withJobList(NO_JOBS, { jobs: [job('b', { seq: 7 }), job('a', { seq: 3 })], page: page() }, false);
    expect(state.listed).toEqual(['b', 'a']);
    expect(state.seq).toBe(7);
  });

  it('appends a page without repeating what moved over the edge', () => {
    const first = withJobList(NO_JOBS, { jobs: [job('c'), job('b')], page: page('x') }, false);
    expect(withJobList(first, { jobs: [job('b'), job('a')], page: page() }, true).listed).toEqual(['c', 'b', 'a']);
  });

  it('puts a new job first, but not into a filtered list', () => {
    const state = withJobList(NO_JOBS, { jobs: [job('a')], page: page('', 1) }, false);
    const fresh = job('b', { created_at: '2026-11-22T15:00:00Z' });
    expect(withJob(state, fresh)).toMatchObject({ listed: ['b', 'a'], total: 2 });
    expect(withJob({ ...state, search: 'a' }, fresh).listed).toEqual(['a']);
  });

  it('never replaces a job by an older answer', () => {
    const state = withJob(NO_JOBS, job('a', { seq: 9, name: 'new' }));
    expect(withJob(state, job('a', { seq: 8, name: 'old' })).jobs.get('a')?.name).toBe('new');
  });

  it('forgets a deleted job and its runs', () => {
    const state = withRuns(withJobList(NO_JOBS, { jobs: [job('a')], page: page('', 1) }, false), [run('a', 1)]);
    const after = withoutJob(state, 'a');
    expect(after).toMatchObject({ listed: [], total: 0 });
    expect(after.runs.size).toBe(0);
    expect(after.gone.has('a')).toBe(true);
  });

  it('divides jobs by whether something is still to come', () => {
    const jobs = [job('a', { status: 'queued' }), job('b', { status: 'failed' }), job('c', { status: null })];
    const state = withJobList(NO_JOBS, { jobs, page: page() }, false);
    expect(sections(state).running.map(({ id }) => id)).toEqual(['a']);
    expect(sections(state).recent.map(({ id }) => id)).toEqual(['b', 'c']);
  });

  it('has runs in grid order', () => {
    const state = withRuns(NO_JOBS, [run('a', 10), run('a', 2), run('b', 1)]);
    expect(runsOf(state.runs, 'a').map(({ number }) => number)).toEqual([2, 10]);
  });
});

describe('events', () => {
  it('says what to fetch again, and moves on', () => {
    const { state, stale } = withEvents(NO_JOBS, [event(4, 'run.state', 'a', 'a-1'), event(5, 'job.created', 'b')]);
    expect(state.seq).toBe(5);
    expect([...stale.jobs]).toEqual(['a', 'b']);
    expect([...stale.runs]).toEqual(['a-1']);
  });

  it('ignores what was seen', () => {
    const { stale } = withEvents({ ...NO_JOBS, seq: 5 }, [event(5, 'run.state', 'a', 'a-1')]);
    expect(stale.jobs.size + stale.runs.size).toBe(0);
  });

  it('takes progress from the event itself', () => {
    const before = withRuns(NO_JOBS, [run('a', 1, { seq: 1, state: 'running' })]);
    const data = { done: 3, total: 9, cell: { id: 'x', number: 4 } };
    const { state, stale } = withEvents(before, [event(6, 'run.progress', 'a', 'a-1', data)]);
    expect(state.runs.get('a-1')?.progress).toEqual({ done: 3, total: 9, cell: { id: 'x', number: 4 } });
    expect(stale.jobs.size + stale.runs.size).toBe(0);
  });

  it('never moves an ended run, nor one that is newer than the event', () => {
    const ended = withRuns(NO_JOBS, [run('a', 1, { seq: 1, state: 'complete' }), run('a', 2, { seq: 8, state: 'running' })]);
    const data = { done: 3, total: 9 };
    const { state } = withEvents(ended, [event(6, 'run.progress', 'a', 'a-1', data), event(7, 'run.progress', 'a', 'a-2', data)]);
    expect(state.runs.get('a-1')?.progress.done).toBe(0);
    expect(state.runs.get('a-2')?.progress.done).toBe(0);
  });

  it('asks for no job that was deleted', () => {
    const { stale } = withEvents(NO_JOBS, [event(1, 'run.state', 'a', 'a-1'), event(2, 'job.deleted', 'a')]);
    expect(stale.jobs.has('a')).toBe(false);
    expect([...stale.deleted]).toEqual(['a']);
  });
});
