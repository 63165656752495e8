"""What a run used of the machine, and whether what a job asks for is there at all."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from jupyter_jobs import resources
from jupyter_jobs.actions.context import Context
from jupyter_jobs.actions.places import run_dir
from jupyter_jobs.actions.runs import find_run
from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import CellRef, CellTime, Resources, Usage, UsageSample
from jupyter_jobs.runner import rundir
from jupyter_jobs.store import jobs
from jupyter_jobs.store.database import read

LEAST_MEMORY = 64 << 20
"""A Python kernel alone takes about so many bytes."""


def run_usage(context: Context, run: str) -> Usage:
    """What a run's present attempt has used so far. Nothing was sampled of one that took less than half a second. Raises `NotFound`."""
    with read(context.engine) as conn:
        found = find_run(conn, run)
        spec = jobs.get_spec(conn, found.job)
    directory = run_dir(context.data_dir, found.id, max(1, found.attempt))
    try:
        result = rundir.read_result(directory)
    except (OSError, msgspec.MsgspecError):
        # the run's own page says so
        result = None
    return Usage(
        run=found.id,
        attempt=found.attempt,
        samples=_samples(directory),
        cells=_cells(directory, result.ended_at if result else None),
        limits=spec.request.resources if spec else Resources(),
        peak_memory=found.peak_memory,
        cpu_seconds=result.cpu_seconds if result else None,
    )


def check_resources(asked: Resources) -> None:
    """Raises `BadInput` for figures that make no sense (`bad_limit`) or that this machine never has (`resources_never_fit`)."""
    for name in ("cpu", "memory", "storage"):
        value = getattr(asked, name)
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(
                f"`resources.{name}` is {value}.", code="bad_limit", mend="Give a number above 0, or leave it out.", field=f"resources.{name}"
            )
    if asked.memory is not None and asked.memory < LEAST_MEMORY:
        message = f"{asked.memory} bytes of memory are too few for any kernel."
        raise BadInput(message, code="bad_limit", mend=f"Allow {LEAST_MEMORY} bytes or more.", field="resources.memory")
    cores, memory = resources.core_share(), resources.usable_memory()
    if asked.cpu is not None and asked.cpu > cores:
        message = f"A run is to have {asked.cpu:g} cores, and there are {cores:g} that jobs may use."
        raise BadInput(message, code="resources_never_fit", mend="Ask for fewer.", field="resources.cpu", asked=asked.cpu, usable=cores)
    if asked.memory is not None and asked.memory > memory:
        message = f"A run is to have {_gigabytes(asked.memory)} of memory, and there are {_gigabytes(memory)} that jobs may use."
        raise BadInput(message, code="resources_never_fit", mend="Ask for less.", field="resources.memory", asked=asked.memory, usable=memory)


def _gigabytes(count: int) -> str:
    return f"{math.floor(count / 10**7) / 100:g} GB"


def _samples(directory: Path) -> list[UsageSample]:
    try:
        found, _ = rundir.read_records(directory / rundir.USAGE, rundir.UsageSample)
    except (OSError, msgspec.MsgspecError):
        return []
    return [msgspec.convert(msgspec.structs.asdict(sample), UsageSample) for sample in found]


def _cells(directory: Path, ended: float | None) -> list[CellTime]:
    """When each cell ran: from its event of progress to the next one."""
    try:
        events, _ = rundir.read_records(directory / rundir.EVENTS, rundir.RunEvent)
    except (OSError, msgspec.MsgspecError):
        return []
    progress = [event for event in events if event.kind == "progress"]
    ends = [*(event.at for event in progress[1:]), ended]
    return [
        CellTime(cell=CellRef(id=event.cell.id, number=event.cell.number), started_at=event.at, ended_at=end)
        for event, end in zip(progress, ends, strict=bool(progress))
        if event.cell
    ]
