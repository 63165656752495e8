import React, { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'react';

import { followLog } from '../api/logstream';
import type { ErrorBody, RunLine } from '../api/schema';
import { appendPieces, EMPTY_LOG } from '../model/log';
import { useShared, useVisible } from './context';
import { download, errorBody } from './hooks';
import { ErrorNote } from './notes';
import { useRowWindow } from './window';

const ROW_HEIGHT = 17;

interface LogProps {
  /** `runs/<id>/logs` or `jobs/<id>/logs`. */
  path: string;
  fileName: string;
  /** Show whose each line is. */
  withRuns: boolean;
}

/** A log as it comes, followed only while it is in view; searchable, downloadable. */
export function Log({ path, fileName, withRuns }: LogProps): React.JSX.Element {
  const { store, trans } = useShared();
  const isVisible = useVisible();
  const [log, setLog] = useState(EMPTY_LOG);
  const [isEnded, setEnded] = useState(false);
  const [error, setError] = useState<ErrorBody | null>(null);
  const [search, setSearch] = useState('');
  const [follows, setFollows] = useState(true);
  const programmatic = useRef(false);

  useEffect(() => {
    if (!isVisible) {
      return;
    }
    const abort = new AbortController();
    let waiting: RunLine[] = [];
    let frame = 0;
    const flush = () => {
      frame = 0;
      const pieces = waiting;
      waiting = [];
      setLog(before => appendPieces(before, pieces));
    };
    const onPieces = (pieces: RunLine[]) => {
      waiting.push(...pieces);
      frame ||= requestAnimationFrame(flush);
    };
    followLog(store.client, path, onPieces, abort.signal).then(
      () => setEnded(!abort.signal.aborted),
      (reason: unknown) => setError(errorBody(reason))
    );
    return () => {
      abort.abort();
      cancelAnimationFrame(frame);
      setLog(EMPTY_LOG);
      setEnded(false);
    };
  }, [store, path, isVisible]);

  const rows = useMemo(() => {
    const wanted = search.toLowerCase();
    return wanted ? log.rows.filter(row => row.text.toLowerCase().includes(wanted)) : log.rows;
  }, [log, search]);
  const [scroller, window] = useRowWindow(rows.length, ROW_HEIGHT);

  useLayoutEffect(() => {
    const element = scroller.current;
    if (element && follows) {
      programmatic.current = true;
      element.scrollTo({ top: element.scrollHeight });
    }
  }, [rows, follows, scroller]);

  const onScroll = () => {
    window.onScroll();
    const element = scroller.current;
    if (element && !programmatic.current) {
      setFollows(element.scrollTop + element.clientHeight >= element.scrollHeight - 2);
    }
    programmatic.current = false;
  };

  return (
    <div className="jobs-Log">
      <div className="jobs-Bar">
        <input
          type="search"
          className="jobs-Input"
          placeholder={trans.__('Search the log')}
          aria-label={trans.__('Search the log')}
          value={search}
          onChange={event => setSearch(event.target.value)}
        />
        {search && <span className="jobs-Quiet">{trans._n('%1 line', '%1 lines', rows.length)}</span>}
        <label className="jobs-Check">
          <input type="checkbox" checked={follows} onChange={event => setFollows(event.target.checked)} />
          {trans.__('Follow')}
        </label>
        <span className="jobs-Spacer" />
        <span className="jobs-Quiet" role="status">
          {isEnded ? trans.__('ended') : trans.__('live')}
        </span>
        <button
          type="button"
          className="jobs-Button"
          onClick={() =>
            void download(store.client, path, fileName, { follow: false, download: true }).catch((reason: unknown) =>
              setError(errorBody(reason))
            )
          }
        >
          {trans.__('Download')}
        </button>
      </div>
      {error && <ErrorNote error={error} />}
      {log.dropped > 0 && (
        <div className="jobs-Quiet">{trans.__('The first %1 lines are only in the download.', log.dropped)}</div>
      )}
      <div
        className="jobs-Log-scroll"
        ref={scroller}
        onScroll={onScroll}
        tabIndex={0}
        role="log"
        aria-label={trans.__('Log')}
        aria-live="off"
      >
        {rows.length === 0 && (
          <div className="jobs-Empty">
            {search
              ? trans.__('No line has this text.')
              : isEnded
                ? trans.__('Nothing was printed.')
                : trans.__('Nothing was printed yet.')}
          </div>
        )}
        <div style={{ height: window.before }} />
        {rows.slice(window.start, window.end).map(row => (
          <div key={row.key} className={`jobs-Log-row jobs-mod-${row.stream}`} style={{ height: ROW_HEIGHT }}>
            {withRuns && <span className="jobs-Log-run">{row.run.slice(row.run.lastIndexOf('-') + 1)}</span>}
            <span className="jobs-Log-cell" title={row.cell > 0 ? trans.__('cell %1', row.cell) : undefined}>
              {row.cell > 0 ? `[${row.cell}]` : ''}
            </span>
            <span className="jobs-Log-text">{row.text}</span>
          </div>
        ))}
        <div style={{ height: window.after }} />
      </div>
    </div>
  );
}
