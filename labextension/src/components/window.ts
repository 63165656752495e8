import type React from 'react';
import { useLayoutEffect, useRef, useState } from 'react';

/** Rows rendered above and below what is seen. */
const MARGIN = 12;

/** Which rows of a long list of equal heights are worth rendering. */
export interface RowWindow {
  start: number;
  end: number;
  /** Heights, in pixels, of what is left out above and below. */
  before: number;
  after: number;
  onScroll(): void;
  /** Bring a row into view. */
  reveal(index: number): void;
}

/** Render a window of `count` rows, each `height` pixels high, of the scrolling element that gets the returned ref. */
export function useRowWindow(count: number, height: number): [React.RefObject<HTMLDivElement>, RowWindow] {
  const ref = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, rows: 60 });
  const measure = () => {
    const element = ref.current;
    if (element) {
      const next = { top: Math.floor(element.scrollTop / height), rows: Math.ceil(element.clientHeight / height) || 60 };
      setSeen(before => (before.top === next.top && before.rows === next.rows ? before : next));
    }
  };
  useLayoutEffect(() => {
    const element = ref.current;
    if (!element || typeof ResizeObserver === 'undefined') {
      return;
    }
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
    // eslint-disable-next-line react-hooks/exhaustive-deps -- measure reads refs and constants only
  }, [height]);
  const start = Math.max(0, Math.min(seen.top, count) - MARGIN);
  const end = Math.min(count, seen.top + seen.rows + MARGIN);
  const rows: RowWindow = {
    start,
    end,
    before: start * height,
    after: Math.max(0, count - end) * height,
    onScroll: measure,
    reveal: index => {
      const element = ref.current;
      if (!element) {
        return;
      }
      const top = index * height;
      if (top < element.scrollTop) {
        element.scrollTop = top;
      } else if (top + 2 * height > element.scrollTop + element.clientHeight) {
        element.scrollTop = top + 2 * height - element.clientHeight;
      }
    }
  };
  return [ref, rows];
}
