"""`jupyter_jobs.record`: note a value of a run from inside its notebook."""

from __future__ import annotations

import json
import sys

MIME = "application/vnd.jupyter-jobs.record+json"


def record(name: str, value: object) -> None:
    """Record a value under a name, so that it stands in the job's table of runs. A later value of the same name replaces it.

    Numbers, texts, and small lists and dicts of them are kept as they are (NumPy's and pandas' too), anything else as its repr. Open the
    notebook in JupyterLab and the value is only shown; in a plain Python script nothing happens, so code that records runs anywhere.
    Raises TypeError where the name is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"A record's name is a text, not {type(name).__name__}.")
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        return
    from IPython.display import display

    from jupyter_jobs.runner import values

    kept = json.loads(values.dump(value))
    display({MIME: {name: kept}, "text/plain": f"{name} = {kept!r}"}, raw=True)  # type: ignore[no-untyped-call]
