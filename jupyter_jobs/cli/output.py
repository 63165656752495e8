"""How the terminal shows things: one word, one sign and one colour per state; tables; times."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.text import Text

from jupyter_jobs.client import Client
from jupyter_jobs.lifecycle import ACTIVE, STATE_LETTERS
from jupyter_jobs.model import Finding, Job, LivePath, Run

if TYPE_CHECKING:
    from rich.table import Table

SIGNS: dict[str, tuple[str, str]] = {
    "created": ("·", "dim"),
    "queued": ("○", "cyan"),
    "init": ("◔", "blue"),
    "running": ("●", "blue"),
    "canceling": ("◌", "yellow"),
    "complete": ("✓", "green"),
    "failed": ("✗", "red"),
    "canceled": ("⊘", "yellow"),
}
BY_LETTER = {letter: state for state, letter in STATE_LETTERS.items()}

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def print_json(value: object) -> None:
    """What REST would return, as JSON with an indent."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.flush()


def state_text(state: str | None) -> Text:
    """`✓ complete`, in its colour."""
    if state is None:
        return Text("empty", "dim")
    sign, colour = SIGNS[state]
    return Text(f"{sign} {state}", colour)


def waits_text(reason: str) -> str:
    """What the run whose turn it is waits for; empty if for nothing that is known."""
    what = {"disk": "room on the disk (`jupyter jobs delete` makes some)", "memory": "memory", "cpu": "cores"}.get(reason)
    return f"waits for {what}" if what else ""


def strip_text(strip: str, limit: int = 60) -> Text:
    """The runs in grid order, a sign each."""
    text = Text()
    for letter in strip[:limit]:
        sign, colour = SIGNS[BY_LETTER[letter]]
        text.append(sign, colour)
    if len(strip) > limit:
        text.append("…", "dim")
    return text


def counts_text(job: Job) -> str:
    """`4 of 6 complete, 1 failed`."""
    parts = [f"{job.counts.get('complete', 0)} of {job.total} complete"]
    parts += [f"{job.counts[state]} {state}" for state in ("failed", "canceled", "running", "init", "queued") if job.counts.get(state)]
    return ", ".join(parts)


def canceling_text(client: Client, job: Job) -> Text | None:
    """`◌ canceling 2 runs`; None where nobody asked for the end of a run under way."""
    if not any(job.counts.get(state) for state in ACTIVE):
        return None
    asked = sum(run.status == "canceling" for run in client.runs(job.id, state=sorted(ACTIVE), limit=1000).runs)
    return Text(f"{SIGNS['canceling'][0]} canceling {asked} run{'s' * (asked != 1)}", SIGNS["canceling"][1]) if asked else None


def seconds_text(seconds: float | None) -> str:
    """`0.4 s`, `38 s`, `2:05`, `1:02:05`."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago_text(at: datetime) -> str:
    """`3 min ago`; the date after a day."""
    # a clock may have been set back since
    seconds = max(0.0, (datetime.now(UTC) - at).total_seconds())
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h ago"
    return at.astimezone().strftime("%Y-%m-%d %H:%M")


def time_text(at: datetime) -> str:
    """A time of day here; with the date when that is not today's."""
    local = at.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S")


def bytes_text(count: int | None) -> str:
    """`3.1 MB`, in powers of 1000."""
    if count is None:
        return ""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def value_text(value: object) -> str:
    """A recorded value or a parameter, short."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 40 else text[:39] + "…"


def print_findings(findings: Iterable[Finding]) -> None:
    """What to know beforehand, on standard error."""
    colours = {"error": "red", "warning": "yellow", "note": "dim"}
    for finding in findings:
        errors.print(Text(f"{finding.level}: {finding.message}", colours[finding.level]))
        if finding.mend:
            errors.print(Text(f"  → {finding.mend}", "dim"))


def live_text(path: LivePath) -> str:
    """A live path with what was there."""
    facts = [f"{path.files} files" if path.files is not None else "", bytes_text(path.bytes)]
    if path.modified:
        facts.append(f"newest of {path.modified.astimezone():%Y-%m-%d %H:%M}")
    known = ", ".join(fact for fact in facts if fact)
    return f"{path.path}{' (writable)' if path.writable else ''}" + (f": {known}" if known else "")


def runs_table(job: Job, runs: Sequence[Run]) -> Table:
    """Runs with their parameters and recorded values as columns."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("run", no_wrap=True)
    table.add_column("state", no_wrap=True)
    names = list(dict.fromkeys(name for run in runs for name in run.parameters))
    records = list(dict.fromkeys([*job.record, *(name for run in runs for name in run.records)]))
    for name in names:
        table.add_column(name)
    for name in records:
        table.add_column(name, justify="right", style="bold")
    table.add_column("time", justify="right")
    table.add_column("")
    for run in runs:
        table.add_row(
            run.id,
            state_text(run.status),
            *(value_text(run.parameters[name]) if name in run.parameters else "–" for name in names),
            *(value_text(run.records[name]) if name in run.records else "–" for name in records),
            seconds_text(run.duration),
            _remark(run),
        )
    return table


def print_runs(job: Job, runs: Sequence[Run]) -> None:
    """The table, and under it what to do about what failed, each thing once."""
    console.print(runs_table(job, runs))
    for mend in dict.fromkeys(run.error.mend for run in runs if run.error and run.error.mend):
        console.print(Text(f"→ {mend}", "dim"))


def _remark(run: Run) -> Text:
    if run.error:
        return Text(run.error.message, "red" if run.state == "failed" else "yellow")
    facts = []
    if run.attempt > 1 or (run.attempt and run.state == "queued"):
        facts.append(f"attempt {run.attempt + (run.state == 'queued')}")
    if run.state == "running":
        facts.append(f"cell {run.progress.done} of {run.progress.total}")
    if run.not_before is not None:
        facts.append(f"not before {time_text(run.not_before)}")
    if run.rerun_of:
        facts.append(f"again {run.rerun_of}")
    return Text(", ".join(facts), "dim")
