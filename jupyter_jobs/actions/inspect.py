"""What is known about a notebook before a job is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_jobs.model import Combinations, CombinationsRequest, Inspection

if TYPE_CHECKING:
    from jupyter_jobs.actions.context import Context


def inspect_notebook(context: Context, path: str) -> Inspection:
    """Kernel, parameters, grid beside it, project and findings of the notebook at a contents path."""
    raise NotImplementedError


def expand_combinations(context: Context, request: CombinationsRequest) -> Combinations:
    """The combinations of a grid text as the form has it now; the first 1000 of them."""
    raise NotImplementedError
