"""What a run says, as it says it."""

from __future__ import annotations

import json
import signal

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.log import LONGEST, Journal, records_of
from jupyter_jobs.runner.notebook import merge_streams, overwritten
from jupyter_jobs.runner.raw import RawOutput
from tests.runner.runner_cells import code, text


@given(st.text(alphabet="ab\r\n\u2028é😀", max_size=40))
def test_records_hold_the_text(text):
    records = records_of(text, 1.0, "stdout", 3)
    assert "".join(record.text + record.end for record in records) == text.replace("\r\n", "\n")
    assert all("\n" not in record.text and "\r" not in record.text for record in records)
    assert all(record.end for record in records[:-1])


def test_long_lines_come_in_pieces():
    records = records_of("x" * (2 * LONGEST + 5) + "\n", 1.0, "stdout", 1)
    assert [len(record.text) for record in records] == [LONGEST, LONGEST, 5]
    assert [record.end for record in records] == ["", "", "\n"]


def test_readers_see_whole_records_only(tmp_path):
    journal = Journal(tmp_path, "r", 1, "")
    journal.output("stdout", "one\n")
    lines, offset = rundir.read_records(tmp_path / rundir.LOG, rundir.LogRecord)
    assert [line.text for line in lines] == ["one"]
    whole = (tmp_path / rundir.LOG).read_bytes()
    with (tmp_path / rundir.LOG).open("ab") as file:
        file.write(whole[:10])
    assert rundir.read_records(tmp_path / rundir.LOG, rundir.LogRecord, offset) == ([], offset)
    with (tmp_path / rundir.LOG).open("ab") as file:
        file.write(whole[10:])
    assert [line.text for line in rundir.read_records(tmp_path / rundir.LOG, rundir.LogRecord, offset)[0]] == ["one"]


def test_half_a_surrogate_pair_spoils_nothing(tmp_path):
    journal = Journal(tmp_path, "r", 1, "/nobody/listens/here")
    journal.output("stderr", "a\ud800b\n")
    assert rundir.read_records(tmp_path / rundir.LOG, rundir.LogRecord)[0][0].text == "a?b"


def test_carriage_returns_overwrite():
    assert overwritten("10%\r50%\r100%\ndone\n") == "100%\ndone\n"
    assert overwritten("10%\r50%\r") == "50%"
    assert overwritten("plain\r\nlines\r\n") == "plain\nlines\n"


def test_merged_streams_keep_display_ids_right():
    stream = nbformat.v4.new_output
    cell = nbformat.v4.new_code_cell()
    cell.outputs = [
        stream("stream", name="stdout", text="a"),
        stream("stream", name="stdout", text="b\n"),
        stream("display_data", data={"text/plain": "shown"}),
        stream("stream", name="stderr", text="c"),
        stream("stream", name="stdout", text="d"),
    ]
    places = {"id": {4: [2], 9: [2]}}
    merge_streams(cell, 4, places)
    assert [output.get("text", "shown") for output in cell.outputs] == ["ab\n", "shown", "c", "d"]
    assert places == {"id": {4: [1], 9: [2]}}


SOURCE = """
import os, subprocess, sys
print("out"); print("err", file=sys.stderr)
print("half", end="", flush=True); print(" line")
for n in range(3): print(f"\\r{n}%", end="", flush=True)
print()
print("\\u00fc \\U0001f600 \\x1b[31mred\\x1b[0m")
subprocess.run(["sh", "-c", "echo from a child"])
os.write(2, b"from a library\\n")
"""


def test_streams_are_kept_apart_and_by_cell(execute):
    run, _ = execute([code("1"), code(SOURCE, id="s")])
    assert {line.cell for line in run.log} == {2}
    said = run.said("stdout").replace("\r", "|")
    # the kernel hears of the child's output when it likes, but once
    assert said.count("from a child\n") == 1
    assert said.replace("from a child\n", "") == "out\nhalf line\n|0%|1%|2%\nü 😀 \x1b[31mred\x1b[0m\n"
    assert sorted(run.said("stderr").splitlines()) == ["err", "from a library"]
    assert "half line\n2%\n" in "".join(output.text for output in run.cell("s").outputs if output.get("name") == "stdout")


LAST_WORDS = """
import os, sys
os.write(1, b"said twice\\n")
print("by message", flush=True)
os.write(sys.stderr._original_stdstream_copy, b"last words\\n")
os._exit(9)
"""


def test_what_a_dying_kernel_writes_past_its_protocol_is_heard(execute):
    run, result = execute([code(LAST_WORDS)])
    assert result.error.code == "kernel_died"
    # what was said before comes twice, by message and past the protocol; which of the two a dying kernel still sends is chance, and what lies in its
    # own pipe when it ends it takes with it
    assert result.error.traceback.endswith("last words\n")
    assert [(line.stream, line.cell) for line in run.log if line.text == "last words"] == [("stderr", 1)]
    assert run.said().count("said twice") <= 1


