import React, { useEffect, useRef } from 'react';

import type { Combination } from '../../api/schema';
import { useTrans } from '../../components/context';
import { ErrorNote } from '../../components/notes';
import { formatValue } from '../../model/format';
import { combinationKey, toggle } from '../../model/form';
import type { Form } from './useform';

/** Rows rendered; the rest runs unless the grid is made smaller. */
const MOST = 1000;

/** Every combination with a check box; shown once there is more than one. */
export function CombinationTable({ form }: { form: Form }): React.JSX.Element | null {
  const trans = useTrans();
  const { draft, combinations, errors, only, runs, update } = form;
  const answer = combinations.value;
  if (!draft || !answer || (answer.total <= 1 && answer.names.length === 0)) {
    return null;
  }
  const rows = answer.combinations.slice(0, MOST);
  const keys = rows.map(combinationKey);
  const chosen = keys.filter(key => !draft.deselected.has(key)).length;
  const error = errors.get('only');
  return (
    <fieldset className="jobs-Section">
      <legend>
        {trans.__('Runs')}
        <span className="jobs-Quiet" role="status">
          {trans._n('%1 of %2 combinations', '%1 of %2 combinations', runs, answer.total)}
        </span>
      </legend>
      {error && <ErrorNote error={error} />}
      {only === null && answer.total > 0 && <span className="jobs-Quiet">{trans.__('Tick at least one combination.')}</span>}
      <div className="jobs-Combinations">
        <table className="jobs-Table">
          <thead>
            <tr>
              <th scope="col" className="jobs-mod-box">
                <AllBox
                  chosen={chosen}
                  total={rows.length}
                  onChange={isIn => update({ deselected: toggle(draft.deselected, keys, !isIn) })}
                />
              </th>
              <th scope="col" className="jobs-mod-number">
                #
              </th>
              {answer.names.map(name => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
              <th aria-hidden="true" className="jobs-mod-wide" />
            </tr>
          </thead>
          <tbody>
            {rows.map((combination, index) => (
              <Row
                key={combination.number}
                combination={combination}
                names={answer.names}
                isIn={!draft.deselected.has(keys[index] ?? '')}
                onChange={isIn => update({ deselected: toggle(draft.deselected, [keys[index] ?? ''], !isIn) })}
              />
            ))}
          </tbody>
        </table>
      </div>
      {answer.total > rows.length && (
        <span className="jobs-Quiet">
          {trans.__('The first %1 of %2 are listed; the others run too.', rows.length, answer.total)}
        </span>
      )}
    </fieldset>
  );
}

function AllBox({
  chosen,
  total,
  onChange
}: {
  chosen: number;
  total: number;
  onChange(isIn: boolean): void;
}): React.JSX.Element {
  const trans = useTrans();
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (box.current) {
      box.current.indeterminate = chosen > 0 && chosen < total;
    }
  }, [chosen, total]);
  return (
    <input
      ref={box}
      type="checkbox"
      aria-label={trans.__('All combinations')}
      checked={chosen === total}
      onChange={event => onChange(event.target.checked)}
    />
  );
}

interface RowProps {
  combination: Combination;
  names: readonly string[];
  isIn: boolean;
  onChange(isIn: boolean): void;
}

function Row({ combination, names, isIn, onChange }: RowProps): React.JSX.Element {
  const trans = useTrans();
  const label = combination.label || trans.__('as it is');
  return (
    <tr className={isIn ? '' : 'jobs-mod-out'} onClick={() => onChange(!isIn)}>
      <td className="jobs-mod-box">
        <input
          type="checkbox"
          aria-label={trans.__('Combination %1: %2', combination.number, label)}
          checked={isIn}
          onClick={event => event.stopPropagation()}
          onChange={event => onChange(event.target.checked)}
        />
      </td>
      <td className="jobs-mod-number">{combination.number}</td>
      {names.map(name => (
        <td key={name}>{formatValue(combination.parameters[name])}</td>
      ))}
      <td />
    </tr>
  );
}
