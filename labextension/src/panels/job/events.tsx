import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import type { Event, EventList } from '../../api/schema';
import { useTrans } from '../../components/context';
import { StateChip } from '../../components/state';
import type { Column } from '../../components/table';
import { Table } from '../../components/table';
import { formatTime, formatValue } from '../../model/format';
import { Skeleton } from '../jobs/states';

/** All events there are, page by page. */
export async function readEvents(readPage: (after: number) => Promise<EventList>): Promise<Event[]> {
  const events: Event[] = [];
  for (;;) {
    const page = await readPage(events.at(-1)?.seq ?? 0);
    events.push(...page.events);
    if (page.events.length === 0) {
      return events;
    }
  }
}

/** What an event is about, in words; a kind that we do not know as it is. */
function what(event: Event, trans: TranslationBundle): string {
  const words: Record<string, string> = {
    'job.created': trans.__('job made'),
    'job.cancel': trans.__('cancel asked'),
    'job.changed': trans.__('job changed'),
    'job.runs': trans.__('runs added'),
    'run.created': trans.__('run added'),
    'run.extended': trans.__('may take longer'),
    'run.moved': trans.__('moved in the queue'),
    'run.waiting': trans.__('waits'),
    'run.cancel': trans.__('cancel asked'),
    'run.state': event.run ? trans.__('run') : '',
    'run.progress': trans.__('progress'),
    'run.records': trans.__('recorded')
  };
  return words[event.kind] ?? event.kind;
}

/** The facts of an event; that this is the first attempt is no news. */
function details(event: Event): string {
  return Object.entries(event.data)
    .filter(([name, value]) => !(name === 'attempt' && value === 1))
    .map(([name, value]) => (Array.isArray(value) ? value.map(formatValue).join(', ') : `${name} ${formatValue(value)}`))
    .join(' · ');
}

/** What happened, in order. */
export function EventTable({ events, withRuns }: { events: readonly Event[] | null; withRuns: boolean }): React.JSX.Element {
  const trans = useTrans();
  if (!events) {
    return <Skeleton />;
  }
  const columns: Column<Event>[] = [
    { id: 'at', title: trans.__('When'), cell: event => formatTime(event.at, true), value: event => event.seq },
    { id: 'kind', title: trans.__('What'), cell: event => what(event, trans), value: event => event.kind },
    {
      id: 'state',
      title: trans.__('State'),
      cell: event => (event.state ? <StateChip state={event.state} /> : ''),
      value: event => event.state
    },
    {
      id: 'data',
      title: trans.__('Details'),
      isWide: true,
      cell: details
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
  return (
    <Table
      label={trans.__('Events')}
      columns={columns}
      rows={events}
      keyOf={event => String(event.seq)}
      empty={trans.__('Nothing happened yet.')}
    />
  );
}
