"""What a run needs before it can start: its frozen environment as it was, and its run directory."""

from __future__ import annotations

from pathlib import Path

import msgspec
from sqlalchemy import Connection

from jupyter_jobs.actions.run_spec import facts_of, make_run
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError
from jupyter_jobs.runner import rundir
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store import jobs
from jupyter_jobs.store.database import read


class EnvironmentCheck(msgspec.Struct, frozen=True):
    """A frozen environment that must be as it was; what has drifted may be accepted, an interpreter that is gone cannot."""

    digest: str
    accept_drift: bool


class EnvironmentDrifted(JobsError):
    """The frozen environment is not what it was when the job was made."""

    status = 409
    code = "environment_drifted"


def environment_of(conn: Connection, job: str) -> EnvironmentCheck | None:
    """What is to be checked before a run of the job starts; None where no environment was frozen."""
    found, spec = jobs.get(conn, job), jobs.get_spec(conn, job)
    if found is None or spec is None or not found.environment:
        return None
    return EnvironmentCheck(found.environment, spec.accept_drift)


def check_environment(settings: Jobs, check: EnvironmentCheck) -> None:
    """Raises `EnvironmentDrifted` with what differs, one sentence each, in `files`; `NotFound` or `OSError` when it cannot be read."""
    from jupyter_jobs.snapshot.environment import verify_environment

    findings = [finding for finding in verify_environment(Path(settings.data_dir), check.digest) if finding.level == "error"]
    refused = [finding for finding in findings if finding.code != EnvironmentDrifted.code or not check.accept_drift]
    if len(refused) < len(findings):
        log.info("environment %s has drifted in %d places, which its job accepts", check.digest[:12], len(findings) - len(refused))
    if refused:
        first = refused[0]
        more = f" ({len(refused) - 1} more differences)" if len(refused) > 1 else ""
        raise EnvironmentDrifted(
            first.message + more,
            code=first.code,
            mend=first.mend,
            files=[finding.path for finding in refused if finding.path],
            changes=[finding.message for finding in refused],
        )


def write_run(dispatch: Dispatch, active: Active) -> str:
    """Make the run directory (0700) with `run.json`; the kind of workspace. Raises what `make_run` raises, and `OSError`."""
    with read(dispatch.ledger.engine) as conn:
        facts = facts_of(conn, active.run)
    spec = make_run(facts, dispatch.settings, active.attempt, parallel=dispatch.parallel)
    active.directory.mkdir(mode=0o700, parents=True)
    rundir.write_spec(active.directory, spec)
    return spec.workspace.mode
