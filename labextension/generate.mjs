// Writes src/api/schema.ts from the committed OpenAPI document, so that the wire types have one definition (jupyter_jobs/model.py).
// `node generate.mjs [openapi.json [schema.ts]]`; `--check` writes nothing and fails when the file would differ.
import { readFileSync, writeFileSync } from 'node:fs';

const check = process.argv.includes('--check');
const [source = '../docs/openapi.json', target = 'src/api/schema.ts'] = process.argv
  .slice(2)
  .filter(argument => argument !== '--check');

const { schemas } = JSON.parse(readFileSync(new URL(source, import.meta.url), 'utf8')).components;

/** The TypeScript type of a JSON schema. */
function typeOf(schema) {
  if (schema.$ref) {
    return schema.$ref.split('/').pop();
  }
  if ('const' in schema) {
    return JSON.stringify(schema.const);
  }
  if (schema.enum) {
    return schema.enum.map(value => JSON.stringify(value)).join(' | ');
  }
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) {
    return choices.map(typeOf).join(' | ');
  }
  switch (schema.type) {
    case 'array': {
      const item = schema.items ? typeOf(schema.items) : 'Json';
      return item.includes(' ') ? `(${item})[]` : `${item}[]`;
    }
    case 'object':
      return `{ [key: string]: ${typeof schema.additionalProperties === 'object' ? typeOf(schema.additionalProperties) : 'Json'} }`;
    case 'integer':
    case 'number':
      return 'number';
    case 'string':
    case 'boolean':
    case 'null':
      return schema.type;
    case undefined:
      return 'Json';
    default:
      throw new Error(`No TypeScript type for ${JSON.stringify(schema)}`);
  }
}

function comment(text) {
  if (!text) {
    return '';
  }
  const lines = text.split('\n').map(line => ` * ${line.trim()}`.trimEnd());
  return `/**\n${lines.join('\n')}\n */\n`;
}

/** Answers always carry every field; a request (it forbids unknown ones) may leave out those with a default. */
function declaration(name, schema) {
  if (!schema.properties) {
    return `${comment(schema.description)}export type ${name} = ${typeOf(schema)};\n`;
  }
  const isRequest = schema.additionalProperties === false;
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties).map(
    ([field, value]) => `  ${field}${isRequest && !required.has(field) ? '?' : ''}: ${typeOf(value)};`
  );
  return `${comment(schema.description)}export interface ${name} {\n${fields.join('\n')}\n}\n`;
}

const text = [
  '// Generated from docs/openapi.json by `npm run generate`; do not edit.\n',
  "import type { Json } from './json';\n",
  ...Object.keys(schemas)
    .sort()
    .map(name => declaration(name, schemas[name]))
].join('\n');

const file = new URL(target, import.meta.url);
if (!check) {
  writeFileSync(file, text);
} else if (readFileSync(file, 'utf8') !== text) {
  console.error(`${target} differs from ${source}: run \`npm run generate\``);
  process.exit(1);
}
