"""What a run needs before it can start: its frozen environment as it was, and its run directory."""

from __future__ import annotations

from pathlib import Path

import msgspec

from jupyter_jobs.actions.run_spec import RunFacts, make_run
from jupyter_jobs.dispatcher.state import Active, Dispatch, log
from jupyter_jobs.errors import JobsError
from jupyter_jobs.runner import rundir
from jupyter_jobs.settings import Jobs
from jupyter_jobs.store.jobs import Frozen


class EnvironmentCheck(msgspec.Struct, frozen=True):
    """A frozen environment that must be as it was; what has drifted may be accepted, an interpreter that is gone cannot."""

    digest: str
    accept_drift: bool


class EnvironmentDrifted(JobsError):
    """The frozen environment is not what it was when the job was made."""

    status = 409
    code = "environment_drifted"


def environment_of(frozen: Frozen) -> EnvironmentCheck | None:
    """What is to be checked before a run of the job starts; None where no environment was frozen."""
    return EnvironmentCheck(frozen.environment, frozen.spec.accept_drift) if frozen.environment else None


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


def write_run(dispatch: Dispatch, active: Active, frozen: Frozen) -> str:
    """Make the run directory (0700) with `run.json`; the kind of workspace. Raises what `make_run` raises, and `OSError`."""
    facts = RunFacts(run=active.run, attempt=active.attempt, parameters=active.parameters, label=active.label, job=frozen)
    spec = make_run(facts, dispatch.settings, parallel=dispatch.parallel)
    active.directory.mkdir(mode=0o700, parents=True)
    rundir.write_spec(active.directory, spec)
    return spec.workspace.mode
