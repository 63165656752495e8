/**
 * JSON as text: the parts of an array or object cut out exactly as written, so that `1.0`, `1e3` and 64-bit integers stay what was
 * typed. Each function throws SyntaxError when the text is not JSON of that shape.
 */

interface Part {
  start: number;
  end: number;
}

/** The end of the value that begins at `start` in valid JSON. */
function skipValue(text: string, start: number): number {
  let depth = 0;
  for (let index = start; index < text.length; index += 1) {
    const character = text[index] ?? '';
    if (character === '"') {
      index = skipString(text, index) - 1;
    } else if (character === '[' || character === '{') {
      depth += 1;
    } else if (character === ']' || character === '}') {
      if (depth === 0) {
        return index;
      }
      depth -= 1;
    } else if (character === ',' && depth === 0) {
      return index;
    }
  }
  return text.length;
}

function skipString(text: string, start: number): number {
  let index = start + 1;
  while (text[index] !== '"') {
    index += text[index] === '\\' ? 2 : 1;
  }
  return index + 1;
}

/** The parts between the commas of the outermost bracket. */
function partsOf(text: string): Part[] {
  const first = text.search(/\S/) + 1;
  const last = text.trimEnd().length - 1;
  const parts: Part[] = [];
  let start = first;
  while (start < last && text.slice(start, last).trim() !== '') {
    const end = skipValue(text, start);
    parts.push({ start, end });
    start = end + 1;
  }
  return parts;
}

/** The texts of an array's items. */
export function itemsOf(text: string): string[] {
  if (!Array.isArray(JSON.parse(text))) {
    throw new SyntaxError('not a JSON list');
  }
  return partsOf(text).map(({ start, end }) => text.slice(start, end).trim());
}

/** Names and value texts of an object, in the order written, names given twice included. */
export function entriesOf(text: string): [string, string][] {
  const value: unknown = JSON.parse(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SyntaxError('not a JSON object');
  }
  return partsOf(text).map(({ start, end }) => {
    const quote = text.indexOf('"', start);
    const colon = skipString(text, quote);
    const name = JSON.parse(text.slice(quote, colon)) as string;
    return [name, text.slice(text.indexOf(':', colon) + 1, end).trim()];
  });
}

/** Whether the text is one JSON value. */
export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
