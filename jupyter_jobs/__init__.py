"""jupyter_jobs: run notebooks as jobs. Light to import: everything heavy is imported where it is used."""

from jupyter_jobs.recording import record

__all__ = ["record"]

__version__ = "0.1.0"


def _jupyter_server_extension_points() -> list[dict[str, object]]:
    from jupyter_jobs.app import JobsApp

    return [{"module": "jupyter_jobs.app", "app": JobsApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "labextension", "dest": "jupyter-jobs"}]
