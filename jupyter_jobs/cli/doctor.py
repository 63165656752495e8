"""`jupyter jobs doctor`: what is wrong, what mends it, and, with `--repair`, mending it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from jupyter_jobs.actions import leftovers
from jupyter_jobs.actions.context import Context, local_context
from jupyter_jobs.actions.health import health as health_of
from jupyter_jobs.actions.leftovers import Repair
from jupyter_jobs.cli import FAILED, OK
from jupyter_jobs.cli.output import console, print_findings, print_json
from jupyter_jobs.cli.service import print_status
from jupyter_jobs.client import connect
from jupyter_jobs.dispatcher import process
from jupyter_jobs.errors import BadInput, JobsError
from jupyter_jobs.model import Finding, Health
from jupyter_jobs.settings import Jobs, load_settings
from jupyter_jobs.store import integrity
from jupyter_jobs.store.database import SCHEMA_VERSION, open_store, shown, unopened
from jupyter_jobs.store.refusal import corrupt, refusal, refusal_of_system
from jupyter_jobs.store.salvage import salvage

HELD_SECONDS = 2.0
"""After so long without the right to write, somebody keeps it."""
FOR_THE_DISPATCHER = {"nobody_follows", "result_not_taken_in"}
"""What a dispatcher mends, once one runs."""


def doctor(args: argparse.Namespace) -> int:
    """What is stored where, and what could be better. Exit code 1 when something is wrong and stays so."""
    if args.url:
        if args.repair:
            raise BadInput("Only the store of this machine can be repaired.", mend="Leave out --url; run it where the store lies.", field="repair")
        with connect(args.url) as client:
            return _report(client.health(), [], args.json)
    settings = load_settings()
    repairs: list[Repair] = []
    try:
        context = local_context(settings, lambda: None)
    except JobsError as error:
        if error.code == "no_room":
            return _report(_without_store(settings, error), [], args.json)
        if not args.repair or error.code != "store_corrupt":
            raise
        repairs.append(_salvage(settings, error))
        context = local_context(settings, lambda: None)
    try:
        found = _damage(context)
        if found is not None and args.repair:
            context.engine.dispose()
            repairs.append(_salvage(settings, found))
            found = None
        if args.repair:
            repairs += _repair(context, settings)
        health = health_of(context)
        left = [trouble.finding for trouble in leftovers.troubles(context.engine, context.data_dir)]
        damage = [] if found is None else [Finding(code="store_corrupt", level="error", message=found.message, mend=found.mend)]
        return _report(msgspec.structs.replace(health, findings=[*damage, *_held(context), *health.findings, *left]), repairs, args.json)
    except (DBAPIError, sqlite3.Error) as error:
        raise refusal(shown(context.engine), error) from None
    finally:
        context.engine.dispose()


def _without_store(settings: Jobs, error: JobsError) -> Health:
    """What can be said without the store, which did not open."""
    context = local_context(settings, lambda: None, unopened(settings.data_dir, settings.db_url))
    return health_of(context, (error, process.dispatcher_status(settings)))


def _damage(context: Context) -> JobsError | None:
    """The full check, which opening leaves out."""
    path = context.engine.url.database
    if context.engine.dialect.name != "sqlite" or not path:
        return None
    problems = integrity.problems_of(Path(path), quick=False)
    return corrupt(path, "; ".join(problems)) if problems else None


def _held(context: Context) -> list[Finding]:
    """Whether somebody keeps everybody else from writing, and who may that be."""
    path = str(context.engine.url.database)
    if context.engine.dialect.name != "sqlite" or not integrity.is_held(Path(path), HELD_SECONDS):
        return []
    names = []
    for each in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if each.pid != os.getpid() and any(file.path == path for file in each.open_files()):
                names.append(f"{each.pid} ({each.name()})")
    who = f" These have it open: {', '.join(names)}." if names else ""
    message = f"Another process has been writing to the store for more than {HELD_SECONDS:g} s.{who}"
    return [Finding(code="store_busy", level="warning", message=message, mend="Wait for it, or end it if it hangs; runs go on meanwhile.", path=path)]


def _salvage(settings: Jobs, error: JobsError) -> Repair:
    data_dir = Path(settings.data_dir).absolute()
    path = Path(str(make_url(settings.db_url).database)) if settings.db_url else data_dir / "jobs.sqlite"
    # its runs go on; the next one finds them
    process.stop_dispatcher(settings)
    try:
        saved = salvage(path, SCHEMA_VERSION)
    except OSError as failure:
        raise refusal_of_system(path, failure) from failure
    except sqlite3.Error as failure:
        raise refusal(path, failure) from failure
    engine = open_store(data_dir, settings.db_url)
    try:
        aside = leftovers.keep_aside(engine, data_dir, f"{datetime.now(UTC):%Y%m%dT%H%M%S}")
    finally:
        engine.dispose()
    lost = ", ".join(f"at most {count} of {table}" for table, count in saved.lost.items()) or "none"
    after = f"{sum(saved.rows.values())} rows were saved ({saved.rows.get('jobs', 0)} jobs, {saved.rows.get('runs', 0)} runs), lost: {lost}."
    after += f" The damaged store is {saved.kept}."
    if aside:
        after += f" Files of jobs that are no longer known are in {data_dir / 'kept-aside'}: {', '.join(aside[:5])}."
    if not saved.in_place:
        after += " Restart Jupyter servers that were running: they still have the old file open."
    return Repair(code="store_corrupt", before=error.message, after=after)


def _repair(context: Context, settings: Jobs) -> list[Repair]:
    done = []
    for trouble in leftovers.troubles(context.engine, context.data_dir):
        try:
            after = trouble.repair()
        except (DBAPIError, sqlite3.Error) as error:
            after = f"not mended: {refusal(shown(context.engine), error).message}"
        except (JobsError, OSError) as error:
            after = f"not mended: {error}"
        done.append(Repair(code=trouble.finding.code, before=trouble.finding.message, after=after))
    codes = {*(finding.code for finding in health_of(context).findings), *(repair.code for repair in done)}
    if codes & FOR_THE_DISPATCHER:
        status = process.ensure_dispatcher(settings)
        before = "Runs are active, and no dispatcher follows them."
        done.append(Repair(code="nobody_follows", before=before, after=f"a dispatcher runs now (pid {status.pid})"))
    return done


def _report(health: Health, repairs: list[Repair], as_json: bool) -> int:
    if as_json:
        print_json({"health": health, "repairs": repairs} if repairs else health)
    else:
        console.print(f"jupyter_jobs {health.version}, schema {health.schema}")
        console.print(f"store       {health.store}", markup=False)
        console.print(f"data        {health.data_dir}", markup=False)
        console.print(f"workspaces  {health.workspace}: {health.workspace_note}", markup=False)
        print_status(health.dispatcher, False)
        for repair in repairs:
            console.print(f"repaired    {repair.before}", markup=False)
            console.print(f"  → {repair.after}", markup=False)
        print_findings(health.findings)
        if not health.findings:
            console.print("nothing to mend", style="green")
    return FAILED if any(finding.level == "error" for finding in health.findings) else OK
