"""What a notebook may do to spoil its own result, and does not."""

from __future__ import annotations

from jupyter_jobs.snapshot.names import os_name
from tests.runner.runner_cells import code


def test_names_that_are_no_text_cost_no_result(execute):
    run, result = execute([code("open(b'bad\\xff\\n name', 'w').write('x')")])
    assert result.state == "complete"
    [artifact] = result.artifacts
    assert run.file(os_name(artifact.path)).read_text() == "x"


def test_text_that_is_no_unicode_costs_no_result(execute):
    record = "display({'application/vnd.jupyter-jobs.record+json': {'half \\ud800': '\\ud800'}}, raw=True)"
    _run, result = execute([code(f"from IPython.display import display\n{record}\nraise ValueError('half \\ud800 a pair')")])
    assert result.state == "failed"
    assert result.error.code == "cell_error"
    assert list(result.records) == ["half ?"]


def test_an_output_that_no_notebook_can_hold_is_left_out_and_the_run_goes_on(execute):
    bad = "display({'text/plain': 1, 'image/png': ['a', 2]}, raw=True); display({'text/plain': 'seen'}, raw=True)"
    run, result = execute([code(f"from IPython.display import display\n{bad}", id="c"), code("print('after')")])
    assert result.state == "complete"
    assert [output.data["text/plain"] for output in run.cell("c").outputs] == ["seen"]
    assert "Cell 1 sent an output (display_data) that is not valid in a notebook; it was left out." in run.said("system")
    assert "after" in run.said("stdout")
