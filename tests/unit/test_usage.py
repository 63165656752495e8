"""The parts of limits and admission that need no run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from jupyter_jobs.cli.quantities import cores, size
from jupyter_jobs.cli.usage import BARS, WIDTH, spark
from jupyter_jobs.dispatcher.admission import Machine, Need, shortage
from jupyter_jobs.model import Resources
from jupyter_jobs.runner import processes, rundir, usage
from jupyter_jobs.runner.confine import PREFIX, Group, make_group
from jupyter_jobs.runner.rundir import UsageSample
from jupyter_jobs.runner.usage import thinned

GB = 10**9
MACHINE = Machine(cores=4, memory=16 * GB, free=12 * GB, parallel=4)


def need(*, cpu: float | None = None, memory: int | None = None, peak: int = 0, held: int = 0) -> Need:
    return Need(asked=Resources(cpu=cpu, memory=memory), peak=peak, held=held)


@pytest.mark.parametrize(
    ("text", "count"), [("500", 500), ("500M", 500_000_000), ("1.5k", 1500), ("2Gi", 2 << 30), ("64 MiB", 64 << 20), ("3GB", 3 * GB), ("1T", 10**12)]
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "M", "-1G", "500m", "1.5.2G", "2X", "nan", "1e9", "٣G", "2 G x"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no size; write it like 500M"):
        size(text)


@pytest.mark.parametrize(("text", "count"), [("2", 2.0), ("1.5", 1.5), ("500m", 0.5)])
def test_cores(text: str, count: float) -> None:
    assert cores(text) == count


@pytest.mark.parametrize("text", ["", "m", "-1", "two", "1k", "inf"])
def test_what_is_no_number_of_cores(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no number of cores"):
        cores(text)


def test_what_nobody_asked_for_and_nobody_knows_may_start() -> None:
    assert shortage(need(), [need(), need(memory=16 * GB), need(cpu=4)], MACHINE) is None


def test_the_first_run_may_always_start() -> None:
    assert shortage(need(cpu=8, memory=99 * GB), [], MACHINE) is None


def test_requests_are_kept_free_whether_they_are_used_or_not() -> None:
    active = [need(memory=7 * GB, held=0), need(peak=3 * GB, held=3 * GB)]
    short = shortage(need(memory=7 * GB), active, Machine(cores=4, memory=16 * GB, free=16 * GB, parallel=4))
    assert short is not None
    assert (short.reason, short.needed, short.free, short.reserved) == ("memory", 7 * GB, 16 * GB, 10 * GB)
    assert (
        shortage(
            need(memory=6 * GB), [need(memory=7 * GB), need(peak=3 * GB, held=3 * GB)], Machine(cores=4, memory=16 * GB, free=16 * GB, parallel=4)
        )
        is None
    )


def test_memory_that_others_use_is_not_free() -> None:
    # 12 are free, of which the active run may still take 5
    assert shortage(need(memory=7 * GB), [need(memory=6 * GB, held=1 * GB)], MACHINE) is None
    short = shortage(need(memory=8 * GB), [need(memory=6 * GB, held=1 * GB)], MACHINE)
    assert short is not None
    assert (short.free, short.reserved) == (12 * GB, 5 * GB)


def test_what_is_known_from_earlier_runs_counts_without_a_request() -> None:
    assert shortage(need(peak=13 * GB), [need()], MACHINE) is not None
    assert shortage(need(peak=12 * GB), [need()], MACHINE) is None
    # a request stands in its place
    assert shortage(need(peak=13 * GB, memory=2 * GB), [need()], MACHINE) is None


def test_cores_are_kept_free() -> None:
    assert shortage(need(cpu=2), [need(cpu=2)], MACHINE) is None
    short = shortage(need(cpu=2.5), [need(cpu=2)], MACHINE)
    assert short is not None
    assert (short.reason, short.needed, short.free, short.reserved) == ("cpu", 2.5, 4, 2)
    # others have a core each, or less where more of them than cores may run
    assert shortage(need(cpu=3), [need(), need()], MACHINE) is not None
    assert shortage(need(cpu=3), [need(), need()], Machine(cores=4, memory=1, free=1, parallel=8)) is None


@pytest.mark.parametrize("count", [7, 8])
def test_thinning_keeps_peaks_and_the_end(count: int) -> None:
    samples = [UsageSample(at=float(n), cpu=float(n), memory=99 if n == 2 else n, processes=1, storage=n) for n in range(count)]
    left = thinned(samples)
    assert len(left) == 4
    assert max(sample.memory for sample in left) == 99
    assert left[-1] == samples[-1]
    assert [sample.at for sample in left] == sorted(sample.at for sample in left)


def test_a_sample_is_a_short_line_that_is_read_as_it_was(tmp_path: Path) -> None:
    sample = UsageSample(at=1.5, cpu=0.25, memory=10, processes=2, storage=None, measure="pss")
    (tmp_path / "usage.jsonl").write_bytes(rundir.encode(sample) + b"\n" + b"[2.0,0.3")
    assert (tmp_path / "usage.jsonl").read_text().splitlines()[0] == '[1.5,0.25,10,2,null,"pss"]'
    assert rundir.read_records(tmp_path / "usage.jsonl", UsageSample)[0] == [sample]


def test_a_curve() -> None:
    assert spark([0, 1, 2]) == BARS[0] + BARS[4] + BARS[7]
    assert spark([0, 0]) == BARS[0] * 2
    long = spark([0.0] * 500 + [1.0] + [0.0] * 499)
    assert (len(long), long.count(BARS[7])) == (WIDTH, 1)


def test_a_folder_that_is_no_cgroup_makes_no_group(tmp_path: Path) -> None:
    mine = tmp_path / f"{PREFIX}{os.getpid()}-{processes.started(os.getpid())}"
    gone = tmp_path / f"{PREFIX}{os.getpid()}-1"
    other = tmp_path / "not-ours"
    for folder in (gone, other):
        folder.mkdir()
    assert make_group(tmp_path, rundir.Resources(memory=GB, cpu=1.0)) is None
    # nothing of it is left, nor of a runner that was killed; what is not ours stays
    assert list(tmp_path.iterdir()) == [other]
    assert not mine.exists()


def test_a_group_tells_that_memory_ran_out(tmp_path: Path) -> None:
    group = Group(tmp_path, cpu=False, memory=True)
    assert group.out_of_memory() is None
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 0\noom_kill 0\n")
    assert group.out_of_memory() is None
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n")
    (tmp_path / "memory.max").write_text("200\n")
    assert group.out_of_memory() == 200
    (tmp_path / "memory.peak").write_text("201\n")
    assert group.out_of_memory() == 201


def test_a_long_run_keeps_few_samples_and_every_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "KEPT", 8)
    spec = rundir.RunSpec(
        run="a-1", job="a", notebook="n", kernel=rundir.Kernel(argv=[]), workspace=rundir.WorkspaceSpec(mode="overlay", project="/p", tree="/t")
    )
    watch = usage.Usage(spec, tmp_path, lambda breach: None)
    paces = set()
    for number in range(100):
        watch._keep(usage.Held(cpu=float(number), memory=5000 if number == 41 else number, processes=1, measure="rss"))
        kept, _ = rundir.read_records(tmp_path / rundir.USAGE, UsageSample)
        assert kept == watch._samples
        assert len(kept) <= 8
        assert (tmp_path / rundir.USAGE).stat().st_mode & 0o777 == 0o600
        paces.add(watch._interval)
    assert max(sample.memory for sample in kept) == 5000
    assert paces == {1.0 * 2**doubled for doubled in range(len(paces))}
    assert len(paces) > 4
