import React, { useState } from 'react';

import type { RunError } from '../../api/schema';
import { useTrans } from '../../components/context';
import { Fold } from '../../components/notes';

// Colours of the traceback as IPython writes it; the text alone is shown.
// eslint-disable-next-line no-control-regex
const COLOURS = /\u001b\[[0-9;]*m/g;

interface RunErrorBoxProps {
  error: RunError;
  /** Null while there is no page to go to. */
  onGoToCell: ((cellId: string) => void) | null;
}

/** What happened, where, what to do; the traceback folded below. */
export function RunErrorBox({ error, onGoToCell }: RunErrorBoxProps): React.JSX.Element {
  const trans = useTrans();
  const [isOpen, setOpen] = useState(false);
  const { cell } = error;
  const where = cell ? trans.__('in cell %1', cell.number) : '';
  const what = error.ename
    ? `${error.ename}${where ? ` ${where}` : ''}${error.evalue ? `: ${error.evalue}` : ''}`
    : error.message;
  const saysMore =
    error.message !== what && !(error.ename && error.message.includes(error.ename) && error.message.includes(error.evalue));
  return (
    <section className="jobs-RunError" role="alert">
      <div className="jobs-RunError-first">
        <strong>{what}</strong>
        <span className="jobs-Spacer" />
        {cell && onGoToCell && (
          <button type="button" className="jobs-Button" onClick={() => onGoToCell(cell.id)}>
            {trans.__('Go to cell')}
          </button>
        )}
      </div>
      {saysMore && <div>{error.message}</div>}
      {error.mend && <div>{error.mend}</div>}
      {error.traceback && (
        <Fold title={trans.__('Traceback')} isOpen={isOpen} onToggle={setOpen}>
          <pre tabIndex={0}>{error.traceback.replace(COLOURS, '')}</pre>
        </Fold>
      )}
    </section>
  );
}
