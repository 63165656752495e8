import { describe, expect, it } from 'vitest';

import type { Combination, Inspection } from '../api/schema';
import {
  chosenNumbers,
  combinationKey,
  createRequest,
  fieldOf,
  liveFolder,
  localErrors,
  newDraft,
  recordNames,
  toggle,
  withInspection
} from '../model/form';
import { addValue, writeGrid } from '../model/grid';

function inspection(fields: Partial<Inspection> = {}): Inspection {
  const kernel = {
    name: 'python3',
    display_name: 'Python 3',
    language: 'python',
    argv: [],
    env: {},
    interrupt_mode: 'signal' as const,
    resource_dir: ''
  };
  return {
    path: 'churn/report.ipynb',
    name: 'report',
    kernel,
    kernels: [kernel],
    parameters: [{ name: 'lr', type: 'float', default: '0.1', is_json: true, help: '' }],
    has_parameters_cell: true,
    candidates: [],
    grid: null,
    project: { directory: '/home/u/churn', mode: 'directory', why: '', alternatives: [], files: [] },
    findings: [],
    ...fields
  };
}

function combination(number: number, lr: number): Combination {
  return { number, parameters: { lr }, step_parameters: {}, label: `lr=${lr}` };
}

const file = (text: string) => ({ path: 'churn/report.parameters.json', text });

describe('combinations', () => {
  const three = [combination(1, 0.1), combination(2, 0.2), combination(3, 0.3)];

  it('runs all without naming any', () => {
    expect(chosenNumbers(newDraft(inspection()), 3, three)).toEqual([]);
  });

  it('names the others when one is taken out, also those beyond the list', () => {
    const draft = { ...newDraft(inspection()), deselected: new Set([combinationKey(combination(2, 0.2))]) };
    expect(chosenNumbers(draft, 5, three)).toEqual([1, 3, 4, 5]);
  });

  it('keeps what was taken out when numbers shift', () => {
    const draft = { ...newDraft(inspection()), deselected: new Set([combinationKey(combination(2, 0.2))]) };
    expect(chosenNumbers(draft, 2, [combination(1, 0.2), combination(2, 0.3)])).toEqual([2]);
  });

  it('has nothing to run when all are taken out', () => {
    const draft = { ...newDraft(inspection()), deselected: toggle(new Set(), three.map(combinationKey), true) };
    expect(chosenNumbers(draft, 3, three)).toBeNull();
    expect(toggle(draft.deselected, three.map(combinationKey), false).size).toBe(0);
  });

  it('tells 64-bit integers apart', () => {
    const key = (seed: bigint) => combinationKey({ ...combination(1, 0), parameters: { seed } });
    expect(key(9007199254740993n)).not.toBe(key(9007199254740992n));
  });
});

describe('a saved notebook', () => {
  it('brings its new grid along when the form had not changed it', () => {
    const before = inspection({ grid: file('{"lr": [1]}') });
    const after = inspection({ grid: file('{"lr": [1, 2]}') });
    expect(writeGrid(withInspection(newDraft(before), before, after).grid)).toBe('{"lr": [1, 2]}');
  });

  it('leaves what a person typed', () => {
    const before = inspection({ grid: file('{"lr": [1]}') });
    const draft = newDraft(before);
    const typed = { ...draft, name: 'mine', grid: addValue(draft.grid, { name: 'lr', default: '0.1', is_json: true }, '7') };
    const after = inspection({ name: 'other', grid: file('{"lr": [1, 2]}') });
    const next = withInspection(typed, before, after);
    expect(next.name).toBe('mine');
    expect(next.grid).toBe(typed.grid);
  });
});

describe('the request', () => {
  it('holds what was typed, durations in seconds', () => {
    const draft = { ...newDraft(inspection()), record: 'auc, loss auc', timeLimit: '1h 30m', cellTimeout: '90', name: ' sweep ' };
    expect(createRequest(draft, [2])).toMatchObject({
      name: 'sweep',
      only: [2],
      record: ['auc', 'loss'],
      time_limit: 5400,
      cell_timeout: 90
    });
  });

  it('is not sent with a time that is none', () => {
    expect([...localErrors({ ...newDraft(inspection()), timeLimit: 'soon' })]).toEqual(['time_limit']);
    expect(localErrors(newDraft(inspection())).size).toBe(0);
  });
});

describe('where an error is shown', () => {
  const error = (detail: { [key: string]: string }, code = 'bad_input') => ({ code, message: '', mend: '', detail });
  it.each([
    [error({ field: 'grid_text', key: 'lr' }), 'grid:lr'],
    [error({ key: 'nope' }), 'grid_text'],
    [error({ field: 'kernel' }), 'kernel'],
    [error({ field: 'parameters.lr' }), 'grid:lr'],
    [error({}, 'too_large'), '']
  ])('%j', (body, field) => {
    expect(fieldOf(body, ['lr'])).toBe(field);
  });
});

it.each([
  ['data/train.csv', 'data/'],
  ['train.csv', 'train.csv'],
  ['/mnt/x/y.csv', '/mnt/x/']
])('reads %s live from %s', (path, folder) => {
  expect(liveFolder(path)).toBe(folder);
});

it('reads names with commas or blanks', () => {
  expect(recordNames(' auc,loss  x,')).toEqual(['auc', 'loss', 'x']);
});
