import React, { useRef } from 'react';

import type { Job } from '../api/schema';
import { stateOfLetter, stateWord, SHOWN_STATES } from '../model/states';
import { useShared } from './context';

interface StripProps {
  job: Job;
  /** Squares beyond this are summed up in one figure. */
  most: number;
  /** Titles of the squares, by run number; the state alone where there is none. */
  labels?: ReadonlyMap<number, string>;
  current?: number;
}

/**
 * The runs of a job as small squares in grid order; each is a link to its run. One stop for the Tab key, arrows move within.
 */
export function Strip({ job, most, labels, current }: StripProps): React.JSX.Element {
  const { trans, go } = useShared();
  const element = useRef<HTMLSpanElement>(null);
  if (job.strip === '') {
    return <CountBar job={job} />;
  }
  const letters = Array.from(job.strip).slice(0, most);
  const move = (event: React.KeyboardEvent, index: number) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1 }[event.key];
    const target = event.key === 'Home' ? 0 : event.key === 'End' ? letters.length - 1 : step === undefined ? null : index + step;
    if (target !== null) {
      event.preventDefault();
      element.current?.querySelectorAll('button')[target]?.focus();
    }
  };
  return (
    <span className="jobs-Strip" ref={element} role="group" aria-label={trans.__('Runs of %1', job.name)}>
      {letters.map((letter, index) => {
        const number = index + 1;
        const state = stateOfLetter(letter);
        const label = labels?.get(number);
        const title = trans.__('Run %1: %2', number, stateWord(state, trans)) + (label ? ` · ${label}` : '');
        return (
          <button
            key={number}
            type="button"
            className={`jobs-Square jobs-mod-${state}${number === current ? ' jobs-mod-current' : ''}`}
            title={title}
            aria-label={title}
            tabIndex={index === (current === undefined ? 0 : current - 1) ? 0 : -1}
            onKeyDown={event => move(event, index)}
            onClick={event => {
              event.stopPropagation();
              go.openRun(`${job.id}-${number}`);
            }}
          />
        );
      })}
      {job.strip.length > most && <span className="jobs-Strip-rest">+{job.strip.length - most}</span>}
    </span>
  );
}

/** Above a thousand runs: one bar in proportion. */
function CountBar({ job }: { job: Job }): React.JSX.Element {
  const { trans } = useShared();
  const parts = SHOWN_STATES.filter(state => (job.counts[state] ?? 0) > 0);
  return (
    <span
      className="jobs-CountBar"
      role="img"
      aria-label={parts.map(state => `${stateWord(state, trans)} ${job.counts[state] ?? 0}`).join(', ')}
    >
      {parts.map(state => (
        <span
          key={state}
          className={`jobs-CountBar-part jobs-mod-${state}`}
          style={{ flexGrow: job.counts[state] ?? 0 }}
          title={`${stateWord(state, trans)} ${job.counts[state] ?? 0}`}
        />
      ))}
    </span>
  );
}
