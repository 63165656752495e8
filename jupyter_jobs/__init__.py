"""jupyter_jobs: run notebooks as jobs. Light to import: everything heavy is imported where it is used."""

__version__ = "0.1.0"
