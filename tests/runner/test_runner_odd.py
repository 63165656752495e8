"""What a notebook may do to spoil its own result, and does not."""

from __future__ import annotations

from jupyter_jobs.runner import rundir
from jupyter_jobs.runner.log import encode
from jupyter_jobs.snapshot.names import os_name
from tests.runner.runner_cells import code


def test_names_that_are_no_text_cost_no_result(execute):
    run, result = execute([code("open(b'bad\\xff\\n name', 'w').write('x')")])
    assert result.state == "complete"
    [artifact] = result.artifacts
    assert run.file(os_name(artifact.path)).read_text() == "x"


def test_text_that_is_no_unicode_costs_no_result(tmp_path):
    error = rundir.RunError(code="cell_error", message="half \ud800 a pair")
    records = {"half \ud800": "\ud800"}
    cells = rundir.CellCount(done=0, total=1)
    rundir.write_result(tmp_path, rundir.RunResult(state="failed", error=error, started_at=1, ended_at=2, records=records, cells=cells))
    result = rundir.read_result(tmp_path)
    assert result.error.message == "half ? a pair"
    assert result.records == {"half ?": "?"}
    assert b"half ?" in encode(rundir.RunEvent(at=1, kind="record", name="half \ud800", value=1))


def test_an_output_that_no_notebook_can_hold_is_left_out_and_the_run_goes_on(execute):
    bad = "display({'text/plain': 1, 'image/png': ['a', 2]}, raw=True); display({'text/plain': 'seen'}, raw=True)"
    run, result = execute([code(f"from IPython.display import display\n{bad}", id="c"), code("print('after')")])
    assert result.state == "complete"
    assert [output.data["text/plain"] for output in run.cell("c").outputs] == ["seen"]
    assert "Cell 1 sent an output (display_data) that is not valid in a notebook; it was left out." in run.said("system")
    assert "after" in run.said("stdout")
