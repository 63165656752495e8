import React, { useState } from 'react';

import type { NamedInput, Preview } from '../../api/schema';
import { useTrans } from '../../components/context';
import { ErrorNote, Findings, Fold, Note } from '../../components/notes';
import { formatBytes } from '../../model/format';
import type { FormDraft } from '../../model/form';
import { liveFolder } from '../../model/form';
import type { Form } from './useform';

const OTHER = '\u0000other';

/** Which directory is frozen, how much that is, and what is in it. */
export function Project({ form }: { form: Form }): React.JSX.Element | null {
  const trans = useTrans();
  const [isOpen, setOpen] = useState(false);
  const { inspection, draft, preview, errors, update } = form;
  if (!inspection || !draft) {
    return null;
  }
  const found = preview.value;
  const choice = found?.project ?? inspection.project;
  const error = errors.get('project') ?? errors.get('exclude') ?? errors.get('include');
  return (
    <div className="jobs-Section" role="group" aria-label={trans.__('Project')}>
      <div className="jobs-FormRow">
        <span className="jobs-Label">{trans.__('Project')}</span>
        <Directory
          draft={draft}
          directory={inspection.project.directory}
          alternatives={inspection.project.alternatives}
          update={update}
        />
        <span className="jobs-Quiet" role="status">
          {found ? (
            <>
              {trans._n('%1 file', '%1 files', found.files)} · {formatBytes(found.bytes)}
              {preview.isLooking ? ' …' : ''}
            </>
          ) : preview.isLooking ? (
            trans.__('looking…')
          ) : (
            ''
          )}
        </span>
        {found && <Fold title={trans.__('what is in it')} isOpen={isOpen} onToggle={setOpen} children={null} />}
      </div>
      {choice.mode === 'files' && (
        <Note
          level="note"
          message={trans.__('Only the notebook and the files it names are frozen, not the whole directory.')}
          mend={choice.why}
        />
      )}
      {error && <ErrorNote error={error} />}
      {isOpen && found && <Contents preview={found} draft={draft} update={update} />}
      <Choices draft={draft} update={update} />
      {found && <Inputs preview={found} draft={draft} update={update} />}
    </div>
  );
}

interface DirectoryProps {
  draft: FormDraft;
  directory: string;
  alternatives: readonly string[];
  update: Form['update'];
}

function Directory({ draft, directory, alternatives, update }: DirectoryProps): React.JSX.Element {
  const trans = useTrans();
  const listed = [...new Set([directory, ...alternatives])];
  const [isOther, setOther] = useState(draft.project !== '' && !listed.includes(draft.project));
  if (isOther) {
    return (
      <input
        className="jobs-Input jobs-mod-grow jobs-mod-code"
        autoFocus
        aria-label={trans.__('Project directory')}
        defaultValue={draft.project || directory}
        onBlur={event => update({ project: event.target.value.trim() === directory ? '' : event.target.value.trim() })}
        onKeyDown={event => {
          if (event.key === 'Enter') {
            event.preventDefault();
            event.currentTarget.blur();
          }
        }}
      />
    );
  }
  return (
    <select
      className="jobs-Input jobs-mod-path"
      aria-label={trans.__('Project directory')}
      title={draft.project || directory}
      value={draft.project || directory}
      onChange={event => {
        const { value } = event.target;
        if (value === OTHER) {
          setOther(true);
        } else {
          update({ project: value === directory ? '' : value, exclude: [] });
        }
      }}
    >
      {listed.map(path => (
        <option key={path} value={path}>
          {path}
        </option>
      ))}
      <option value={OTHER}>{trans.__('another directory…')}</option>
    </select>
  );
}

interface PartProps {
  preview: Preview;
  draft: FormDraft;
  update: Form['update'];
}

