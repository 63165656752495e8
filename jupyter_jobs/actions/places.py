"""Where things lie below the data directory."""

from __future__ import annotations

from pathlib import Path


def jobs_dir(data_dir: Path) -> Path:
    """Folder of all jobs' own files."""
    return data_dir / "jobs"


def job_dir(data_dir: Path, job: str) -> Path:
    """A job's own files: `variables.json`, `notebook.ipynb`, `job.json`."""
    return jobs_dir(data_dir) / job


def runs_dir(data_dir: Path, job: str) -> Path:
    """Folder of all run directories of a job."""
    return data_dir / "runs" / job


def html_dir(data_dir: Path) -> Path:
    """Folder of the rendered pages of all jobs, a folder for each."""
    return data_dir / "html"


def run_dir(data_dir: Path, run: str, attempt: int) -> Path:
    """The run directory of an attempt of run `<job>-<number>`."""
    job, _, number = run.rpartition("-")
    return runs_dir(data_dir, job) / number / str(attempt)
