import { Notification } from '@jupyterlab/apputils';
import React, { useEffect, useRef, useSyncExternalStore } from 'react';

import type { Job, Run } from '../../api/schema';
import { encodePath, staysBelow } from '../../api/client';
import { useShared } from '../../components/context';
import { download, errorBody, useFetched } from '../../components/hooks';
import { ErrorNote } from '../../components/notes';
import { baseName } from '../../model/format';
import { Skeleton } from '../jobs/states';

interface PageProps {
  run: Run;
  job: Job;
  /** Id of the cell to show, or empty. */
  cell: string;
  /** Raised to go there again. */
  jump: number;
}

interface Message {
  'jupyter-jobs': unknown;
  path?: unknown;
  url?: unknown;
}

/**
 * The executed notebook in a frame without an origin: its scripts run, but reach neither this page nor the server. What a click on a link
 * would have opened is told by a message, which only this frame's own window may send.
 */
export function Page({ run, job, cell, jump }: PageProps): React.JSX.Element {
  const { store, trans, isLight, onThemeChange } = useShared();
  const light = useSyncExternalStore(onThemeChange, isLight);
  const frame = useRef<HTMLIFrameElement>(null);
  const { client } = store;
  const query = { theme: light ? 'light' : 'dark' };
  // asked for once as well, so that a refusal is shown in words and not as a page in the frame
  const { value: isThere, error } = useFetched(`${run.id} ${run.attempt}`, async () => {
    const response = await client.open(`runs/${run.id}/html`, { query });
    await response.body?.cancel();
    return true;
  });

  useEffect(() => {
    const onMessage = (event: MessageEvent<unknown>) => {
      if (
        event.source === null ||
        event.source !== frame.current?.contentWindow ||
        typeof event.data !== 'object' ||
        event.data === null
      ) {
        return;
      }
      const message = event.data as Message;
      const { path, url } = message;
      if (!navigator.userActivation.isActive) {
        // a script of the notebook and not a click: it may neither fill the disk with downloads nor open windows
        return;
      }
      const failed = (reason: unknown) => {
        const { message: text, mend } = errorBody(reason);
        Notification.warning(`${text} ${mend}`.trim(), { autoClose: 8000 });
      };
      if (message['jupyter-jobs'] === 'open' && typeof path === 'string' && staysBelow(path)) {
        download(client, `runs/${run.id}/files/${encodePath(path)}`, baseName(path)).catch(failed);
      } else if (message['jupyter-jobs'] === 'notebook') {
        download(client, `runs/${run.id}/notebook`, `${run.id}.ipynb`).catch(failed);
      } else if (
        message['jupyter-jobs'] === 'external' &&
        typeof url === 'string' &&
        /^https?:\/\//i.test(url)
      ) {
        window.open(url, '_blank', 'noopener,noreferrer');
      }
    };
    window.addEventListener('message', onMessage);
    return () => window.removeEventListener('message', onMessage);
  }, [client, run.id]);

  if (error) {
    return <ErrorNote error={error} />;
  }
  if (!isThere) {
    return <Skeleton />;
  }
  const anchor = cell ? `#cell=${encodeURIComponent(cell)}` : '';
  return (
    <div className="jp-IFrame jobs-Page">
      <iframe
        key={`${run.attempt} ${jump}`}
        ref={frame}
        sandbox="allow-scripts"
        referrerPolicy="no-referrer"
        title={trans.__('Notebook of run %1 of %2, read-only', run.number, job.name)}
        src={client.url(`runs/${run.id}/html`, query) + anchor}
      />
    </div>
  );
}
