"""When a run that failed gets another attempt: the policy's arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_jobs.errors import BadInput
from jupyter_jobs.model import RetryPolicy
from jupyter_jobs.retries import CODES, DEFAULT, check_policy, delay_before, is_retried
from tests.unit.test_docs import codes


def test_only_an_interrupted_run_is_tried_again_unless_more_is_asked_for() -> None:
    assert [code for code in sorted(CODES) if is_retried(DEFAULT, code, 0)] == ["interrupted"]
    assert not is_retried(DEFAULT, "interrupted", 1)
    assert delay_before(DEFAULT, 0, lambda: 1.0) == 0


def test_any_code_or_those_that_are_named() -> None:
    assert all(is_retried(RetryPolicy(attempts=2), code, 1) for code in CODES)
    named = RetryPolicy(attempts=2, on=["kernel_died"])
    assert [is_retried(named, code, tried) for code, tried in (("kernel_died", 1), ("kernel_died", 2), ("cell_error", 0))] == [True, False, False]
    assert not is_retried(RetryPolicy(attempts=0), "interrupted", 0)


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy(delay=30), [30, 30, 30, 30]),
        (RetryPolicy(delay=30, backoff="exponential"), [30, 60, 120, 240]),
        (RetryPolicy(delay=30, backoff="exponential", max_delay=100), [30, 60, 100, 100]),
        (RetryPolicy(delay=500, max_delay=100), [100, 100, 100, 100]),
    ],
)
def test_delays(policy: RetryPolicy, delays: list[float]) -> None:
    assert [delay_before(policy, retried, lambda: 0.0) for retried in range(4)] == delays


@given(st.integers(0, 20), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1e6))
def test_jitter_only_shortens(retried: int, jitter: float, drawn: float, delay: float, most: float) -> None:
    policy = RetryPolicy(delay=delay, max_delay=most, jitter=jitter, backoff="exponential")
    whole = delay_before(policy, retried, lambda: 0.0)
    assert whole * (1 - jitter) - 1e-6 <= delay_before(policy, retried, lambda: drawn) <= whole <= most


def test_a_code_that_is_none_is_refused() -> None:
    check_policy(RetryPolicy(on=["kernel_died", "interrupted"]))
    with pytest.raises(BadInput, match="kernel_dies") as caught:
        check_policy(RetryPolicy(on=["kernel_died", "kernel_dies"]))
    assert caught.value.code == "bad_retries"
    assert "kernel_died" in caught.value.mend


def test_the_codes_are_those_of_the_document() -> None:
    # a run that was canceled by another's failure has not failed itself
    assert set(codes("A run failed")) - {"fail_fast"} == CODES
