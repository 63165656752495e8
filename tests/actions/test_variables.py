"""Which variables a run gets."""

from __future__ import annotations

import pytest

from jupyter_jobs.variables import is_denied, not_text, submitted

# fmt: off
DENIED = [
    "JPY_API_TOKEN", "JPY_PARENT_PID", "JPY_SESSION_NAME", "JUPYTERHUB_API_TOKEN", "JUPYTERHUB_USER",
    "JUPYTER_TOKEN", "JUPYTER_SERVER_URL", "JUPYTER_SERVER_ROOT", "JUPYTER_GATEWAY_AUTH_TOKEN", "JUPYTER_JOBS_SECRET",
    "JUPYTER_JOBS_RUN", "JUPYTER_JOBS_DATA", "JUPYTERLAB_API_KEY", "CONFIGPROXY_AUTH_TOKEN", "NOTEBOOK_PASSWORD",
    "SSH_CONNECTION", "DBUS_SESSION_BUS_ADDRESS", "NOTIFY_SOCKET", "LISTEN_FDS", "INVOCATION_ID",
    "TMUX", "TMUX_PANE", "PWD", "OLDPWD", "SHLVL",
    "_", "COLUMNS", "XDG_SESSION_ID",
]
# fmt: on
# fmt: off
KEPT = [
    "PATH", "HOME", "LANG", "LC_ALL", "TZ",
    "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN",
    "GITHUB_TOKEN", "DATABASE_URL", "VIRTUAL_ENV", "CONDA_PREFIX", "SSH_AUTH_SOCK",
    "DISPLAY", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "JUPYTER_DATA_DIR", "JUPYTER_PATH",
    "JUPYTER_CONFIG_DIR", "OMP_NUM_THREADS",
]
# fmt: on


@pytest.mark.parametrize("name", DENIED)
def test_denied(name: str) -> None:
    assert is_denied(name)


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    assert not is_denied(name)


def test_values_stay_as_they_are() -> None:
    values = {"A": "", "B": "x=y\nz", "É": "ü", "JPY_TOKEN": "1"}
    assert submitted(values) == {"A": "", "B": "x=y\nz", "É": "ü"}


def test_bytes_that_are_no_text_are_left_out_and_named() -> None:
    values = {"GOOD": "x", "BAD": "\udcff", "BAD\udcfe": "x", "JPY_BAD": "\udcff"}
    assert submitted(values) == {"GOOD": "x"}
    assert not_text(values) == ["BAD", "BAD\udcfe"]
