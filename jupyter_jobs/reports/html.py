"""An executed notebook as read-only HTML that asks no outside host for anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jupyter_jobs.model import Json

Banner = Mapping[str, Json]


def render_html(
    notebook: Path, *, assets: str = "inline", banner: Banner | None = None, files_root: Path | None = None, theme: str = "auto", title: str = ""
) -> str:
    """The page. `assets`: `inline` for one self-contained file, else the URL below which `vendor/` is served."""
    raise NotImplementedError


def cached_html(
    notebook: Path,
    cache_dir: Path,
    *,
    assets: str = "inline",
    banner: Banner | None = None,
    files_root: Path | None = None,
    theme: str = "auto",
    title: str = "",
) -> Path:
    """The file of the page, rendered if it is not in `cache_dir` yet."""
    raise NotImplementedError
