"""What lies in our logs is read by administrators and pasted into reports: no token, no parameter, no variable, no value of a person's is in them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

from tests.acceptance.place import Place, write_notebook
from tests.acceptance.server import TOKEN, served

PARAMETER = "marker-of-a-parameter"
VARIABLE = "marker-of-a-variable"
RECORDED = "marker-of-a-record"
MARKERS = (PARAMETER, VARIABLE, RECORDED, TOKEN)

CELLS = {
    "complete": "print(secret)",
    "fails": "raise ValueError(secret + result + __import__('os').environ['MY_API_KEY'])",
    "misspelt": "secret[result](",
    "dies": "print(secret, flush=True); __import__('os')._exit(3)",
    "odd": "display({'text/plain': [secret, 1], result: 2}, raw=True)",
}


def ask(url: str, path: str, body: object = None, raw: bytes = b"") -> object:
    """What the API answers, be it an error; the token is sent as the front ends do, and in the URL."""
    data = raw or (json.dumps(body).encode() if body is not None else None)
    mark = "&" if "?" in path else "?"
    request = urllib.request.Request(f"{url}jupyter-jobs/api/{path}{mark}token={TOKEN}", data, {"Authorization": f"token {TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=240) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def test_no_log_holds_a_secret_or_a_value(place: Place, project: Path) -> None:
    place.variables["MY_API_KEY"] = VARIABLE
    for name, cell in CELLS.items():
        write_notebook(project / f"{name}.ipynb", f"result = {RECORDED[::-1]!r}[::-1]", cell, parameters="secret = ''")
    words = ["--record", "result,secret", "--wait", "-p", "secret", PARAMETER]
    jobs = [place.json("run", project / f"{name}.ipynb", *words, code=code) for name, code in (("complete", 0), ("fails", 1))]
    with served(place, place.home / "work") as (url, server_log):
        for name in CELLS:
            body = {"path": f"{project.name}/{name}.ipynb", "parameters": {"secret": [PARAMETER]}, "record": ["result"]}
            jobs.append(ask(url, "jobs", body))  # type: ignore[arg-type]
        place.jobs("run", f"{project.name}/fails.ipynb", *words, "--url", f"{url}?token={TOKEN}", code=1)
        for job in jobs:
            place.jobs("logs", str(job["id"]), "--follow")
        # what is refused is not repeated either
        refused = [
            ask(url, "jobs", {"path": f"{project.name}/fails.ipynb", "parameters": {"secret": {"not a list": PARAMETER}}}),
            ask(url, "jobs", {"path": f"{project.name}/fails.ipynb", "parameters": {f"{PARAMETER} no name": [1]}}),
            ask(url, "jobs", {"path": f"{project.name}/fails.ipynb", "grid_text": f'{{"secret": ["{PARAMETER}"'}),
            ask(url, "combinations", raw=f'{{"parameters": "{PARAMETER}'.encode()),
        ]
        assert all("code" in answer for answer in refused), refused  # type: ignore[operator]

    # they were where they belong, so that they could have got into the logs
    runs = [run for job in jobs for run in place.runs(str(job["id"]))]
    assert len(runs) == 2 + len(CELLS)
    assert {run["parameters"]["secret"] for run in runs} == {PARAMETER}  # type: ignore[index]
    assert any(run["records"].get("result") == RECORDED for run in runs)  # type: ignore[attr-defined]
    assert any(RECORDED in json.dumps(run["error"]) and VARIABLE in json.dumps(run["error"]) for run in runs)
    assert {run["error"]["code"] for run in runs if run["error"]} == {"cell_error", "syntax_error", "kernel_died"}  # type: ignore[index]
    logs = sorted(place.home.rglob("*.log"))
    assert {log.name for log in logs} >= {"dispatcher.log", "runner.log", "server.log"}
    assert sum(log.name == "runner.log" for log in logs) >= len(runs)
    assert server_log.stat().st_size > 0
    assert (place.data / "dispatcher.log").stat().st_size > 0
    lines = [f"{log.relative_to(place.home)}: {line}" for log in logs for line in log.read_text().splitlines()]
    assert [line for line in lines if any(marker in line for marker in MARKERS)] == []
