// Copies the browser files that an executed notebook may need into ../jupyter_jobs/static/vendor, so that its HTML asks no outside host.
//
// npm packages, to be installed beside this script (devDependencies of package.json):
//   mathjax ^3.2.2 · requirejs ^2.3.7 · @jupyter-widgets/html-manager ^1.0.14 · mermaid ^11.4.0 · plotly.js-dist-min ^4.1.0
//
// Usage: node vendor.mjs [folder that holds node_modules] [target folder]
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(resolve(process.argv[2] ?? here), 'node_modules');
const target = resolve(process.argv[3] ?? join(here, '..', 'jupyter_jobs', 'static', 'vendor'));

const FILES = [
  { name: 'mathjax.js', npm: 'mathjax', path: 'es5/tex-svg-full.js' },
  { name: 'require.js', npm: 'requirejs', path: 'require.js' },
  { name: 'widgets.js', npm: '@jupyter-widgets/html-manager', path: 'dist/embed-amd.js', change: embedFonts },
  { name: 'mermaid.js', npm: 'mermaid', path: 'dist/mermaid.min.js' },
  { name: 'plotly.js', npm: 'plotly.js-dist-min', path: 'plotly.min.js' }
];

/** A sandboxed page has no origin, so it may not load fonts from any: woff2 goes in as data, the older formats are dropped. */
function embedFonts(text, folder) {
  return text.replace(/\b\w+\.p\+"([0-9a-f]{20}\.(woff2|woff|ttf|eot|svg))"/g, (_, file, kind) =>
    kind === 'woff2' ? `"data:font/woff2;base64,${readFileSync(join(folder, file)).toString('base64')}"` : '"data:,"'
  );
}

function licenseOf(folder) {
  const file = readdirSync(folder).find(name => /^licen[cs]e/i.test(name));
  return file ? readFileSync(join(folder, file), 'utf8').trim() : '';
}

const versions = {};
const licenses = [];
const missing = FILES.filter(file => !existsSync(join(modules, file.npm, file.path))).map(file => file.npm);
if (missing.length) {
  console.error(`vendor.mjs: not installed in ${modules}: ${missing.join(', ')}. Run npm install.`);
  process.exit(1);
}

const fresh = `${target}.new`;
rmSync(fresh, { recursive: true, force: true });
mkdirSync(fresh, { recursive: true });
for (const { name, npm, path, change } of FILES) {
  const folder = join(modules, npm);
  const { version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const source = join(folder, path);
  let text = readFileSync(source, 'utf8').replace(/^\/\/# sourceMappingURL=.*$/gm, '');
  text = change ? change(text, dirname(source)) : text;
  writeFileSync(join(fresh, name), text);
  versions[name] = { npm, version, sha256: createHash('sha256').update(text).digest('hex') };
  licenses.push(`${npm} ${version} (${license ?? 'see below'})\n\n${licenseOf(folder)}`);
}
writeFileSync(join(fresh, 'versions.json'), `${JSON.stringify(versions, null, 2)}\n`);
writeFileSync(join(fresh, 'LICENSES.txt'), `${licenses.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`);
rmSync(target, { recursive: true, force: true });
renameSync(fresh, target);
