"""Whether a run that failed gets another attempt, and when. Pure."""

from __future__ import annotations

from collections.abc import Callable

from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import RetryPolicy

DEFAULT = RetryPolicy(attempts=1, on=["interrupted"])
"""What a job does that asks for nothing else: a machine that went down, or a runner that vanished, is no fault of the notebook's."""
CODES = frozenset(
    """
    cell_error syntax_error module_not_found input_requested exit_code memory_error file_not_found input_not_in_snapshot read_only_data
    time_limit_exceeded cell_time_limit_exceeded kernel_died kernel_not_started parameters_not_possible workspace_failed environment_drifted
    interpreter_missing environment_not_found job_files_missing runner_not_started backend_silent notebook_invalid interrupted
    keyboard_interrupt resource_limit_exceeded no_room not_stored failed internal_error
    """.split()  # noqa: SIM905 - shorter than a line for each
)
"""Codes that a run may fail with, as `docs/lifecycle.md` lists them."""


def check_policy(policy: RetryPolicy) -> None:
    """Raises `BadInput` (`bad_retries`) for a code that no run fails with: a typing error would never retry anything."""
    for code in policy.on:
        if code not in CODES:
            mend = f"Codes: {', '.join(sorted(CODES))}."
            raise BadInput(f"No run fails with the code `{code[:80]}`.", code="bad_retries", mend=mend, field="retries.on")


def is_retried(policy: RetryPolicy, code: str, retried: int) -> bool:
    """Whether a run that failed with `code` gets another attempt, after `retried` that it got already."""
    return retried < policy.attempts and (not policy.on or code in policy.on)


def delay_before(policy: RetryPolicy, retried: int, draw: Callable[[], float]) -> float:
    """Seconds to wait before the next attempt, after `retried` others. `draw` gives numbers from 0 to 1, for the jitter."""
    delay = policy.delay * 2.0**retried if policy.backoff == "exponential" else policy.delay
    delay = min(delay, policy.max_delay)
    # downwards only: the most that was asked for stays the most
    return delay * (1 - policy.jitter * draw())