AFTER_THE_LAST_CELL = """
import os, sys, threading
asked = threading.Event()
late = threading.Thread(target=lambda: (asked.wait(), print("late by a thread")))
late.start()

class Asked:
    def __repr__(self):
        asked.set(), late.join()
        print("late by a question")
        os.write(sys.stdout._original_stdstream_copy, b"late and never by message\\n")
        return "told"
value = Asked()
"""


def test_what_comes_after_the_last_cell_is_its_own_and_comes_once(execute):
    # the value is read after the last cell, and only that has the kernel speak
    run, result = execute([code("1"), code(AFTER_THE_LAST_CELL, id="last"), text("the end")], record=["value"])
    assert result.records == {"value": "told"}
    lines = ["late by a thread", "late by a question", "late and never by message"]
    assert [(line.stream, line.text, line.cell) for line in run.log] == [("stdout", line, 2) for line in lines]
    assert [(output.name, output.text) for output in run.cell("last").outputs] == [("stdout", "late by a thread\nlate by a question\n")]


def heard_and_raw(tmp_path):
    journal = Journal(tmp_path, "r", 1, "")
    raw = RawOutput(journal)
    raw.repeated = True
    return raw, lambda: [(line.stream, line.text, line.cell) for line in rundir.read_records(tmp_path / rundir.LOG, rundir.LogRecord)[0]]


def test_raw_text_that_no_message_says_is_logged_for_the_cell_that_ran(tmp_path):
    raw, logged = heard_and_raw(tmp_path)
    raw.cell = 1
    raw(1, "said\nnever ")
    raw.cell = 2
    raw(2, "past the protocol\n")
    raw(1, "said\n")
    raw.heard("stdout", "said\n")
    assert logged() == []
    assert raw.flush() == "never said\npast the protocol\n"
    assert logged() == [("stdout", "never ", 1), ("stdout", "said", 2), ("stderr", "past the protocol", 2)]
    assert raw.flush() == ""


@pytest.mark.parametrize("first", ["raw", "heard"])
def test_what_was_said_long_ago_does_not_come_again(tmp_path, first):
    raw, logged = heard_and_raw(tmp_path)
    for number in range(2000):
        if first == "raw":
            raw(1, f"from child {number}\n")
        raw.heard("stdout", f"by message {number}\nfrom child {number}\n")
        if first == "heard":
            raw(1, f"from child {number}\n")
    assert raw.flush() == ""
    assert logged() == []


def test_output_is_seen_while_the_cell_runs(prepare):
    run = prepare([code("print('early', flush=True)\nimport threading; threading.Event().wait()")]).start()
    run.until(lambda run: [(line.text, line.cell) for line in run.log] == [("early", 1)])
    run.signal(signal.SIGTERM)
    run.wait()


def test_a_flood_arrives_whole(execute):
    source = "for n in range(60000): print(n, 'x' * 20)\nfrom IPython.display import display\nfor n in range(3000): display(n)"
    run, result = execute([code(source, id="flood"), code("print('after')")])
    assert result.state == "complete"
    assert run.said() == "".join(f"{n} {'x' * 20}\n" for n in range(60000)) + "after\n"
    outputs = run.cell("flood").outputs
    assert len([output for output in outputs if output.output_type == "stream"]) == 1
    assert [output.data["text/plain"] for output in outputs if output.output_type == "display_data"] == [str(n) for n in range(3000)]


def test_updated_displays_change_in_place(execute):
    source = "from IPython.display import display\nprint('a'); h = display('old', display_id=True); print('b')"
    run, _ = execute([code(source, id="shown"), code("h.update('new')")])
    outputs = run.cell("shown").outputs
    assert [output.get("text") or output.data["text/plain"] for output in outputs] == ["a\n", "'new'", "b\n"]


def test_widgets_leave_their_state(execute):
    run, _ = execute([code("import ipywidgets\nw = ipywidgets.IntSlider(value=7)\nw", id="w"), code("w.value = 9")])
    notebook = json.loads((run.path / rundir.NOTEBOOK).read_text())
    states = notebook["metadata"]["widgets"]["application/vnd.jupyter.widget-state+json"]["state"].values()
    assert [state["state"]["value"] for state in states if state["model_name"] == "IntSliderModel"] == [9]


def test_the_notebook_is_valid_whatever_was_printed(execute):
    run, result = execute([code("print('a\\ud83db'); 'c\\ud83dd'"), code("print('\\x00\\x1b')")], parameters={"x": [1, {"a": None}]})
    assert result.state == "complete"
    nbformat.validate(nbformat.read(run.path / rundir.NOTEBOOK, as_version=4))
