"""Too much output, and too little room: bounded, marked, and never a run without a result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_jobs.runner import capped, room, rundir
from jupyter_jobs.runner.log import Journal
from jupyter_jobs.runner.notebook import condensed, overwritten
from jupyter_jobs.runner.outputs import Printed
from tests.runner.runner_cells import code


def texts(directory: Path, offset: int = 0) -> list[str]:
    return [record.text for record, _ in capped.read(directory, offset)]


def on_disk(directory: Path) -> int:
    return sum(part.path.stat().st_size for part in capped.parts(directory))


def test_a_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r", 1, "", max_log_bytes=100_000)
    for number in range(20_000):
        journal.output("stdout", f"line {number}\n")
    assert on_disk(tmp_path) <= 101_000
    found = texts(tmp_path)
    middle = next(index for index, text in enumerate(found) if text.startswith("…"))
    first, last = found[: middle - 1], found[middle + 1 :]
    assert first == [f"line {number}" for number in range(len(first))]
    assert last == [f"line {number}" for number in range(20_000 - len(last), 20_000)]
    assert len(first) > 300
    assert len(last) > 300
    assert found[middle - 1].startswith("The log has become long")
    assert found[middle].startswith(f"… {20_000 - len(first) - len(last):,} lines (")


def test_a_chunk_that_is_larger_than_the_log(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r", 1, "", max_log_bytes=4_000_000)
    many = 800_000
    journal.output("stdout", "".join(f"line {number}\n" for number in range(many)))
    found = texts(tmp_path)
    assert on_disk(tmp_path) <= 4_100_000
    assert found[-1] == f"line {many - 1}"
    middle = next(index for index, text in enumerate(found) if text.startswith("…"))
    assert found[middle].startswith(f"… {many - (len(found) - 2):,} lines (")


def test_whoever_follows_a_log_sees_all_of_it_although_it_is_cut(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r", 1, "", max_log_bytes=40_000)
    seen, offset = [], 0
    for number in range(5_000):
        journal.output("stdout", f"line {number}\n")
        if number % 10 == 0:
            page = list(capped.read(tmp_path, offset, 1_000))
            seen += [record.text for record, _ in page]
            offset = page[-1][1]
    seen += texts(tmp_path, offset)
    assert [text for text in seen if text.startswith("line ")] == [f"line {number}" for number in range(5_000)]
    # a place that was passed long ago still leads on
    late = texts(tmp_path, 20_500)
    assert late[0].startswith("… ")
    assert late[-1] == "line 4999"


def test_a_log_is_read_in_pages_of_whole_records(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r", 1, "", max_log_bytes=40_000)
    journal.output("stdout", "".join(f"line {number}\n" for number in range(3_000)))
    paged, offset = [], 0
    while page := list(capped.read(tmp_path, offset, 500)):
        assert len(page) < 20
        paged += [record.text for record, _ in page]
        offset = page[-1][1]
    assert paged == texts(tmp_path)


def test_a_log_goes_on_where_another_process_ended(tmp_path: Path) -> None:
    for start in (0, 1000):
        journal = Journal(tmp_path, "r", 1, "", max_log_bytes=20_000)
        for number in range(start, start + 1000):
            journal.output("stdout", f"line {number}\n")
    assert texts(tmp_path)[-1] == "line 1999"
    assert [part.offset for part in capped.parts(tmp_path)] == sorted(part.offset for part in capped.parts(tmp_path))


PIECES = st.lists(st.text(alphabet="ab\r\n", max_size=6), max_size=8)


@settings(deadline=None)
@given(PIECES)
def test_condensed_pieces_end_as_the_whole_does(pieces: list[str]) -> None:
    assert overwritten("".join(map(condensed, pieces))) == overwritten("".join(pieces))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(alphabet="ab\n", min_size=1, max_size=40)), max_size=30))
def test_what_fits_stays_as_it_was(pieces: list[tuple[str, str]]) -> None:
    printed, outs = Printed(10_000), []
    for name, text in pieces:
        printed.add(outs, name, text)
    printed.finish(outs)
    assert "".join(output.text for output in outs) == "".join(text for _, text in pieces)
    for name in ("stdout", "stderr"):
        assert "".join(o.text for o in outs if o.name == name) == "".join(text for each, text in pieces if each == name)


def test_what_is_too_much_for_a_notebook_is_cut_in_the_middle() -> None:
    printed, outs = Printed(1_000_000), []
    for number in range(500_000):
        printed.add(outs, "stdout", f"line {number}\n")
    printed.finish(outs)
    whole = "".join(output.text for output in outs)
    head, mark, tail = whole.partition("\n… ")
    assert head.startswith("line 0\nline 1\n")
    assert mark
    assert " lines (" in tail.split("\n", 1)[0]
    assert tail.endswith("line 499999\n")
    assert 1_150_000 < len(whole) < 1_300_000


def test_a_flood_is_bounded_and_the_rest_of_the_cell_stays(execute) -> None:
    source = "for n in range(200_000): print(n, 'x' * 20)\nfrom IPython.display import display\ndisplay('shown')\nprint('last')"
    run, result = execute(
        [code(source, id="flood"), code("print('after')"), code("1/0", id="bad")], max_log_bytes=1_000_000, max_stream_bytes=400_000
    )
    assert result.error.code == "cell_error"
    assert on_disk(run.path) <= 1_050_000
    found = texts(run.path)
    assert found[0].startswith("0 x")
    assert "after" in found
    assert any(text.endswith(" left out …") for text in found)
    outputs = run.cell("flood").outputs
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert printed.startswith("0 x")
    assert "199999 x" in printed
    assert printed.endswith("last\n")
    assert 400_000 < len(printed) < 600_000
    assert [output.data["text/plain"] for output in outputs if output.output_type == "display_data"] == ["'shown'"]
    assert [output.output_type for output in run.cell("bad").outputs] == ["error"]


def test_printed_text_stands_before_the_error_and_clear_output_clears(execute) -> None:
    clear = "from IPython.display import clear_output\nprint('gone', flush=True)\nclear_output()\nprint('kept', flush=True)\n"
    wait = "clear_output(wait=True)\nprint('only this', flush=True)\n"
    run, _ = execute([code(clear, id="now"), code("print('old', flush=True)\n" + wait, id="wait"), code("print('before')\n1/0", id="bad")])
    assert [output.text for output in run.cell("now").outputs] == ["kept\n"]
    assert [output.text for output in run.cell("wait").outputs] == ["only this\n"]
    assert [output.output_type for output in run.cell("bad").outputs] == ["stream", "error"]


# -- a full disk: real small file systems ----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "jobs-test", str(place)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"file systems cannot be mounted here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path) -> None:
    """Leave no room at all."""
    with (place / "ballast").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue


def test_a_run_whose_notebook_finds_no_room_says_so(prepare, small_disk: Path) -> None:
    run = prepare([code("1"), code(f"f = open({str(small_disk / 'ballast')!r}, 'ab', 0)\nimport contextlib\n" + FILL), code("print('on')")])
    run.path = small_disk / "attempt"
    run.path.mkdir()
    result = run.start().wait()
    assert (result.state, result.error.code) == ("failed", "no_room")
    assert "notebook" in result.error.message
    assert result.cells.done == 3
    assert "doctor" in result.error.mend


FILL = """
for size in (1 << 16, 1 << 10, 1):
    with contextlib.suppress(OSError):
        while f.write(b"x" * size): pass
