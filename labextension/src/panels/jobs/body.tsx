import { refreshIcon } from '@jupyterlab/ui-components';
import React, { useEffect, useRef, useState } from 'react';

import { useConnection, useShared, useTrans } from '../../components/context';
import { useNow } from '../../components/hooks';
import { runAsJobIcon } from '../../components/icons';
import { Fold } from '../../components/notes';
import { sections } from '../../model/jobs';
import { useObservable } from '../../model/observable';
import { SHOWN_STATES, stateWord } from '../../model/states';
import { JobRow } from './row';
import { NoJobs, NoServer, Skeleton } from './states';

const FILTERS = SHOWN_STATES.filter(state => !['created', 'scheduled', 'canceling', 'init'].includes(state));
const SEARCH_DELAY = 250;

/** The list of jobs in the left area. `runCurrent` makes a job of the notebook in front, if there is one. */
export function JobsBody({ runCurrent }: { runCurrent(): void }): React.JSX.Element {
  const { store } = useShared();
  const trans = useTrans();
  useConnection();
  const state = useObservable(store.state);
  const { running, recent } = sections(state);
  const now = useNow(running.length > 0 || recent.length > 0);
  const [open, setOpen] = useState({ running: true, recent: true });

  if (state.server === 'missing' || state.server === 'broken') {
    return <NoServer error={state.serverError} isMissing={state.server === 'missing'} onRetry={() => void store.load()} />;
  }
  const isFiltered = state.search !== '' || state.status !== '';
  const isEmpty = state.server === 'ready' && state.listed.length === 0;
  return (
    <>
      <div className="jobs-Header">
        <span className="jobs-Header-title">{trans.__('Jobs')}</span>
        <span className="jobs-Spacer" />
        <button
          type="button"
          className="jobs-IconButton"
          title={trans.__('Run the notebook in front as a job')}
          aria-label={trans.__('Run the notebook in front as a job')}
          onClick={runCurrent}
        >
          <runAsJobIcon.react tag="span" width="16px" />
        </button>
        <button
          type="button"
          className="jobs-IconButton"
          title={trans.__('Read the list again')}
          aria-label={trans.__('Read the list again')}
          onClick={() => void store.load()}
        >
          <refreshIcon.react tag="span" width="16px" />
        </button>
      </div>
      {(!isEmpty || isFiltered) && <Filter />}
      {state.serverError && (
        <div className="jobs-Quiet jobs-Pad" role="status">
          {trans.__('Not connected: %1', state.serverError.message)}
        </div>
      )}
      {state.server === 'loading' && <Skeleton />}
      {isEmpty &&
        (isFiltered ? <div className="jobs-Empty">{trans.__('No job fits.')}</div> : <NoJobs runCurrent={runCurrent} />)}
      <div className="jobs-List">
        {running.length > 0 && (
          <section>
            <Fold title={trans.__('Running')} isOpen={open.running} onToggle={isOpen => setOpen({ ...open, running: isOpen })}>
              <ul>
                {running.map(job => (
                  <JobRow key={job.id} job={job} now={now} />
                ))}
              </ul>
            </Fold>
          </section>
        )}
        {recent.length > 0 && (
          <section>
            <Fold title={trans.__('Recent')} isOpen={open.recent} onToggle={isOpen => setOpen({ ...open, recent: isOpen })}>
              <ul>
                {recent.map(job => (
                  <JobRow key={job.id} job={job} now={now} />
                ))}
              </ul>
            </Fold>
          </section>
        )}
        {state.next && (
          <button type="button" className="jobs-Button jobs-mod-flat" onClick={() => void store.more()}>
            {trans.__('Show more of %1 jobs', state.total)}
          </button>
        )}
      </div>
      <QueueLine />
    </>
  );
}

function Filter(): React.JSX.Element {
  const { store, trans } = useShared();
  const { search, status } = store.state.get();
  const [text, setText] = useState(search);
  const timer = useRef<ReturnType<typeof setTimeout>>();
  useEffect(() => () => clearTimeout(timer.current), []);
  return (
    <div className="jobs-Bar jobs-Pad">
      <input
        type="search"
        className="jobs-Input jobs-mod-grow"
        placeholder={trans.__('Search jobs')}
        aria-label={trans.__('Search jobs')}
        value={text}
        onChange={event => {
          const value = event.target.value;
          setText(value);
          clearTimeout(timer.current);
          timer.current = setTimeout(() => store.filter(value.trim(), store.state.get().status), SEARCH_DELAY);
        }}
      />
      <select
        className="jobs-Input"
        aria-label={trans.__('Only jobs in this state')}
        value={status}
        onChange={event => store.filter(text.trim(), event.target.value)}
      >
        <option value="">{trans.__('all')}</option>
        {FILTERS.map(option => (
          <option key={option} value={option}>
            {stateWord(option, trans)}
          </option>
        ))}
      </select>
    </div>
  );
}

/** What runs and waits in the whole store. */
function QueueLine(): React.JSX.Element | null {
  const { store, trans } = useShared();
  const { jobs, listed } = useObservable(store.state);
  const sum = (...states: string[]) =>
    listed.reduce((total, id) => total + states.reduce((part, state) => part + (jobs.get(id)?.counts[state] ?? 0), 0), 0);
  const running = sum('running', 'init');
  const waiting = sum('queued', 'created');
  if (running + waiting === 0) {
    return null;
  }
  return (
    <div className="jobs-Footer" role="status">
      {trans.__('Queue: %1 running · %2 waiting', running, waiting)}
    </div>
  );
}
