import { Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import React from 'react';

import type { Job, Run, RunFile } from '../../api/schema';
import { ApiError, encodePath } from '../../api/client';
import { useShared } from '../../components/context';
import { download, errorBody, useFetched } from '../../components/hooks';
import { ErrorNote } from '../../components/notes';
import type { Column } from '../../components/table';
import { Table } from '../../components/table';
import { baseName, formatBytes } from '../../model/format';
import { isFinal } from '../../model/states';
import { Skeleton } from '../jobs/states';

/** The files that a run made or changed, to download or to take over into the project. */
export function FilesTab({ run, job }: { run: Run; job: Job }): React.JSX.Element {
  const { store, trans } = useShared();
  const { client } = store;
  const { value, error } = useFetched(`${run.id} ${run.state} ${run.attempt}`, () => client.files(run.id));
  const report = (reason: unknown) => {
    const { message, mend } = errorBody(reason);
    Notification.error(`${message} ${mend}`.trim(), { autoClose: 8000 });
  };

  const copy = async (paths: string[], overwrite: boolean): Promise<void> => {
    try {
      const { copied } = await client.copyFiles(run.id, { paths, overwrite });
      Notification.success(trans._n('%1 file copied to %2', '%1 files copied to %2', copied.length, job.project), {
        autoClose: 5000
      });
    } catch (reason) {
      if (!(reason instanceof ApiError && reason.body.code === 'file_exists' && !overwrite)) {
        report(reason);
        return;
      }
      const existing = reason.body.detail['paths'];
      const result = await showDialog({
        title: trans.__('Overwrite?'),
        body: (
          <div>
            {trans.__('These are there already and would be replaced:')}
            <ul>
              {Array.isArray(existing) &&
                existing.slice(0, 12).map(path => typeof path === 'string' && <li key={path}>{path}</li>)}
            </ul>
          </div>
        ),
        defaultButton: 0,
        buttons: [Dialog.cancelButton({ label: trans.__('Keep') }), Dialog.warnButton({ label: trans.__('Overwrite') })]
      });
      if (result.button.accept) {
        await copy(paths, true);
      }
    }
  };

  if (error) {
    return <ErrorNote error={error} />;
  }
  if (!value) {
    return <Skeleton />;
  }
  const kinds: Record<RunFile['kind'], string> = {
    created: trans.__('created'),
    changed: trans.__('changed'),
    deleted: trans.__('deleted')
  };
  const columns: Column<RunFile>[] = [
    {
      id: 'path',
      title: trans.__('File'),
      isWide: true,
      className: 'jobs-mod-code',
      cell: file => file.path,
      value: file => file.path
    },
    { id: 'kind', title: trans.__('What'), cell: file => kinds[file.kind], value: file => file.kind },
    {
      id: 'bytes',
      title: trans.__('Size'),
      isNumber: true,
      cell: file => (file.kind === 'deleted' ? '' : formatBytes(file.bytes)),
      value: file => file.bytes
    },
    {
      id: 'actions',
      title: '',
      cell: file =>
        file.kind !== 'deleted' && (
          <span className="jobs-Actions">
            <button
              type="button"
              className="jobs-Link"
              aria-label={trans.__('Download %1', file.path)}
              onClick={() =>
                void download(client, `runs/${run.id}/files/${encodePath(file.path)}`, baseName(file.path)).catch(report)
              }
            >
              {trans.__('Download')}
            </button>
            <button
              type="button"
              className="jobs-Link"
              aria-label={trans.__('Copy %1 to the project', file.path)}
              onClick={() => void copy([file.path], false)}
            >
              {trans.__('Copy to project')}
            </button>
          </span>
        )
    }
  ];
  const kept = value.files.filter(file => file.kind !== 'deleted').map(file => file.path);
  return (
    <>
      {kept.length > 1 && (
        <div className="jobs-Bar">
          <span className="jobs-Quiet">{trans.__('The run’s own copy; your project has none of this.')}</span>
          <span className="jobs-Spacer" />
          <button type="button" className="jobs-Button" onClick={() => void copy(kept, false)}>
            {trans.__('Copy all to project')}
          </button>
        </div>
      )}
      <Table
        label={trans.__('Files of run %1', run.number)}
        columns={columns}
        rows={value.files}
        keyOf={file => file.path}
        empty={
          isFinal(run.state) ? trans.__('The run made and changed no files.') : trans.__('Files are listed when the run ends.')
        }
      />
    </>
  );
}
