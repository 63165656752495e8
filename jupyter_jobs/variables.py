"""Which of the submitter's environment variables a job's runs get. Pure.

Kept is what a kernel started by hand would see, credentials of the person's own services among them (a notebook that reads a bucket needs
them; they lie in a file of mode 0600 and are never shown). Left out is what belongs to Jupyter's own doors (tokens and addresses of servers,
hubs, gateways and proxies), what is ours, and what describes the terminal, shell or unit that submitted and means nothing hours later.
`SSH_AUTH_SOCK` and `DISPLAY` stay: they work as long as what they name lives, and fail with a clear message after that.
"""

from __future__ import annotations

from collections.abc import Mapping

DENIED_PREFIXES = (
    "JPY_",
    "JUPYTERHUB_",
    "JUPYTER_JOBS_",
    "JUPYTER_GATEWAY_",
    "JUPYTER_SERVER_",
    "NBGITPULLER_",
    "SYSTEMD_",
    "TMUX",
    "WATCHDOG_",
    "XDG_SESSION_",
    "LISTEN_FD",
)
DENIED_NAMES = frozenset(
    {"_", "COLUMNS", "LINES", "OLDPWD", "PWD", "SHLVL", "STY", "WINDOWID", "__PYVENV_LAUNCHER__"}
    | {"CONFIGPROXY_AUTH_TOKEN", "JUPYTER_PASSWORD", "JUPYTER_TOKEN"}
    | {"DBUS_SESSION_BUS_ADDRESS", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "XDG_SEAT", "XDG_VTNR"}
    | {"CREDENTIALS_DIRECTORY", "INVOCATION_ID", "JOURNAL_STREAM", "LISTEN_PID", "MAINPID", "NOTIFY_SOCKET"}
)
_SECRET_ENDINGS = ("TOKEN", "SECRET", "PASSWORD", "COOKIE", "API_KEY")


def is_denied(name: str) -> bool:
    """Whether a variable of this name is never handed to a run."""
    upper = name.upper()
    return (
        upper in DENIED_NAMES or upper.startswith(DENIED_PREFIXES) or (upper.startswith(("JUPYTER", "NOTEBOOK_")) and upper.endswith(_SECRET_ENDINGS))
    )


def submitted(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a job's runs get, by name. Those that are no text (`not_text`) are left out."""
    refused = set(not_text(environment))
    return {name: environment[name] for name in sorted(environment) if name not in refused and not is_denied(name)}


def not_text(environment: Mapping[str, str]) -> list[str]:
    """Names of variables that cannot be kept because they hold bytes that are no UTF-8."""
    return sorted(name for name, value in environment.items() if not is_denied(name) and not _is_text(name + value))


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
