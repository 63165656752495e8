#!/usr/bin/env bash
# The main job on the example, in a store of its own, so that nothing of yours is touched.
set -euo pipefail
cd "$(dirname "$0")/.."
# outside the checkout: the environment imports the package from there, so that the checkout is frozen with it
export JUPYTER_DATA_DIR="${JOBS_DEMO_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/jupyter_jobs_demo}"
bin="$PWD/.venv/bin"
export PATH="$bin:$PATH"
jupyter jobs run examples/churn/report.ipynb --record auc,loss --wait
job=$(jupyter jobs list --limit 1 --json | python -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["id"])')
echo
echo "Their pages, read-only:"
jupyter jobs html "$job" -o "$JUPYTER_DATA_DIR/html"
echo
echo "The same in JupyterLab:  JUPYTER_DATA_DIR=$JUPYTER_DATA_DIR make lab"
