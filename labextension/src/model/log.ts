import type { RunLine } from '../api/schema';

/** A line as shown. `open` while more of it may come. */
export interface LogRow {
  key: number;
  run: string;
  cell: number;
  stream: RunLine['stream'];
  text: string;
  open: '' | '\r' | null;
}

export interface LogRows {
  rows: readonly LogRow[];
  /** Lines that were dropped at the top. */
  dropped: number;
}

export const EMPTY_LOG: LogRows = { rows: [], dropped: 0 };

/** Lines kept in the page; the whole log can be downloaded. */
const MOST_ROWS = 20_000;

// Colours and cursor movements of terminals: shown they would be noise.
// eslint-disable-next-line no-control-regex
const ESCAPES = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007]*\u0007|[@-Z\\-_])/g;

/**
 * Add pieces of a log. A piece continues the last line of its run and stream when that one is open, and replaces it after a carriage
 * return, so that a progress bar stays one line.
 */
export function appendPieces(log: LogRows, pieces: readonly RunLine[]): LogRows {
  const rows = [...log.rows];
  const open = new Map<string, number>();
  rows.forEach((row, index) => {
    if (row.open !== null) {
      open.set(`${row.run} ${row.stream}`, index);
    }
  });
  let key = (rows.at(-1)?.key ?? -1) + 1;
  for (const piece of pieces) {
    const text = piece.line.replace(ESCAPES, '');
    const place = `${piece.run} ${piece.stream}`;
    const index = open.get(place);
    const last = index === undefined ? undefined : rows[index];
    const end = piece.end === '' || piece.end === '\r' ? piece.end : null;
    if (last !== undefined && index !== undefined) {
      // "\r" followed by a bare newline ends the line instead of emptying it
      const kept = last.open === '\r' && !(text === '' && end === null) ? '' : last.text;
      rows[index] = { ...last, text: kept + text, open: end };
    } else {
      rows.push({ key, run: piece.run, cell: piece.cell, stream: piece.stream, text, open: end });
      key += 1;
    }
    if (end === null) {
      open.delete(place);
    } else if (index === undefined) {
      open.set(place, rows.length - 1);
    }
  }
  const surplus = Math.max(0, rows.length - MOST_ROWS);
  return { rows: surplus > 0 ? rows.slice(surplus) : rows, dropped: log.dropped + surplus };
}
