import React from 'react';

import { stringifyJson } from '../../api/json';
import type { Event } from '../../api/schema';
import { useTrans } from '../../components/context';
import { StateChip } from '../../components/state';
import type { Column } from '../../components/table';
import { Table } from '../../components/table';
import { formatTime } from '../../model/format';
import { Skeleton } from '../jobs/states';

/** What happened, in order. */
export function EventTable({ events, withRuns }: { events: readonly Event[] | null; withRuns: boolean }): React.JSX.Element {
  const trans = useTrans();
  if (!events) {
    return <Skeleton />;
  }
  const columns: Column<Event>[] = [
    { id: 'at', title: trans.__('When'), cell: event => formatTime(event.at, true), value: event => event.seq },
    { id: 'kind', title: trans.__('What'), cell: event => event.kind, value: event => event.kind },
    { id: 'state', title: trans.__('State'), cell: event => (event.state ? <StateChip state={event.state} /> : ''), value: event => event.state },
    {
      id: 'data',
      title: trans.__('Details'),
      isWide: true,
      className: 'jobs-mod-code',
      cell: event => (Object.keys(event.data).length > 0 ? stringifyJson(event.data, true) : '')
    }
  ];
  if (withRuns) {
    columns.splice(1, 0, {
      id: 'run',
      title: trans.__('Run'),
      isNumber: true,
      cell: event => event.run.slice(event.run.lastIndexOf('-') + 1),
      value: event => Number(event.run.slice(event.run.lastIndexOf('-') + 1)) || 0
    });
  }
  return <Table label={trans.__('Events')} columns={columns} rows={events} keyOf={event => String(event.seq)} empty={trans.__('Nothing happened yet.')} />;
}
