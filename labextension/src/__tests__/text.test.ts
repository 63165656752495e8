import { describe, expect, it } from 'vitest';

import { parseJson, stringifyJson } from '../api/json';
import { createSseParser } from '../api/logstream';
import type { RunLine } from '../api/schema';
import { compareValues, formatBytes, formatDuration, formatValue, parseDuration } from '../model/format';
import { appendPieces, EMPTY_LOG } from '../model/log';

describe('JSON', () => {
  it('keeps whole numbers beyond 2^53, and nothing else is touched', () => {
    const text =
      '{"a":9223372036854775807,"b":-9007199254740993,"s":"9223372036854775807","f":0.1234567890123456,"l":[12345678901234567890]}';
    const value = parseJson(text) as { [key: string]: unknown };
    expect(value['a']).toBe(9223372036854775807n);
    expect(value['b']).toBe(-9007199254740993n);
    expect(value['s']).toBe('9223372036854775807');
    expect(value['f']).toBe(0.1234567890123456);
    expect(stringifyJson(value)).toContain('"l":[12345678901234567890]');
  });

  it('leaves out what is undefined, as JSON.stringify does', () => {
    expect(stringifyJson({ a: undefined, b: null, c: [1, 'x'] })).toBe('{"b":null,"c":[1,"x"]}');
  });
});

describe('durations and sizes', () => {
  it.each([
    ['90', 90],
    ['10m', 600],
    ['1h 30m', 5400],
    ['1:30:00', 5400],
    ['2 min', 120],
    ['0.5h', 1800],
    ['', null],
    ['soon', NaN],
    ['0', NaN],
    ['-3', NaN]
  ])('reads %s as %s seconds', (text, seconds) => {
    expect(parseDuration(text)).toEqual(seconds);
  });

  it.each([
    [0.44, '0.4 s'],
    [12.4, '12 s'],
    [59.7, '1:00'],
    [72, '1:12'],
    [7380, '2:03:00']
  ])('writes %d seconds as %s', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });

  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [3_100_000, '3.1 MB'],
    [999_600, '1.0 MB']
  ])('writes %d bytes as %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it('sorts numbers as numbers and missing ones last', () => {
    const sorted = [10, undefined, 9, 9007199254740993n].sort(compareValues);
    expect(sorted.map(formatValue)).toEqual(['9', '10', '9007199254740993', '–']);
    expect(compareValues(undefined, 1)).toBeGreaterThan(0);
  });
});

describe('a log', () => {
  const piece = (line: string, end = '\n', run = 'a-1'): RunLine => ({ at: 0, stream: 'stdout', line, end, cell: 2, run });
  const texts = (...pieces: RunLine[]) => appendPieces(EMPTY_LOG, pieces).rows.map(({ text }) => text);

  it('keeps a progress bar on one line', () => {
    expect(texts(piece('10%', '\r'), piece('20%', '\r'), piece('100%', '\n'), piece('done'))).toEqual(['100%', 'done']);
  });

  it('does not empty a line that a bare newline ends', () => {
    expect(texts(piece('100%', '\r'), piece('', '\n'))).toEqual(['100%']);
  });

  it('joins the pieces of a line, each run its own', () => {
    expect(texts(piece('a', ''), piece('x', '', 'a-2'), piece('b'), piece('y', '\n', 'a-2'))).toEqual(['ab', 'xy']);
  });

  it('goes on where it was', () => {
    const first = appendPieces(EMPTY_LOG, [piece('a', '')]);
    expect(appendPieces(first, [piece('b')]).rows.map(({ text }) => text)).toEqual(['ab']);
  });

  it('shows no terminal codes', () => {
    expect(texts(piece('\u001b[31mred\u001b[0m \u001b]0;title\u0007x'))).toEqual(['red x']);
  });

  it('stays within its limit and says what it dropped', () => {
    const many = Array.from({ length: 20_005 }, (_, index) => piece(String(index)));
    const log = appendPieces(EMPTY_LOG, many);
    expect(log.rows).toHaveLength(20_000);
    expect(log.dropped).toBe(5);
    expect(log.rows[0]?.text).toBe('5');
  });
});

describe('server-sent events', () => {
  it('come out whole however the text is cut', () => {
    const text = ': hello\nevent: line\nid: 1:20\ndata: {"line": "a"}\n\nevent: end\ndata:\n\n';
    for (let cut = 1; cut < text.length; cut += 1) {
      const parse = createSseParser();
      expect([...parse(text.slice(0, cut)), ...parse(text.slice(cut))]).toEqual([
        { event: 'line', id: '1:20', data: '{"line": "a"}' },
        { event: 'end', id: '1:20', data: '' }
      ]);
    }
  });
});
