// The release build: vendored assets when their script is there, TypeScript, then the federated bundle.
// `jupyter-builder` is a Python command of the build environment; this runs it the way npm's scripts would.
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';

function run(command, ...args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', shell: process.platform === 'win32' });
  if (error) {
    console.error(`${command}: ${error.message}`);
  }
  if (status !== 0) {
    process.exit(status ?? 1);
  }
}

rmSync('lib', { recursive: true, force: true });
rmSync('tsconfig.tsbuildinfo', { force: true });
if (existsSync('vendor.mjs')) {
  run(process.execPath, 'vendor.mjs');
}
run('tsc');
run('jupyter-builder', 'build', '.');
