import React, { useMemo, useState } from 'react';

import type { Json } from '../api/json';
import { compareValues } from '../model/format';
import { useTrans } from './context';
import { useRowWindow } from './window';

/** A column: what it shows and, where it can be sorted, the value to sort by. */
export interface Column<T> {
  id: string;
  title: string;
  cell(row: T): React.ReactNode;
  value?(row: T): Json | undefined;
  isNumber?: boolean;
  /** Takes what is left of the width. */
  isWide?: boolean;
  className?: string;
}

interface TableProps<T> {
  label: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  keyOf(row: T): string;
  onOpen?(row: T): void;
  empty: React.ReactNode;
}

const ROW_HEIGHT = 26;

/** A sortable table that renders only the rows in view. Up, Down, Home, End and Enter work on its rows. */
export function Table<T>({ label, columns, rows, keyOf, onOpen, empty }: TableProps<T>): React.JSX.Element {
  const trans = useTrans();
  const [sort, setSort] = useState<{ id: string; isDown: boolean } | null>(null);
  const [active, setActive] = useState<string | null>(null);
  const sorted = useMemo(() => {
    const column = columns.find(candidate => candidate.id === sort?.id);
    if (!sort || !column?.value) {
      return rows;
    }
    const { value } = column;
    const sign = sort.isDown ? -1 : 1;
    const isNone = (row: T) => value(row) === undefined || value(row) === null;
    return [...rows].sort((left, right) => {
      const order = compareValues(value(left), value(right));
      return isNone(left) || isNone(right) ? order : sign * order;
    });
  }, [columns, rows, sort]);
  const [scroller, window] = useRowWindow(sorted.length, ROW_HEIGHT);
  const activeIndex = Math.max(0, active === null ? 0 : sorted.findIndex(row => keyOf(row) === active));

  const focusRow = (index: number) => {
    const row = sorted[index];
    if (!row) {
      return;
    }
    setActive(keyOf(row));
    window.reveal(index);
    requestAnimationFrame(() => {
      const element = scroller.current?.querySelector(`[data-index="${index}"]`);
      (element as HTMLElement | null)?.focus({ preventScroll: true });
    });
  };

  const onKeyDown = (event: React.KeyboardEvent, index: number) => {
    if (event.target !== event.currentTarget) {
      return;
    }
    const page = 15;
    const targets: Record<string, number> = {
      ArrowDown: index + 1,
      ArrowUp: index - 1,
      PageDown: Math.min(sorted.length - 1, index + page),
      PageUp: Math.max(0, index - page),
      Home: 0,
      End: sorted.length - 1
    };
    const target = targets[event.key];
    const row = sorted[index];
    if (target !== undefined) {
      event.preventDefault();
      focusRow(target);
    } else if (event.key === 'Enter' && row && onOpen) {
      event.preventDefault();
      onOpen(row);
    }
  };

  if (rows.length === 0) {
    return <div className="jobs-Empty">{empty}</div>;
  }
  return (
    <div className="jobs-Table-scroll" ref={scroller} onScroll={window.onScroll}>
      <table className="jobs-Table" role="grid" aria-label={label} aria-rowcount={sorted.length + 1}>
        <thead>
          <tr>
            {columns.map(column => {
              const isSorted = sort?.id === column.id;
              const direction = isSorted ? (sort.isDown ? 'descending' : 'ascending') : 'none';
              return (
                <th
                  key={column.id}
                  scope="col"
                  aria-sort={column.value ? direction : undefined}
                  className={`${column.isNumber ? 'jobs-mod-number' : ''} ${column.isWide ? 'jobs-mod-wide' : ''}`}
                >
                  {column.value ? (
                    <button
                      type="button"
                      className="jobs-Table-sort"
                      title={trans.__('Sort by %1', column.title)}
                      onClick={() =>
                        setSort(before =>
                          before?.id !== column.id
                            ? { id: column.id, isDown: false }
                            : before.isDown
                              ? null
                              : { ...before, isDown: true }
                        )
                      }
                    >
                      {column.title}
                      <span aria-hidden="true" className="jobs-Table-arrow">
                        {isSorted ? (sort.isDown ? '▾' : '▴') : ''}
                      </span>
                    </button>
                  ) : (
                    column.title
                  )}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {window.before > 0 && <tr aria-hidden="true" style={{ height: window.before }} />}
          {sorted.slice(window.start, window.end).map((row, offset) => {
            const index = window.start + offset;
            return (
              <tr
                key={keyOf(row)}
                data-index={index}
                aria-rowindex={index + 2}
                tabIndex={index === activeIndex ? 0 : -1}
                className={onOpen ? 'jobs-mod-link' : ''}
                onFocus={() => setActive(keyOf(row))}
                onKeyDown={event => onKeyDown(event, index)}
                onClick={() => onOpen?.(row)}
              >
                {columns.map(column => (
                  <td key={column.id} className={`${column.isNumber ? 'jobs-mod-number' : ''} ${column.className ?? ''}`}>
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            );
          })}
          {window.after > 0 && <tr aria-hidden="true" style={{ height: window.after }} />}
        </tbody>
      </table>
    </div>
  );
}