"""


def test_a_cell_that_finds_no_room_fails_with_that_reason(prepare, small_disk: Path) -> None:
    run = prepare([code(f"with open({str(small_disk / 'mine')!r}, 'wb') as f: f.write(b'x' * 10_000_000)")])
    run.path = small_disk / "attempt"
    run.path.mkdir()
    result = run.start().wait()
    assert (result.state, result.error.code) == ("failed", "no_room")
    assert result.error.cell.number == 1


def test_the_log_says_what_it_lost_and_events_wait(small_disk: Path) -> None:
    journal = Journal(small_disk, "r", 1, "")
    journal.output("stdout", "before\n")
    fill(small_disk)
    journal.progress(1, 2)
    for number in range(1000):
        journal.output("stdout", f"lost {number} {'x' * 100}\n")
    journal.state("running")
    (small_disk / "ballast").unlink()
    journal.output("stdout", "after\n")
    journal.progress(2, 2)
    found = texts(small_disk)
    lost = [index for index, text in enumerate(found) if text.startswith("…")]
    assert len(lost) == 1
    kept = lost[0] - 1
    assert found[lost[0]] == f"… {1000 - kept:,} lines could not be written (No space left on device) …"
    assert found[lost[0] + 1 :] == ["after"]
    said = rundir.read_records(small_disk / rundir.EVENTS, rundir.RunEvent)[0]
    assert [(event.kind, event.done, event.state) for event in said] == [("progress", 1, ""), ("state", 0, "running"), ("progress", 2, "")]


def test_lines_that_are_lost_at_the_end_are_told_of_too(prepare, small_disk: Path) -> None:
    ballast = str(small_disk / "ballast")
    filled = f"f = open({ballast!r}, 'ab', 0)\nimport contextlib\n{FILL}\nprint('lost ' + 'x' * 10_000)"
    run = prepare([code("print('begun')"), code(filled), code(f"import os; os.unlink({ballast!r}); f.close()")])
    run.path = small_disk / "attempt"
    run.path.mkdir()
    result = run.start().wait()
    assert result.state == "complete", result.error
    assert texts(run.path)[-1] == "… 1 lines could not be written (No space left on device) …"


def test_a_result_finds_its_reserved_room(small_disk: Path) -> None:
    room.reserve(small_disk)
    fill(small_disk)
    files = [rundir.Artifact(path=f"f{number}", bytes=1, kind="created") for number in range(1000)]
    done = rundir.RunResult(state="complete", started_at=1, ended_at=2, cells=rundir.CellCount(done=1, total=1), artifacts=files)
    room.write_result(small_disk, done)
    assert rundir.read_result(small_disk) == done


def test_a_result_that_is_too_large_for_its_room_keeps_the_state(small_disk: Path) -> None:
    room.reserve(small_disk)
    fill(small_disk)
    done = rundir.RunResult(state="complete", started_at=1, ended_at=2, cells=rundir.CellCount(done=1, total=1), records={"big": "x" * 300_000})
    room.write_result(small_disk, done)
    found = rundir.read_result(small_disk)
    assert (found.state, found.error.code, found.records) == ("failed", "no_room", {})


def test_a_run_that_cannot_even_reserve_tells_by_its_exit_status(prepare, small_disk: Path) -> None:
    run = prepare([code("1")])
    run.path = small_disk / "attempt"
    run.path.mkdir()
    rundir.write_spec(run.path, run.spec)
    with (run.path / "runner.log").open("ab") as log:
        fill(small_disk)
        ended = subprocess.run([sys.executable, "-m", "jupyter_jobs.runner", str(run.path)], stdout=log, stderr=log, env=dict(os.environ))
    assert ended.returncode == room.EXIT_NO_ROOM
    assert json.loads((run.path / rundir.SPEC).read_bytes())["run"] == run.spec.run
