import React, { useEffect, useRef } from 'react';

import { useShared } from '../../components/context';
import { ErrorNote, Findings, Note } from '../../components/notes';
import { baseName } from '../../model/format';
import { NoServer, Skeleton } from '../jobs/states';
import { CombinationTable } from './combinations';
import { More, RecordField } from './more';
import type { Notebooks } from './notebook';
import { Parameters } from './parameters';
import { Project } from './project';
import type { Form } from './useform';
import { useForm } from './useform';

interface CreateProps {
  path: string;
  notebooks: Notebooks;
  /** The notebook was saved to open this form. */
  wasSaved: boolean;
  onCreated(job: string): void;
}

/** Fields that show their own errors; an error of any other one is shown above the button. */
const SHOWN = new Set([
  'name',
  'kernel',
  'project',
  'exclude',
  'include',
  'grid_text',
  'grid_path',
  'parameters',
  'only',
  'record',
  'output_dir',
  'time_limit',
  'cell_timeout',
  'live',
  'accept_drift',
  'description'
]);

/** Findings about these are shown with their section. */
const PLACED = new Set(['parameters', 'grid_text', 'grid_path', 'kernel']);

/** The form that makes a job of a notebook. Enter runs it. */
export function CreateBody({ path, notebooks, wasSaved, onCreated }: CreateProps): React.JSX.Element {
  const { trans, store } = useShared();
  const form = useForm(path, notebooks, wasSaved, onCreated);
  const { inspection, draft, fatal, errors } = form;
  const retry = () => {
    void store.load();
    form.retry();
  };
  if (fatal && !draft) {
    const isMissing = fatal.code === 'not_ours' || fatal.code === 'no_answer';
    return isMissing ? (
      <NoServer error={fatal} isMissing onRetry={retry} />
    ) : (
      <div className="jobs-Form">
        <h2>{trans.__('%1 cannot run as a job', baseName(path))}</h2>
        <ErrorNote error={fatal}>
          <button type="button" className="jobs-Button" onClick={form.retry}>
            {trans.__('Try again')}
          </button>
        </ErrorNote>
      </div>
    );
  }
  if (!draft || !inspection) {
    return <Skeleton />;
  }
  const declared = new Set(inspection.parameters.map(parameter => parameter.name));
  const kernelFindings = inspection.findings.filter(finding => finding.field === 'kernel');
  const others = inspection.findings.filter(finding => !PLACED.has(finding.field) && !declared.has(finding.field));
  const hasSweep = inspection.parameters.length > 0 || draft.grid.values.size > 0;
  const unplaced = [...errors].filter(([field]) => !SHOWN.has(field) && !field.startsWith('grid:'));
  return (
    <form
      className="jobs-Form"
      aria-label={trans.__('Run %1 as a job', path)}
      onSubmit={event => {
        event.preventDefault();
        form.submit();
      }}
    >
      <h2>
        {trans.__('Run %1 as a job', baseName(path))}
        <span className="jobs-Quiet">{path.includes('/') ? path : ''}</span>
      </h2>
      <div className="jobs-Section jobs-FormRow">
        <label className="jobs-FormRow">
          <span className="jobs-Label">{trans.__('Name')}</span>
          <input
            className="jobs-Input jobs-mod-name"
            value={draft.name}
            aria-invalid={errors.has('name')}
            onChange={event => form.update({ name: event.target.value })}
          />
        </label>
        <label className="jobs-FormRow">
          <span className="jobs-Label jobs-mod-auto">{trans.__('Kernel')}</span>
          <select
            className="jobs-Input"
            value={draft.kernel}
            aria-invalid={errors.has('kernel')}
            onChange={event => form.update({ kernel: event.target.value })}
          >
            {!inspection.kernels.some(kernel => kernel.name === draft.kernel) && (
              <option value={draft.kernel}>{draft.kernel}</option>
            )}
            {inspection.kernels.map(kernel => (
              <option key={kernel.name} value={kernel.name}>
                {kernel.display_name}
              </option>
            ))}
          </select>
        </label>
      </div>
      {['name', 'kernel'].map(field => {
        const error = errors.get(field);
        return error && <ErrorNote key={field} error={error} />;
      })}
      <Findings findings={kernelFindings} />
      <Project form={form} />
      <Parameters form={form} notebooks={notebooks} />
      <CombinationTable form={form} />
      {hasSweep && <RecordField form={form} />}
      <More form={form} hasSweep={hasSweep} />
      <Findings findings={others} />
      {unplaced.map(([field, error]) => (
        <ErrorNote key={field} error={error} />
      ))}
      <Submit form={form} path={path} />
    </form>
  );
}

function Submit({ form, path }: { form: Form; path: string }): React.JSX.Element {
  const { trans } = useShared();
  const button = useRef<HTMLButtonElement>(null);
  const isReady = !form.isBlocked && !form.isBusy;
  const wasReady = useRef(false);
  useEffect(() => {
    // one click and Enter: the button takes the focus once, unless the person is already somewhere in the form
    if (isReady && !wasReady.current) {
      wasReady.current = true;
      if (!button.current?.form?.contains(document.activeElement)) {
        button.current?.focus();
      }
    }
  }, [isReady]);
  const name = baseName(path);
  return (
    <div className="jobs-Submit">
      <div className="jobs-Submit-notes">
        {form.isDirty && (
          <Note level="note" message={trans.__('%1 has unsaved changes: it is saved before it is frozen.', name)} />
        )}
        {!form.isDirty && form.wasSaved && (
          <Note level="note" message={trans.__('%1 had unsaved changes and was saved: a job runs what is on disk.', name)} />
        )}
      </div>
      <button ref={button} type="submit" className="jobs-Button jobs-mod-accept jobs-mod-large" disabled={!isReady}>
        {form.isBusy ? trans.__('Freezing…') : form.runs > 1 ? trans.__('Run %1', form.runs) : trans.__('Run')}
      </button>
    </div>
  );
}
