import React, { useState } from 'react';

import type { Parameter } from '../../api/schema';
import { useTrans } from '../../components/context';
import type { GridDraft } from '../../model/grid';
import { addValue, chipsOf, removeValue, setValues, valueText } from '../../model/grid';

interface ValuesProps {
  parameter: Parameter;
  grid: GridDraft;
  onChange(grid: GridDraft): void;
}

/** The values of one parameter: chips, a small field that adds one, and the list as JSON text behind `{…}`. */
export function Values({ parameter, grid, onChange }: ValuesProps): React.JSX.Element {
  const trans = useTrans();
  const { name } = parameter;
  const [typed, setTyped] = useState<string | null>(null);
  const [isEditing, setEditing] = useState(false);
  const chips = chipsOf(grid, name);
  const text = grid.values.get(name);
  const startText = text ?? (parameter.is_json ? `[${parameter.default}]` : '[]');

  const add = () => {
    if (typed !== null && typed.trim() !== '') {
      onChange(addValue(grid, parameter, valueText(typed, parameter.type)));
    }
    setTyped(null);
  };
  return (
    <>
      <td className="jobs-Values">
        {chips === null && (
          <button type="button" className="jobs-Chip jobs-mod-raw" onClick={() => setEditing(true)}>
            {text}
          </button>
        )}
        {chips?.length === 0 && text === undefined && (
          <button type="button" className="jobs-Default" title={trans.__('Add values')} onClick={() => setEditing(true)}>
            {trans.__('%1 (default)', parameter.default)}
          </button>
        )}
        {chips?.map((chip, index) => (
          <span key={`${index} ${chip}`} className="jobs-Chip">
            <button
              type="button"
              className="jobs-Chip-text"
              title={trans.__('Edit the values of %1 as JSON', name)}
              onClick={() => setEditing(true)}
            >
              {chip}
            </button>
            <button
              type="button"
              className="jobs-Chip-remove"
              aria-label={trans.__('Remove %1 from %2', chip, name)}
              onClick={() => onChange(removeValue(grid, parameter, index))}
            >
              ×
            </button>
          </span>
        ))}
        {typed === null ? (
          chips !== null && (
            <button
              type="button"
              className="jobs-Chip jobs-mod-add"
              aria-label={trans.__('Add a value to %1', name)}
              title={trans.__('Add a value')}
              onClick={() => setTyped('')}
            >
              +
            </button>
          )
        ) : (
          <input
            className="jobs-Input jobs-mod-small"
            autoFocus
            aria-label={trans.__('New value of %1', name)}
            placeholder={trans.__('value, Enter')}
            value={typed}
            onChange={event => setTyped(event.target.value)}
            onBlur={add}
            onKeyDown={event => {
              if (event.key === 'Enter') {
                event.preventDefault();
                if (typed.trim() === '') {
                  setTyped(null);
                } else {
                  onChange(addValue(grid, parameter, valueText(typed, parameter.type)));
                  setTyped('');
                }
              } else if (event.key === 'Escape') {
                event.stopPropagation();
                setTyped(null);
              }
            }}
          />
        )}
        {isEditing && (
          <div className="jobs-JsonEditor">
            <textarea
              className="jobs-Input"
              autoFocus
              spellCheck={false}
              rows={Math.min(12, Math.max(2, startText.split('\n').length))}
              aria-label={trans.__('Values of %1 as a JSON list', name)}
              defaultValue={startText}
              onChange={event => onChange(setValues(grid, name, event.target.value))}
              onKeyDown={event => {
                if (event.key === 'Escape' || (event.key === 'Enter' && (event.ctrlKey || event.metaKey))) {
                  event.preventDefault();
                  event.stopPropagation();
                  setEditing(false);
                }
              }}
            />
            <span className="jobs-Quiet">
              {trans.__('A JSON list. The text is sent as you type it; empty means the default.')}
            </span>
            <button type="button" className="jobs-Button" onClick={() => setEditing(false)}>
              {trans.__('Done')}
            </button>
          </div>
        )}
      </td>
      <td className="jobs-mod-end">
        <button
          type="button"
          className="jobs-Button jobs-mod-flat"
          aria-expanded={isEditing}
          title={trans.__('Edit the values of %1 as JSON', name)}
          aria-label={trans.__('Edit the values of %1 as JSON', name)}
          onClick={() => setEditing(!isEditing)}
        >
          {'{…}'}
        </button>
      </td>
    </>
  );
}
