import { stringifyJson } from '../api/json';
import type { Combination, CreateJob, ErrorBody, Inspection, LivePath, PreviewRequest } from '../api/schema';
import { parseDuration } from './format';
import type { GridDraft } from './grid';
import { EMPTY_GRID, readGrid, writeGrid } from './grid';

/** Everything the create form holds that a person can change. */
export interface FormDraft {
  path: string;
  name: string;
  description: string;
  kernel: string;
  project: string;
  grid: GridDraft;
  /** Where the grid came from: the file beside the notebook, another one, or empty. */
  gridPath: string;
  exclude: readonly string[];
  include: readonly string[];
  live: readonly { path: string; writable: boolean }[];
  /** Combinations not to run, by their parameters: numbers shift when the grid changes. */
  deselected: ReadonlySet<string>;
  record: string;
  outputDir: string;
  timeLimit: string;
  cellTimeout: string;
  acceptDrift: boolean;
}

/** The form for a notebook that was looked into. */
export function newDraft(inspection: Inspection): FormDraft {
  return {
    path: inspection.path,
    name: inspection.name,
    description: '',
    kernel: inspection.kernel.name,
    project: '',
    grid: inspection.grid ? readGrid(inspection.grid.text) : EMPTY_GRID,
    gridPath: inspection.grid?.path ?? '',
    exclude: [],
    include: [],
    live: [],
    deselected: new Set(),
    record: '',
    outputDir: '',
    timeLimit: '',
    cellTimeout: '',
    acceptDrift: false
  };
}

/** What changes when the notebook was saved again: an untouched grid follows its file, everything a person typed stays. */
export function withInspection(draft: FormDraft, before: Inspection, after: Inspection): FormDraft {
  const followsFile = draft.grid.original !== null && draft.gridPath === (before.grid?.path ?? '');
  const wasEmpty = draft.grid.values.size === 0 && draft.grid.broken === null && draft.gridPath === '';
  return {
    ...draft,
    name: draft.name === before.name ? after.name : draft.name,
    kernel: draft.kernel === before.kernel.name ? after.kernel.name : draft.kernel,
    ...(followsFile || (wasEmpty && after.grid)
      ? { grid: after.grid ? readGrid(after.grid.text) : EMPTY_GRID, gridPath: after.grid?.path ?? '' }
      : {})
  };
}

/** What identifies a combination, whatever its number. */
export function combinationKey(combination: Combination): string {
  const sorted = Object.entries(combination.parameters).sort(([left], [right]) => (left < right ? -1 : 1));
  return stringifyJson([sorted, combination.step_parameters]);
}

/** The numbers that will run: empty for all of them, as `CreateJob.only` has it; null when none is left. */
export function chosenNumbers(draft: FormDraft, total: number, combinations: readonly Combination[]): number[] | null {
  const left = new Set(
    combinations.filter(combination => draft.deselected.has(combinationKey(combination))).map(({ number }) => number)
  );
  if (left.size === 0) {
    return total > 0 ? [] : null;
  }
  const numbers = Array.from({ length: total }, (_, index) => index + 1).filter(number => !left.has(number));
  return numbers.length > 0 ? numbers : null;
}

/** Take a combination out, or back in. */
export function toggle(set: ReadonlySet<string>, keys: readonly string[], isIn: boolean): ReadonlySet<string> {
  const next = new Set(set);
  for (const key of keys) {
    if (isIn) {
      next.add(key);
    } else {
      next.delete(key);
    }
  }
  return next;
}

function livePaths(draft: FormDraft): LivePath[] {
  return draft.live.map(({ path, writable }) => ({ path, writable, files: null, bytes: null, modified: null }));
}

/** The question whose answer is the preview. */
export function previewRequest(draft: FormDraft): PreviewRequest {
  return {
    path: draft.path,
    kernel: draft.kernel,
    project: draft.project,
    exclude: [...draft.exclude],
    include: [...draft.include],
    live: livePaths(draft)
  };
}

/** `auc, loss` as names. */
export function recordNames(text: string): string[] {
  return [...new Set(text.split(/[\s,]+/).filter(name => name !== ''))];
}

/** The request that makes the job. `only` as from `chosenNumbers`. */
export function createRequest(draft: FormDraft, only: number[]): CreateJob {
  return {
    ...previewRequest(draft),
    name: draft.name.trim(),
    description: draft.description,
    grid_text: writeGrid(draft.grid),
    only,
    record: recordNames(draft.record),
    output_dir: draft.outputDir.trim(),
    time_limit: parseDuration(draft.timeLimit),
    cell_timeout: parseDuration(draft.cellTimeout),
    accept_drift: draft.acceptDrift
  };
}

/** Fields with a text that cannot be sent, by the names of `CreateJob`. */
export function localErrors(draft: FormDraft): Set<'time_limit' | 'cell_timeout'> {
  const wrong = new Set<'time_limit' | 'cell_timeout'>();
  if (Number.isNaN(parseDuration(draft.timeLimit))) {
    wrong.add('time_limit');
  }
  if (Number.isNaN(parseDuration(draft.cellTimeout))) {
    wrong.add('cell_timeout');
  }
  return wrong;
}

/** The field of the form that an error belongs to: `grid:lr` for one parameter, else a name of `CreateJob`; empty for the whole form. */
export function fieldOf(error: ErrorBody, parameterNames: readonly string[]): string {
  const { field, key } = error.detail;
  const name = typeof field === 'string' ? field : '';
  if (typeof key === 'string' && parameterNames.includes(key)) {
    return `grid:${key}`;
  }
  if (name.startsWith('parameters.') && parameterNames.includes(name.slice('parameters.'.length))) {
    return `grid:${name.slice('parameters.'.length)}`;
  }
  return name === '' && (typeof key === 'string' || error.code.startsWith('grid')) ? 'grid_text' : name;
}

/** The folder to read live so that `path` is seen: its own folder, or the file itself where that folder is the project. */
export function liveFolder(path: string): string {
  const cut = path.replace(/\/+$/, '').lastIndexOf('/');
  return cut > 0 ? `${path.slice(0, cut)}/` : path;
}
