import React, { useState } from 'react';

import { useTrans } from '../../components/context';
import { ErrorNote, Fold } from '../../components/notes';
import type { FormDraft } from '../../model/form';
import type { Form } from './useform';

interface FieldProps {
  form: Form;
  label: string;
  help: string;
  value: string;
  /** The field's name in `CreateJob`. */
  field: string;
  onChange(value: string): void;
}

/** A line with a text field, what it is for, and what the server says about it. */
export function TextField({ form, label, help, value, field, onChange }: FieldProps): React.JSX.Element {
  const error = form.errors.get(field);
  return (
    <>
      <label className="jobs-FormRow">
        <span className="jobs-Label">{label}</span>
        <input
          className="jobs-Input jobs-mod-field"
          value={value}
          spellCheck={false}
          aria-invalid={error !== undefined}
          onChange={event => onChange(event.target.value)}
        />
        <span className="jobs-Quiet">{help}</span>
      </label>
      {error && <ErrorNote error={error} />}
    </>
  );
}

/** `data/ (writable), /mnt/x` as paths. */
function readLive(text: string): FormDraft['live'] {
  return text
    .split(',')
    .map(part => part.trim())
    .filter(part => part !== '')
    .map(part => ({ path: part.replace(/\s*\(writable\)$/, ''), writable: part.endsWith('(writable)') }));
}

function writeLive(live: FormDraft['live']): string {
  return live.map(({ path, writable }) => (writable ? `${path} (writable)` : path)).join(', ');
}

/** The values that make a sweep comparable: shown at once where there are parameters. */
export function RecordField({ form }: { form: Form }): React.JSX.Element | null {
  const trans = useTrans();
  const { draft, update } = form;
  return (
    draft && (
      <TextField
        form={form}
        field="record"
        label={trans.__('Record')}
        help={trans.__('variables to keep as results, such as: auc, loss')}
        value={draft.record}
        onChange={record => update({ record })}
      />
    )
  );
}

/** What most jobs do without. */
export function More({ form, hasSweep }: { form: Form; hasSweep: boolean }): React.JSX.Element | null {
  const trans = useTrans();
  const { draft, update, errors } = form;
  const inner = [
    ...(hasSweep ? [] : ['record']),
    'output_dir',
    'time_limit',
    'cell_timeout',
    'live',
    'accept_drift',
    'description'
  ];
  const [isOpen, setOpen] = useState(false);
  const [live, setLive] = useState<string | null>(null);
  if (!draft) {
    return null;
  }
  return (
    <div className="jobs-Section">
      <div className="jobs-FormRow">
        <Fold
          title={trans.__('More')}
          isOpen={isOpen || inner.some(field => errors.has(field))}
          onToggle={setOpen}
          children={null}
        />
        {!isOpen && (
          <span className="jobs-Quiet">
            {hasSweep
              ? trans.__('time limits · live data · output folder')
              : trans.__('record values · time limits · live data · output folder')}
          </span>
        )}
      </div>
      {(isOpen || inner.some(field => errors.has(field))) && (
        <div className="jobs-More">
          {!hasSweep && <RecordField form={form} />}
          <TextField
            form={form}
            field="time_limit"
            label={trans.__('Time for a run')}
            help={trans.__('such as 10m or 1h 30m; empty: no limit')}
            value={draft.timeLimit}
            onChange={timeLimit => update({ timeLimit })}
          />
          <TextField
            form={form}
            field="cell_timeout"
            label={trans.__('Time for a cell')}
            help={trans.__('such as 90s; empty: no limit')}
            value={draft.cellTimeout}
            onChange={cellTimeout => update({ cellTimeout })}
          />
          <label className="jobs-FormRow">
            <span className="jobs-Label">{trans.__('Live data')}</span>
            <input
              className="jobs-Input jobs-mod-field"
              spellCheck={false}
              value={live ?? writeLive(draft.live)}
              onChange={event => setLive(event.target.value)}
              onBlur={() => {
                if (live !== null) {
                  update({ live: readLive(live) });
                  setLive(null);
                }
              }}
            />
            <span className="jobs-Quiet">{trans.__('paths read in place, with commas; add “(writable)” to write there')}</span>
          </label>
          {errors.get('live') && <ErrorNote error={errors.get('live') ?? { code: '', message: '', mend: '', detail: {} }} />}
          <TextField
            form={form}
            field="output_dir"
            label={trans.__('Output folder')}
            help={trans.__('runs’ files are copied there; empty: they stay with the run')}
            value={draft.outputDir}
            onChange={outputDir => update({ outputDir })}
          />
          <TextField
            form={form}
            field="description"
            label={trans.__('Description')}
            help=""
            value={draft.description}
            onChange={description => update({ description })}
          />
          <label className="jobs-FormRow">
            <span className="jobs-Label" />
            <span className="jobs-Check">
              <input
                type="checkbox"
                checked={draft.acceptDrift}
                onChange={event => update({ acceptDrift: event.target.checked })}
              />
              {trans.__('Run even if the environment was changed since')}
            </span>
          </label>
        </div>
      )}
    </div>
  );
}