/** Folders to untick, the largest files, what the rules leave out and why, and the environment. */
function Contents({ preview, draft, update }: PartProps): React.JSX.Element {
  const trans = useTrans();
  const { environment } = preview;
  const listed = preview.folders.map(folder => folder.path);
  // an unticked folder is no longer in the answer, but must stay to be ticked again
  const gone = draft.exclude.filter(path => !listed.includes(path));
  const modes: Record<Preview['environment']['mode'], string> = {
    reflink: trans.__('frozen (reflinks, no space used)'),
    hardlink: trans.__('frozen (hard links, no space used)'),
    copy: trans.__('frozen (copied)'),
    recorded: trans.__('recorded, and checked before each run'),
    none: trans.__('not frozen')
  };
  return (
    <div className="jobs-Contents">
      <div>
        <h4>{trans.__('Folders')}</h4>
        {[
          ...preview.folders.map(folder => ({ ...folder, isIn: true })),
          ...gone.map(path => ({ path, files: 0, bytes: 0, isIn: false }))
        ]
          .filter(folder => folder.path !== '' && folder.path !== '.')
          .map(folder => (
            <label key={folder.path} className="jobs-Check">
              <input
                type="checkbox"
                checked={folder.isIn && !draft.exclude.includes(folder.path)}
                onChange={event =>
                  update({
                    exclude: event.target.checked
                      ? draft.exclude.filter(path => path !== folder.path)
                      : [...draft.exclude, folder.path]
                  })
                }
              />
              <span className="jobs-Contents-path">{folder.path}</span>
              <span className="jobs-Quiet">
                {folder.isIn
                  ? `${trans._n('%1 file', '%1 files', folder.files)} · ${formatBytes(folder.bytes)}`
                  : trans.__('left out')}
              </span>
            </label>
          ))}
        {listed.length + gone.length === 0 && <span className="jobs-Quiet">{trans.__('no folders')}</span>}
      </div>
      <div>
        <h4>{trans.__('Largest')}</h4>
        {preview.largest.slice(0, 8).map(file => (
          <div key={file.path} className="jobs-Contents-line">
            <span className="jobs-Contents-path">{file.path}</span>
            <span className="jobs-Quiet">{formatBytes(file.bytes)}</span>
          </div>
        ))}
      </div>
      <div>
        <h4>{trans.__('Left out')}</h4>
        {preview.ignored.slice(0, 30).map(item => (
          <div key={item.path} className="jobs-Contents-line">
            <span className="jobs-Contents-path">
              {item.path}
              {item.is_directory && !item.path.endsWith('/') ? '/' : ''}
            </span>
            <span className="jobs-Quiet">{item.rule}</span>
            <button type="button" className="jobs-Link" onClick={() => update({ include: [...draft.include, item.path] })}>
              {trans.__('Include')}
            </button>
          </div>
        ))}
        {preview.ignored.length === 0 && <span className="jobs-Quiet">{trans.__('nothing')}</span>}
        {preview.ignored.length > 30 && (
          <span className="jobs-Quiet">{trans.__('and %1 more', preview.ignored.length - 30)}</span>
        )}
      </div>
      <div>
        <h4>{trans.__('Environment')}</h4>
        <div className="jobs-Contents-line">
          <span className="jobs-Contents-path" title={environment.prefix}>
            {environment.prefix}
          </span>
        </div>
        <div className="jobs-Quiet">
          {[environment.python, trans._n('%1 package', '%1 packages', environment.distributions), modes[environment.mode]]
            .filter(Boolean)
            .join(' · ')}
        </div>
        <Findings findings={environment.findings} />
        {preview.workspace === 'copy' && (
          <div className="jobs-Quiet">{trans.__('Each run copies the project: %1.', formatBytes(preview.copied_bytes))}</div>
        )}
      </div>
    </div>
  );
}

/** What the person took in or reads in place, each to be taken back. */
function Choices({ draft, update }: { draft: FormDraft; update: Form['update'] }): React.JSX.Element | null {
  const trans = useTrans();
  if (draft.include.length + draft.live.length === 0) {
    return null;
  }
  const chip = (key: string, text: string, onRemove: () => void) => (
    <span key={key} className="jobs-Chip">
      <span className="jobs-Chip-text">{text}</span>
      <button type="button" className="jobs-Chip-remove" aria-label={trans.__('Take back: %1', text)} onClick={onRemove}>
        ×
      </button>
    </span>
  );
  return (
    <div className="jobs-FormRow">
      <span className="jobs-Label" />
      {draft.include.map(path =>
        chip(`in ${path}`, trans.__('included: %1', path), () =>
          update({ include: draft.include.filter(other => other !== path) })
        )
      )}
      {draft.live.map(({ path }) =>
        chip(`live ${path}`, trans.__('read live: %1', path), () =>
          update({ live: draft.live.filter(other => other.path !== path) })
        )
      )}
    </div>
  );
}

/** Files that the notebook names and a run would not find, each with the two ways out; and the other findings. */
function Inputs({ preview, draft, update }: PartProps): React.JSX.Element {
  const trans = useTrans();
  const sentence = (input: NamedInput): string => {
    switch (input.state) {
      case 'ignored':
        return trans.__('%1 is left out (%2): cell %3 would not find it.', input.path, input.rule, input.cell);
      case 'outside':
        return trans.__('%1 is outside the project: cell %2 would not find it.', input.path, input.cell);
      default:
        return trans.__('%1, which cell %2 names, does not exist.', input.path, input.cell);
    }
  };
  const shown = preview.inputs.filter(
    (input, index) =>
      ['ignored', 'outside', 'missing'].includes(input.state) &&
      preview.inputs.findIndex(other => other.path === input.path) === index
  );
  const paths = new Set(shown.map(input => input.path));
  const isOwn = (path: string) => path !== '' && paths.has(path);
  return (
    <>
      {shown.map(input => {
        const finding = preview.findings.find(candidate => candidate.path === input.path);
        const folder = liveFolder(input.path);
        return (
          <Note
            key={input.path}
            level={finding?.level ?? (input.state === 'missing' ? 'note' : 'warning')}
            message={finding?.message ?? sentence(input)}
            mend={input.state === 'missing' ? finding?.mend : undefined}
          >
            {input.state === 'ignored' && (
              <button
                type="button"
                className="jobs-Button"
                title={trans.__('Freeze this file with the project')}
                onClick={() => update({ include: [...draft.include, input.path] })}
              >
                {trans.__('Include')}
              </button>
            )}
            {input.state !== 'missing' && (
              <button
                type="button"
                className="jobs-Button"
                title={trans.__('Every run reads what is there when it runs')}
                onClick={() => update({ live: [...draft.live, { path: folder, writable: false }] })}
              >
                {trans.__('Read live from %1', folder)}
              </button>
            )}
          </Note>
        );
      })}
      <Findings findings={preview.findings.filter(finding => !isOwn(finding.path))} />
    </>
  );
}
