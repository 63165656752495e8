import React from 'react';

import { shownState, stateWord } from '../model/states';
import { useTrans } from './context';
import { stateIcon } from './icons';

/** Icon and word of a state; `quiet` leaves the word to the icon's label. */
export function StateChip({ state, quiet = false }: { state: string | null; quiet?: boolean }): React.JSX.Element {
  const trans = useTrans();
  const shown = shownState(state);
  const Icon = stateIcon(shown);
  const word = stateWord(shown, trans);
  return (
    <span className={`jobs-State jobs-mod-${shown}`} {...(quiet ? { title: word, role: 'img', 'aria-label': word } : {})}>
      <Icon.react tag="span" className="jobs-State-icon" aria-hidden="true" />
      {!quiet && <span className="jobs-State-word">{word}</span>}
    </span>
  );
}

/** Cells done of all, as a thin bar and in figures. */
export function ProgressBar({ done, total, label }: { done: number; total: number; label: string }): React.JSX.Element {
  const percent = total > 0 ? Math.round((done / total) * 100) : 0;
  return (
    <span
      className="jobs-Progress"
      role="progressbar"
      aria-valuemin={0}
      aria-valuemax={total}
      aria-valuenow={done}
      aria-label={label}
    >
      <span className="jobs-Progress-track">
        <span className="jobs-Progress-bar" style={{ width: `${percent}%` }} />
      </span>
      <span className="jobs-Progress-figures">
        {done}/{total}
      </span>
    </span>
  );
}
