import React, { useMemo, useState } from 'react';

import type { Distribution, ManifestEntry } from '../../api/schema';
import { useShared } from '../../components/context';
import { useFetched } from '../../components/hooks';
import { ErrorNote, Findings } from '../../components/notes';
import type { Column } from '../../components/table';
import { Table } from '../../components/table';
import { formatBytes, formatTime, shortDigest } from '../../model/format';
import { Skeleton } from '../jobs/states';

/** What a job froze: the project's files and the environment's packages. */
export function SnapshotTab({ job }: { job: string }): React.JSX.Element {
  const { store, trans } = useShared();
  const { value, error } = useFetched(job, () => store.client.snapshot(job));
  const [search, setSearch] = useState('');
  const wanted = search.toLowerCase();
  const files = useMemo(() => (value?.entries ?? []).filter(entry => entry.path.toLowerCase().includes(wanted)), [value, wanted]);
  const packages = useMemo(
    () => (value?.environment?.distributions ?? []).filter(item => item.name.toLowerCase().includes(wanted)),
    [value, wanted]
  );
  if (error) {
    return <ErrorNote error={error} />;
  }
  if (!value) {
    return <Skeleton />;
  }
  const { snapshot, environment } = value;
  const fileColumns: Column<ManifestEntry>[] = [
    {
      id: 'path',
      title: trans.__('File'),
      isWide: true,
      className: 'jobs-mod-code',
      cell: entry => entry.path + (entry.kind === 'directory' ? '/' : entry.kind === 'link' ? ` → ${entry.target}` : ''),
      value: entry => entry.path
    },
    {
      id: 'size',
      title: trans.__('Size'),
      isNumber: true,
      cell: entry => (entry.kind === 'file' ? formatBytes(entry.size) : ''),
      value: entry => entry.size
    },
    {
      id: 'digest',
      title: trans.__('Digest'),
      className: 'jobs-mod-code',
      cell: entry => <span title={entry.digest}>{shortDigest(entry.digest, 8)}</span>
    }
  ];
  const packageColumns: Column<Distribution>[] = [
    { id: 'name', title: trans.__('Package'), isWide: true, cell: item => item.name, value: item => item.name },
    { id: 'version', title: trans.__('Version'), cell: item => item.version, value: item => item.version },
    {
      id: 'how',
      title: '',
      cell: item =>
        [item.editable ? trans.__('editable') : '', item.frozen ? '' : trans.__('not frozen')].filter(Boolean).join(', ')
    }
  ];
  return (
    <div className="jobs-Snapshot">
      <div className="jobs-Bar">
        <input
          type="search"
          className="jobs-Input"
          placeholder={trans.__('Search files and packages')}
          aria-label={trans.__('Search files and packages')}
          value={search}
          onChange={event => setSearch(event.target.value)}
        />
        <span className="jobs-Quiet">
          {snapshot.directory} · {trans._n('%1 file', '%1 files', snapshot.files)} · {formatBytes(snapshot.bytes)} ·{' '}
          {trans.__('frozen %1', formatTime(snapshot.created_at))}
        </span>
      </div>
      <Findings findings={[...snapshot.notes, ...(environment?.notes ?? [])]} />
      <div className="jobs-Split">
        <section>
          <Table
            label={trans.__('Files')}
            columns={fileColumns}
            rows={files}
            keyOf={entry => entry.path}
            empty={search ? trans.__('No file fits.') : trans.__('No files.')}
          />
        </section>
        <section>
          {environment ? (
            <>
              <div className="jobs-Quiet jobs-Pad" title={environment.digest}>
                {environment.prefix} · {environment.python} · {environment.mode}
              </div>
              <Table
                label={trans.__('Packages')}
                columns={packageColumns}
                rows={packages}
                keyOf={item => `${item.name} ${item.version}`}
                empty={search ? trans.__('No package fits.') : trans.__('No packages.')}
              />
            </>
          ) : (
            <div className="jobs-Empty">{trans.__('The environment was not frozen.')}</div>
          )}
        </section>
      </div>
    </div>
  );
}
