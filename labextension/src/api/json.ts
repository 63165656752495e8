/** A JSON value as we read it: whole numbers that JavaScript's `number` cannot hold are `bigint`. */
export type Json = null | boolean | number | bigint | string | Json[] | { [key: string]: Json };

// A private-use character that marks a number written as a string on its way through JSON.parse; no server text begins with it.
const MARK = '\uE00B';
const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

function isUnsafeInteger(text: string): boolean {
  return /^-?\d{16,}$/.test(text) && !Number.isSafeInteger(Number(text));
}

/** Parse JSON without losing the digits of 64-bit integers. Throws SyntaxError. */
export function parseJson(text: string): Json {
  if (!/\d{16}/.test(text)) {
    return JSON.parse(text) as Json;
  }
  const marked = text.replace(TOKEN, token => (isUnsafeInteger(token) ? `"${MARK}${token}"` : token));
  return JSON.parse(marked, (_, value: Json) =>
    typeof value === 'string' && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value
  ) as Json;
}

/** The JSON text of a value, `bigint` included. `spaced` puts a space after commas and colons, as people write short values. */
export function stringifyJson(value: unknown, spaced = false): string {
  if (typeof value === 'bigint') {
    return value.toString();
  }
  if (Array.isArray(value)) {
    return `[${value.map(item => stringifyJson(item, spaced)).join(spaced ? ', ' : ',')}]`;
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([key, item]) => `${JSON.stringify(key)}:${spaced ? ' ' : ''}${stringifyJson(item, spaced)}`);
    return `{${entries.join(spaced ? ', ' : ',')}}`;
  }
  return JSON.stringify(value ?? null);
}
