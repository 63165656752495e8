"""The words of the command line: times, retries, and that `%job` reads the same ones."""

from __future__ import annotations

import argparse

import pytest
from IPython.core.error import UsageError

from jupyter_jobs.cli import build_parser, duration
from jupyter_jobs.cli.run import retries
from jupyter_jobs.errors import BadInput
from jupyter_jobs.magic import COMMANDS, read_line
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
