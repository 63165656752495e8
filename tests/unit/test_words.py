"""The words of the command line: times, retries, and that `%job` reads the same ones."""

from __future__ import annotations

import argparse
from typing import get_type_hints

import pytest
from IPython.core.error import UsageError

from jupyter_jobs import requests
from jupyter_jobs.actions.usage import LEAST_MEMORY
from jupyter_jobs.cli import PRIORITIES, RETRIES, RUNS_AT_A_TIME, build_parser, quantities
from jupyter_jobs.cli.quantities import duration
from jupyter_jobs.cli.run import retries
from jupyter_jobs.errors import BadInput
from jupyter_jobs.magic import COMMANDS, read_line
from jupyter_jobs.model import MONTH
from jupyter_jobs.requests import AskRetries


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1.5", 1.5), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172800), ("1m30s", 90)])
def test_times(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "soon", "-5", "1x", "10m10m", "m", "1e3", "٣"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)


def test_retries() -> None:
    def asked(*words: str) -> AskRetries | None:
        return retries(build_parser().parse_args(["run", "n.ipynb", *words]))

    assert asked() is None
    assert asked("--retries", "3") == AskRetries(attempts=3)
    more = ("--retry-delay", "1m", "--retry-backoff", "exponential", "--retry-on", "kernel_died, memory_error")
    assert asked("--retries", "3", *more) == AskRetries(attempts=3, delay=60, backoff="exponential", on=["kernel_died", "memory_error"])
    assert asked("--retries", "1", "--retry-on", "any") == AskRetries(attempts=1)
    with pytest.raises(BadInput, match="--retry-delay"):
        asked("--retry-delay", "1m")
    with pytest.raises(BadInput, match="--retry-delay says nothing with --retries 0"):
        asked("--retries", "0", "--retry-delay", "1m")


def test_the_magic_reads_them_too() -> None:
    lines = [
        "run n.ipynb --retries 2 --retry-delay 30s --fail-fast --priority 3",
        "rerun 4f1c9a2b --failed",
        "add 4f1c9a2b -p n 1",
        "queue pause",
        "priority 4f1c9a2b -7",
        "extend 4f1c9a2b-1 10m",
    ]
    for line in lines:
        assert vars(read_line(line)) == vars(build_parser().parse_args(line.split()))
    assert {"rerun", "add", "extend", "priority", "queue"} <= set(COMMANDS)
    with pytest.raises(UsageError, match="no time"):
        read_line("extend 4f1c9a2b-1 soon")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run n.ipynb --retries -1", "--retries: must be from 0 to 20"),
        ("run n.ipynb --retries 21", "--retries: must be from 0 to 20"),
        ("run n.ipynb --retries many", "--retries: must be from 0 to 20"),
        ("run n.ipynb --priority 1000", "--priority: must be from -100 to 100"),
        ("run n.ipynb --max-parallel -1", "--max-parallel: must be from 0 to 10000"),
        ("run n.ipynb --memory 10", "--memory: 64Mi at least; did you mean 10G?"),
        ("run n.ipynb --memory 100", "--memory: 64Mi at least; did you mean 100M or 100G?"),
        ("run n.ipynb --memory 1M", "--memory: 64Mi at least"),
        ("run n.ipynb --time-limit 0", "--time-limit: TIME must be above 0"),
        ("run n.ipynb --cell-timeout 0s", "--cell-timeout: TIME must be above 0"),
        ("run n.ipynb --cpu 0", "--cpu: must be above 0"),
        ("run n.ipynb --storage 0", "--storage: must be above 0"),
        ("run n.ipynb --retries 1 --retry-delay 40d", "--retry-delay: TIME must be 31d at most"),
        ("run n.ipynb --no-grid -g x.json", "not allowed with argument"),
        ("list --limit 0", "--limit: must be from 1 to 1000"),
        ("priority 4f1c9a2b 500", "N: must be from -100 to 100"),
        ("priority 4f1c9a2b-1 5", "4f1c9a2b-1 is a run; name its job: 4f1c9a2b"),
        ("extend 4f1c9a2b-1 0", "TIME must be above 0"),
        ("extend 4f1c9a2b-1 -5m", "TIME must be above 0"),
        ("extend 4f1c9a2b-1 40d", "TIME must be 31d at most"),
        ("extend 4f1c9a2b 5m", "4f1c9a2b is a job; name a run of it, like 4f1c9a2b-1"),
        ("usage 4f1c9a2b", "4f1c9a2b is a job; name a run of it, like 4f1c9a2b-1"),
        ("runs 4f1c9a2b --sort nonsense", "'-duration'"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_typed(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        build_parser().parse_args(line.split())
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_the_ranges_are_those_of_rest() -> None:
    def meta(annotated: object) -> object:
        return annotated.__metadata__[0]  # type: ignore[attr-defined]

    for (least, most), annotated in (
        (PRIORITIES, requests.Priority),
        (RUNS_AT_A_TIME, requests.MaxParallel),
        (RETRIES, get_type_hints(requests.AskRetries, include_extras=True)["attempts"]),
    ):
        assert (meta(annotated).ge, meta(annotated).le) == (least, most)  # type: ignore[attr-defined]
    assert quantities.LEAST_MEMORY == LEAST_MEMORY
    assert quantities.MONTH == MONTH
