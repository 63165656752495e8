import type { TranslationBundle } from '@jupyterlab/translation';

/** What a run or a job may be shown as: the states of `lifecycle.py` and the two that are derived. */
export const SHOWN_STATES = [
  'created',
  'scheduled',
  'queued',
  'init',
  'running',
  'canceling',
  'complete',
  'failed',
  'canceled'
] as const;

export type ShownState = (typeof SHOWN_STATES)[number];

const LETTERS: Record<string, ShownState> = {
  n: 'created',
  q: 'queued',
  i: 'init',
  r: 'running',
  c: 'complete',
  f: 'failed',
  x: 'canceled'
};

const FINAL: ReadonlySet<string> = new Set(['complete', 'failed', 'canceled']);

/** Whether nothing more happens in this state. */
export function isFinal(state: string): boolean {
  return FINAL.has(state);
}

/** The state that one letter of `Job.strip` stands for. */
export function stateOfLetter(letter: string): ShownState {
  return LETTERS[letter] ?? 'created';
}

/** A state as we know it; one that a newer server invented is shown as `created`. */
export function shownState(state: string | null): ShownState {
  return SHOWN_STATES.find(known => known === state) ?? 'created';
}

/** The one word for a state, everywhere. */
export function stateWord(state: ShownState, trans: TranslationBundle): string {
  const words: Record<ShownState, string> = {
    created: trans.__('created'),
    scheduled: trans.__('scheduled'),
    queued: trans.__('queued'),
    init: trans.__('starting'),
    running: trans.__('running'),
    canceling: trans.__('canceling'),
    complete: trans.__('complete'),
    failed: trans.__('failed'),
    canceled: trans.__('canceled')
  };
  return words[state];
}

/** How many runs of a job have ended, and how many of them failed. */
export function endedOf(counts: { [state: string]: number }): { ended: number; failed: number } {
  const failed = counts['failed'] ?? 0;
  return { ended: failed + (counts['complete'] ?? 0) + (counts['canceled'] ?? 0), failed };
}
