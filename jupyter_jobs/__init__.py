"""jupyter_jobs: run notebooks as jobs. Light to import: everything heavy is imported where it is used."""

from jupyter_jobs.recording import record
from jupyter_jobs.version import __version__

__all__ = ["__version__", "record"]


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    from jupyter_jobs.app import JobsApp

    return [{"module": "jupyter_jobs.app", "app": JobsApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "jupyter-jobs"}]


def load_ipython_extension(shell: object) -> None:
    """`%load_ext jupyter_jobs` adds the `%job` magic."""
    from jupyter_jobs import magic

    magic.load_ipython_extension(shell)
