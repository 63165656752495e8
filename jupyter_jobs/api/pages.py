"""A run's executed notebook as a page: which files it may show, what its banner says."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from jupyter_jobs.actions.context import Context
from jupyter_jobs.actions.jobs import show_job
from jupyter_jobs.actions.places import html_dir
from jupyter_jobs.actions.results import run_directory, run_notebook
from jupyter_jobs.actions.runs import as_it_was, show_run
from jupyter_jobs.reports.cache import Shelf, find_page, make_page
from jupyter_jobs.reports.html import Banner, Look, Theme
from jupyter_jobs.runner.workspace import artifact_root

ASSETS = "../../../../static/jupyter_jobs/vendor"
"""From `<base_url>jupyter-jobs/api/runs/<run>/html` to what `static/vendor` holds, wherever the server's base URL is."""


DOWNLOAD = "notebook"
"""From there to the notebook itself."""


def page_of(context: Context, run: str, *, inline: bool, theme: Theme, attempt: int = 0) -> Path:
    """The file of the page, rendered if it is not yet. Raises `NotFound` for a run without a notebook, `BadInput`, `Unavailable`."""
    found = show_run(context, run)
    job = show_job(context, found.job)
    directory = run_directory(context, found.id, attempt)
    if 0 < attempt < found.attempt:
        found = as_it_was(context, found, attempt)
    banner: Banner = {
        "run": found.number,
        "job": job.name,
        "label": found.label,
        "state": found.status,
        "snapshot": job.snapshot,
        "at": (found.ended_at or found.started_at or found.created_at).isoformat(),
        "error": found.error.message if found.error else "",
        "cell": found.error.cell.id if found.error and found.error.cell else "",
    }
    look: Look = {
        "assets": "inline" if inline else ASSETS,
        "banner": banner,
        "files_root": [artifact_root(directory), context.data_dir / "snapshots" / job.snapshot / "tree"],
        "folder": str(PurePosixPath(job.notebook).parent),
        "theme": theme,
        "title": f"{job.name} · {found.label or found.id}",
        "download": "" if inline else f"{DOWNLOAD}?attempt={attempt}" if attempt else DOWNLOAD,
    }
    shelf = Shelf(html_dir(context.data_dir), job.id, f"{found.number}.{found.attempt}", context.settings.html_cache_max_bytes)
    notebook = run_notebook(context, found.id, attempt)
    return find_page(shelf, notebook, **look) or context.render(make_page, shelf, notebook, **look)
