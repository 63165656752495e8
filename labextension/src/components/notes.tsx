import React from 'react';

import type { ErrorBody, Finding } from '../api/schema';

type Level = 'error' | 'warning' | 'note';

const SIGNS: Record<Level, string> = { error: '✕', warning: '⚠', note: 'ℹ' };

interface NoteProps {
  level: Level;
  message: string;
  mend?: string;
  children?: React.ReactNode;
}

/** One sentence about what is wrong or worth knowing, what to do, and the buttons that do it. */
export function Note({ level, message, mend, children }: NoteProps): React.JSX.Element {
  return (
    <div className={`jobs-Note jobs-mod-${level}`} role={level === 'error' ? 'alert' : 'note'}>
      <span className="jobs-Note-sign" aria-hidden="true">
        {SIGNS[level]}
      </span>
      <span className="jobs-Note-text">
        <span>{message}</span>
        {mend && <span className="jobs-Note-mend"> {mend}</span>}
        {children && <span className="jobs-Note-actions">{children}</span>}
      </span>
    </div>
  );
}

/** An answer of the server that refuses something. */
export function ErrorNote({ error, children }: { error: ErrorBody; children?: React.ReactNode }): React.JSX.Element {
  return (
    <Note level="error" message={error.message} mend={error.mend}>
      {children}
    </Note>
  );
}

/** Findings, gravest first. */
export function Findings({ findings }: { findings: readonly Finding[] }): React.JSX.Element {
  const order: Level[] = ['error', 'warning', 'note'];
  const sorted = [...findings].sort((left, right) => order.indexOf(left.level) - order.indexOf(right.level));
  return (
    <>
      {sorted.map((finding, index) => (
        <Note
          key={`${finding.code} ${finding.path} ${index}`}
          level={finding.level}
          message={finding.message}
          mend={finding.mend}
        />
      ))}
    </>
  );
}

/** A heading that shows and hides what is below it. */
export function Fold({
  title,
  isOpen,
  onToggle,
  children
}: {
  title: React.ReactNode;
  isOpen: boolean;
  onToggle(isOpen: boolean): void;
  children: React.ReactNode;
}): React.JSX.Element {
  return (
    <>
      <button type="button" className="jobs-Fold" aria-expanded={isOpen} onClick={() => onToggle(!isOpen)}>
        {title} <span aria-hidden="true">{isOpen ? '▾' : '▸'}</span>
      </button>
      {isOpen && children}
    </>
  );
}
