"""Sizes, cores, times, numbers and ids as people write them on the command line.

All raise ArgumentTypeError, whose text is shown behind the option's name.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TypeVar

Count = TypeVar("Count", int, float)
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
LEAST_MEMORY = 64 << 20
"""Bytes, below which no kernel starts."""
MONTH = 31 * 86400
"""Seconds, the longest delay or extension."""


def whole(least: int, most: int) -> Callable[[str], int]:
    """Whole numbers in a range."""

    def number(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,9}", text, re.ASCII) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be from {least} to {most}, and not {text!r}")
        return int(text)

    return number


def job_id(text: str) -> str:
    """A job's id, and not a run's."""
    job, dash, number = text.rpartition("-")
    if dash and number.isdigit():
        raise argparse.ArgumentTypeError(f"{text} is a run; name its job: {job}")
    return text


def run_id(text: str) -> str:
    """A run's id, and not a job's."""
    if "-" not in text:
        raise argparse.ArgumentTypeError(f"{text} is a job; name a run of it, like {text}-1")
    return text


def duration(text: str) -> float:
    """`90`, `90s`, `10m`, `1h30m`, `2d` in seconds."""
    found = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip().lower(), re.ASCII)
    if found is None or not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write it like 90s, 10m or 1h30m")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def some_time(text: str) -> float:
    """A time above 0, in seconds."""
    seconds = 0.0 if re.match(r"-\d", text) else duration(text)
    if seconds <= 0:
        raise argparse.ArgumentTypeError("TIME must be above 0, like 90s, 10m or 1h30m")
    return seconds


def extension(text: str) -> float:
    """A time that a run may be given, in seconds."""
    return _within_a_month(some_time(text))


def delay(text: str) -> float:
    """A time to wait, also none, in seconds."""
    return _within_a_month(duration(text))


def _within_a_month(seconds: float) -> float:
    if seconds > MONTH:
        raise argparse.ArgumentTypeError(f"TIME must be {MONTH // 86400}d at most")
    return seconds


def memory(text: str) -> int:
    """A size in bytes that a kernel can start with."""
    count = size(text)
    if count < LEAST_MEMORY:
        meant = [f"{text}{unit}" for unit in "MG" if text.isdigit() and int(text) * UNITS[unit.lower()] >= LEAST_MEMORY]
        raise argparse.ArgumentTypeError("64Mi at least" + (f"; did you mean {' or '.join(meant)}?" if meant else ""))
    return count


def size(text: str) -> int:
    """`500M`, `1.5G`, `2Gi` in bytes: k, M, G, T are powers of 1000, Ki, Mi, Gi, Ti of 1024. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*?)b?", text.strip(), re.ASCII | re.IGNORECASE)
    # a small m would be thousandths, as it is of cores
    if found is None or found[2].lower() not in UNITS or found[2] == "m":
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it like 500M, 2G or 1.5Gi")
    return _positive(round(float(found[1]) * UNITS[found[2].lower()]))


def cores(text: str) -> float:
    """`2`, `1.5`, or thousandths of a core: `500m`. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", text.strip(), re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of cores; write it like 2, 1.5 or 500m")
    return _positive(float(found[1]) / (1000 if found[2] else 1))


def _positive(count: Count) -> Count:
    if count <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return count
