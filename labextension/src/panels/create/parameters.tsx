import React from 'react';

import type { CellCandidate, Parameter } from '../../api/schema';
import { useTrans } from '../../components/context';
import { ErrorNote, Findings } from '../../components/notes';
import { baseName } from '../../model/format';
import { EMPTY_GRID, readGrid, setText } from '../../model/grid';
import type { Notebooks } from './notebook';
import type { Form } from './useform';
import { Values } from './values';

/** Fields of findings that belong beside the parameters. */
const FIELDS = new Set(['parameters', 'grid_text', 'grid_path']);

/** The parameters with their values, or what stands in their place. */
export function Parameters({ form, notebooks }: { form: Form; notebooks: Notebooks }): React.JSX.Element | null {
  const trans = useTrans();
  const { inspection, draft, errors, update } = form;
  if (!inspection || !draft) {
    return null;
  }
  const { grid } = draft;
  const declared = new Set(inspection.parameters.map(parameter => parameter.name));
  const others: Parameter[] = [...grid.values.keys()]
    .filter(name => !declared.has(name))
    .map(name => ({ name, type: '', default: '', is_json: false, help: '' }));
  const rows = [...inspection.parameters, ...others];
  const findings = inspection.findings.filter(finding => FIELDS.has(finding.field) || declared.has(finding.field));
  const own = (name: string) =>
    findings.filter(
      finding => finding.field === name || (finding.field === 'parameters' && new RegExp(`\\b${name}\\b`).test(finding.message))
    );
  const placed = new Set(rows.flatMap(row => own(row.name)));
  const chooseGrid = async () => {
    const chosen = await notebooks.chooseGrid(draft.path);
    if (chosen) {
      update({ grid: readGrid(chosen.text), gridPath: chosen.path });
    }
  };
  const gridError = errors.get('grid_text') ?? errors.get('grid_path') ?? errors.get('parameters');
  const hasGrid = grid.values.size > 0 || grid.broken !== null;
  return (
    <fieldset className="jobs-Section">
      <legend>
        {trans.__('Parameters')}
        <span className="jobs-Quiet">
          {draft.gridPath && hasGrid ? trans.__('from %1', baseName(draft.gridPath)) : ''}
          {draft.gridPath && hasGrid && grid.original === null ? ` ${trans.__('(changed here)')}` : ''}
        </span>
        <span className="jobs-Spacer" />
        <button type="button" className="jobs-Link" onClick={() => void chooseGrid()}>
          {trans.__('other file…')}
        </button>
        {hasGrid && (
          <button type="button" className="jobs-Link" onClick={() => update({ grid: EMPTY_GRID, gridPath: '' })}>
            {trans.__('defaults only')}
          </button>
        )}
        {inspection.grid && grid.original !== inspection.grid.text && (
          <button
            type="button"
            className="jobs-Link"
            onClick={() => inspection.grid && update({ grid: readGrid(inspection.grid.text), gridPath: inspection.grid.path })}
          >
            {trans.__('back to %1', baseName(inspection.grid.path))}
          </button>
        )}
      </legend>
      {grid.broken !== null && (
        <textarea
          className="jobs-Input jobs-mod-code"
          spellCheck={false}
          rows={10}
          aria-label={trans.__('The parameters file')}
          value={grid.broken}
          onChange={event => update({ grid: setText(event.target.value) })}
        />
      )}
      {gridError && <ErrorNote error={gridError} />}
      {rows.length === 0 && grid.broken === null && <NoParameters form={form} />}
      {rows.length > 0 && grid.broken === null && (
        <table className="jobs-Parameters">
          <tbody>
            {rows.map(parameter => {
              const error = errors.get(`grid:${parameter.name}`);
              return (
                <React.Fragment key={parameter.name}>
                  <tr>
                    <th scope="row" title={parameter.help || undefined}>
                      {parameter.name}
                    </th>
                    <td className="jobs-Parameters-type">
                      {declared.has(parameter.name) ? parameter.type : trans.__('not in the notebook')}
                    </td>
                    <td className="jobs-Parameters-default" title={trans.__('Default: %1', parameter.default)}>
                      {grid.values.has(parameter.name) ? parameter.default : ''}
                    </td>
                    <Values parameter={parameter} grid={grid} onChange={next => update({ grid: next })} />
                  </tr>
                  {(error !== undefined || own(parameter.name).length > 0) && (
                    <tr>
                      <td colSpan={5}>
                        {error && <ErrorNote error={error} />}
                        <Findings findings={own(parameter.name)} />
                      </td>
                    </tr>
                  )}
                </React.Fragment>
              );
            })}
          </tbody>
        </table>
      )}
      <Findings findings={findings.filter(finding => !placed.has(finding))} />
    </fieldset>
  );
}

/** A notebook without a `parameters` cell: it simply runs, and a cell that could be one is offered. */
function NoParameters({ form }: { form: Form }): React.JSX.Element {
  const trans = useTrans();
  const { inspection, isBusy, tag } = form;
  const [isOpen, setOpen] = React.useState(false);
  const candidates = inspection?.candidates ?? [];
  return (
    <div className="jobs-NoParameters">
      <span className="jobs-Quiet">
        {inspection?.has_parameters_cell
          ? trans.__('The cell tagged “parameters” assigns nothing.')
          : trans.__('None: the notebook runs once, as it is.')}
      </span>
      {candidates.length > 0 && (
        <button type="button" className="jobs-Link" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
          {trans.__('make some…')}
        </button>
      )}
      {isOpen &&
        candidates.map(candidate => (
          <Candidate key={candidate.cell.number} candidate={candidate} isBusy={isBusy} onTag={() => tag(candidate)} />
        ))}
    </div>
  );
}

function Candidate({
  candidate,
  isBusy,
  onTag
}: {
  candidate: CellCandidate;
  isBusy: boolean;
  onTag(): void;
}): React.JSX.Element {
  const trans = useTrans();
  return (
    <div className="jobs-Candidate">
      <div>
        <span className="jobs-Quiet">{trans.__('cell %1', candidate.cell.number)}</span>{' '}
        {candidate.parameters.map(parameter => (
          <code key={parameter.name} className="jobs-Chip">
            {parameter.name} = {parameter.default}
          </code>
        ))}
      </div>
      <button
        type="button"
        className="jobs-Button"
        disabled={isBusy}
        title={trans.__('Adds the tag “parameters” to the cell and saves the notebook')}
        onClick={onTag}
      >
        {trans.__('Tag this cell')}
      </button>
    </div>
  );
}
