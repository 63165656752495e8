import type { Parameter } from '../api/schema';
import { entriesOf, isJson, itemsOf } from './jsontext';

/**
 * The parameter grid as the form edits it. `values` holds the JSON text of each parameter's list in file order; the text is never
 * parsed into numbers. `broken` holds the text of a file that the form cannot take apart: it is edited as a whole.
 */
export interface GridDraft {
  values: ReadonlyMap<string, string>;
  /** Keys of the file beside `pipeline_parameters`, kept so that the server can say what it thinks of them. */
  others: readonly [string, string][];
  /** The file's text while nothing was changed: errors can then name its lines. */
  original: string | null;
  broken: string | null;
}

export const EMPTY_GRID: GridDraft = { values: new Map(), others: [], original: null, broken: null };

const WRAPPER = 'pipeline_parameters';

function hasTwins(entries: [string, string][]): boolean {
  return new Set(entries.map(([name]) => name)).size < entries.length;
}

/** Take the text of a parameters file apart: flat, or with `pipeline_parameters`. */
export function readGrid(text: string): GridDraft {
  try {
    const outer = entriesOf(text);
    const wrapped = outer.find(([name]) => name === WRAPPER);
    const isWrapped = wrapped !== undefined && wrapped[1].startsWith('{');
    const inner = isWrapped ? entriesOf(wrapped[1]) : outer;
    if (!hasTwins(outer) && !hasTwins(inner)) {
      const others = isWrapped ? outer.filter(([name]) => name !== WRAPPER) : [];
      return { values: new Map(inner), others, original: text, broken: null };
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) {
      throw error;
    }
  }
  return { ...EMPTY_GRID, original: text, broken: text };
}

/** The text of a parameters file with this grid: concatenated, not encoded, so that every value stays as typed. */
export function writeGrid(grid: GridDraft): string {
  if (grid.original !== null || grid.broken !== null) {
    return grid.original ?? grid.broken ?? '';
  }
  const lines = (entries: Iterable<readonly [string, string]>, indent: string): string =>
    [...entries].map(([name, text]) => `${indent}${JSON.stringify(name)}: ${text}`).join(',\n');
  const inner = grid.values.size > 0 ? `{\n${lines(grid.values, '    ')}\n  }` : '{}';
  return `{\n${lines([[WRAPPER, inner], ...grid.others], '  ')}\n}\n`;
}

/** The value texts of a parameter, or null where its text is no list (a range, or something malformed). */
export function chipsOf(grid: GridDraft, name: string): string[] | null {
  const text = grid.values.get(name);
  if (text === undefined) {
    return [];
  }
  try {
    return itemsOf(text);
  } catch {
    return null;
  }
}

/** Give a parameter the list with this text; an empty text takes the parameter out of the grid. */
export function setValues(grid: GridDraft, name: string, text: string): GridDraft {
  const values = new Map(grid.values);
  if (text.trim() === '') {
    values.delete(name);
  } else {
    values.set(name, text.trim());
  }
  return { ...grid, values, original: null };
}

/** Add one value. The first one is added to the default, which the parameter would have had otherwise. */
export function addValue(grid: GridDraft, parameter: Pick<Parameter, 'name' | 'default' | 'is_json'>, value: string): GridDraft {
  const chips = chipsOf(grid, parameter.name) ?? [];
  const before = chips.length > 0 || grid.values.has(parameter.name) || !parameter.is_json ? chips : [parameter.default];
  return before.includes(value) ? grid : setValues(grid, parameter.name, `[${[...before, value].join(', ')}]`);
}

/** Take the value at `index` away; a parameter left with nothing, or with its default alone, is no longer part of the grid. */
export function removeValue(
  grid: GridDraft,
  parameter: Pick<Parameter, 'name' | 'default' | 'is_json'>,
  index: number
): GridDraft {
  const chips = (chipsOf(grid, parameter.name) ?? []).filter((_, position) => position !== index);
  const isDefault = chips.length === 1 && parameter.is_json && chips[0] === parameter.default;
  return setValues(grid, parameter.name, chips.length > 0 && !isDefault ? `[${chips.join(', ')}]` : '');
}

/** Replace the whole text of a grid that cannot be taken apart. */
export function setText(text: string): GridDraft {
  const grid = readGrid(text);
  return grid.broken === null ? { ...grid, original: text } : { ...grid, original: null };
}

/** Names in the grid whose text is no JSON at all, which only the form can have made. */
export function malformedNames(grid: GridDraft): string[] {
  return [...grid.values].filter(([, text]) => !isJson(text)).map(([name]) => name);
}

const PYTHON_WORDS: Record<string, string> = { True: 'true', False: 'false', None: 'null' };

/** The JSON text of a value typed into a parameter's small field: quotes may be left out, Python's words are understood. */
export function valueText(typed: string, type: string): string {
  const text = typed.trim();
  const isText = type === 'str' || type === 'character';
  if (isText) {
    return text.startsWith('"') && isJson(text) ? text : JSON.stringify(unquoted(text));
  }
  if (isJson(text)) {
    return text;
  }
  return PYTHON_WORDS[text] ?? JSON.stringify(unquoted(text));
}

function unquoted(text: string): string {
  const match = /^'(.*)'$/s.exec(text) ?? /^"(.*)"$/s.exec(text);
  return match?.[1] ?? text;
}
