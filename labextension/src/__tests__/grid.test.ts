import { describe, expect, it } from 'vitest';

import {
  addValue,
  chipsOf,
  EMPTY_GRID,
  malformedNames,
  readGrid,
  removeValue,
  setText,
  setValues,
  valueText,
  writeGrid
} from '../model/grid';

const steps = { name: 'steps', default: '300', is_json: true };

describe('a grid as text', () => {
  it('sends an untouched file as it is, blanks and all', () => {
    const text = '{ "lr" : [0.10,  1e-3] }';
    expect(writeGrid(readGrid(text))).toBe(text);
  });

  it('keeps every digit of 64-bit integers and the way numbers were typed', () => {
    const grid = addValue(readGrid('{"pipeline_parameters": {"lr": [1.0, 1e3]}}'), steps, '9007199254740993');
    const text = writeGrid(grid);
    expect(text).toContain('"lr": [1.0, 1e3]');
    expect(text).toContain('"steps": [300, 9007199254740993]');
    expect(() => JSON.parse(text) as unknown).not.toThrow();
  });

  it('keeps the order of the file, so that combinations keep their numbers', () => {
    const grid = setValues(readGrid('{"b": [1], "a": [2]}'), 'b', '[3]');
    expect([...grid.values.keys()]).toEqual(['b', 'a']);
  });

  it('hands on what is not ours to judge', () => {
    const grid = setValues(readGrid('{"pipeline_parameters": {"lr": [1]}, "5b2c": {"x": [1]}}'), 'lr', '[2]');
    expect(JSON.parse(writeGrid(grid))).toEqual({ pipeline_parameters: { lr: [2] }, '5b2c': { x: [1] } });
  });

  it('writes an empty grid that the server takes for one run', () => {
    expect(JSON.parse(writeGrid(EMPTY_GRID))).toEqual({ pipeline_parameters: {} });
  });

  it.each(['{"lr": [1', '[1, 2]', '{"lr": [1], "lr": [2]}', '{"pipeline_parameters": {"a": [1], "a": [2]}}', 'true'])(
    'leaves %s to be edited as a whole',
    text => {
      const grid = readGrid(text);
      expect(grid.broken).toBe(text);
      expect(writeGrid(grid)).toBe(text);
    }
  );

  it('takes a mended text apart again', () => {
    expect(setText('{"lr": [1').broken).toBe('{"lr": [1');
    expect(setText('{"lr": [1]}').broken).toBeNull();
  });

  it('survives brackets, commas, quotes and escapes inside strings', () => {
    const grid = readGrid('{"q": ["a,b", "[", "\\"}", "\\\\"], "n": [[1, 2], {"k": [3]}]}');
    expect(chipsOf(grid, 'q')).toEqual(['"a,b"', '"["', '"\\"}"', '"\\\\"']);
    expect(chipsOf(grid, 'n')).toEqual(['[1, 2]', '{"k": [3]}']);
  });

  it('shows no chips for a range', () => {
    expect(chipsOf(readGrid('{"lr": {"$range": [0, 1, 0.1]}}'), 'lr')).toBeNull();
  });
});

describe('values', () => {
  it('adds the first one to the default', () => {
    expect(chipsOf(addValue(EMPTY_GRID, steps, '500'), 'steps')).toEqual(['300', '500']);
    expect(chipsOf(addValue(EMPTY_GRID, { ...steps, default: 'now()', is_json: false }, '5'), 'steps')).toEqual(['5']);
  });

  it('does not add one twice', () => {
    const grid = addValue(EMPTY_GRID, steps, '500');
    expect(addValue(grid, steps, '500')).toBe(grid);
  });

  it('has no sweep over the default alone', () => {
    const grid = addValue(EMPTY_GRID, steps, '500');
    expect(removeValue(grid, steps, 1).values.has('steps')).toBe(false);
    expect(chipsOf(removeValue(grid, steps, 0), 'steps')).toEqual(['500']);
  });

  it('knows text that is no JSON before the server is asked', () => {
    expect(malformedNames(setValues(EMPTY_GRID, 'lr', '[0.1,'))).toEqual(['lr']);
    expect(malformedNames(setValues(EMPTY_GRID, 'lr', '5'))).toEqual([]);
  });

  it.each([
    ['gbm', 'str', '"gbm"'],
    ['5', 'str', '"5"'],
    ["'it'", 'str', '"it"'],
    ['"it"', 'str', '"it"'],
    ['say "hi', 'str', '"say \\"hi"'],
    ['5', 'int', '5'],
    ['1e-3', 'float', '1e-3'],
    ['True', 'bool', 'true'],
    ['None', '', 'null'],
    ['[1, 2]', 'list', '[1, 2]'],
    ['gbm', '', '"gbm"']
  ])('reads %s for a parameter of type %s', (typed, type, text) => {
    expect(valueText(typed, type)).toBe(text);
  });
});
