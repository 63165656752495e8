#!/usr/bin/env bash
# Writes what is generated from the Python structs, or with --check fails when it is not up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
python -m jupyter_jobs.api > docs/openapi.json
(cd labextension && npm run --silent generate)
if [ "${1:-}" = --check ] && ! git diff --exit-code --stat -- docs/openapi.json labextension/src/api; then
  echo "Generated files differ from what is committed: run 'make generate' and commit." >&2
  exit 1
fi
