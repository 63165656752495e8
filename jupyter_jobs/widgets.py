"""What `%job` leaves in a notebook: a live view of one job, and a table of jobs."""

from __future__ import annotations

import threading
from html import escape

import ipywidgets

from jupyter_jobs.cli.output import BY_LETTER, SIGNS, ago_text, counts_text, seconds_text, value_text
from jupyter_jobs.client import connect
from jupyter_jobs.errors import JobsError
from jupyter_jobs.lifecycle import FINAL
from jupyter_jobs.model import Job, JobList, RunList

# the colours of a state in JupyterLab's themes; a sign goes with each
COLOURS = {
    "complete": "var(--jp-success-color1)",
    "failed": "var(--jp-error-color1)",
    "canceled": "var(--jp-warn-color1)",
    "running": "var(--jp-brand-color1)",
    "init": "var(--jp-brand-color2)",
    "queued": "var(--jp-ui-font-color3)",
    "created": "var(--jp-ui-font-color3)",
}


SHOWN_RUNS = 200


class JobView(ipywidgets.VBox):  # type: ignore[misc]
    """A job's name, progress and counts by state; follows the job to its end, then adds the table of its runs. Raises `JobsError`."""

    def __init__(self, job: str, url: str = "") -> None:
        with connect(url) as client:
            self._job = client.job(job)
        self._url = url
        self._failure: JobsError | None = None
        self._title = ipywidgets.HTML()
        self._bar = ipywidgets.IntProgress(min=0, max=1, layout=ipywidgets.Layout(width="220px"))
        self._counts = ipywidgets.HTML()
        self._cancel = ipywidgets.Button(description="Cancel", layout=ipywidgets.Layout(width="80px"))
        self._cancel.on_click(lambda _: self._ask_to_cancel())
        self._table = ipywidgets.HTML()
        # gives tables the look that they have in outputs
        self._table.add_class("jp-RenderedHTMLCommon")
        notes = ipywidgets.HTML(notes_html(self._job))
        super().__init__([ipywidgets.HBox([self._title, self._bar, self._counts, self._cancel]), notes, self._table])
        self._show()
        # not the thread's join: interrupted once, it takes the thread for ended (Python 3.11)
        self._ended = threading.Event()
        threading.Thread(target=self._follow, name=f"job {self._job.id}", daemon=True).start()

    def __repr__(self) -> str:
        # what is shown where there are no widgets
        return f"job {self._job.id} {self._job.name}: {counts_text(self._job)}"

    def wait(self) -> Job:
        """The job when every run has ended. An interrupt cancels it, as it does on the command line; a second one stops waiting.

        Raises JobsError where it could not be followed to its end.
        """
        try:
            self._ended.wait()
        except KeyboardInterrupt:
            # the button cannot be clicked meanwhile: the kernel is busy waiting
            self._ask_to_cancel()
            self._ended.wait()
        if self._failure:
            raise self._failure
        return self._job

    def _follow(self) -> None:
        try:
            with connect(self._url) as client:
                for job in client.follow(self._job.id):
                    self._job = job
                    self._show()
                self._table.value = runs_html(client.runs(self._job.id, limit=SHOWN_RUNS))
        except JobsError as error:
            self._failure = error
            self._table.value = error_html(error)
            self._cancel.disabled = True
        finally:
            self._ended.set()

    def _show(self) -> None:
        job = self._job
        ended = sum(job.counts.get(state, 0) for state in FINAL)
        failed, over = job.counts.get("failed", 0), ended >= job.total
        self._title.value = f"<b>{escape(job.name)}</b>&nbsp;{escape(job.id)}&nbsp;"
        self._bar.max = max(job.total, 1)
        self._bar.value = ended
        self._bar.bar_style = "danger" if failed else "warning" if job.counts.get("canceled") else "success" if over else "info"
        self._counts.value = f"&nbsp;{escape(counts_text(job))}&nbsp;{strip_html(job)}"
        self._cancel.disabled = self._cancel.disabled or over

    def _ask_to_cancel(self) -> None:
        self._cancel.disabled = True
        try:
            with connect(self._url) as client:
                client.cancel_job(self._job.id)
        except JobsError as error:
            self._table.value = error_html(error)


def jobs_bundle(page: JobList) -> dict[str, str]:
    """Jobs in the order given, as HTML and as text, by media type."""
    head = ["job", "name", "state", "runs", "", "created"]
    rows = "".join(
        f"<tr><td>{escape(job.id)}</td><td>{escape(job.name)}</td><td>{state_html(job.status)}</td>"
        f"<td>{escape(counts_text(job))}</td><td>{strip_html(job)}</td><td>{ago_text(job.created_at)}</td></tr>"
        for job in page.jobs
    )
    text = "\n".join(f"{job.id}  {job.name}  {counts_text(job)}  {ago_text(job.created_at)}" for job in page.jobs)
    more = f"{page.page.total} in all; --limit shows more" if page.page.next else ""
    return {
        "text/html": table_html(head, rows) + escape(more) if rows else "no jobs yet",
        "text/plain": f"{text}\n{more}".strip() if rows else "no jobs yet",
    }


def notes_html(job: Job) -> str:
    """What to know about the job, short of mere notes."""
    colours = {"error": COLOURS["failed"], "warning": COLOURS["canceled"]}
    return "<br>".join(
        f'<span style="color:{colours[note.level]}">{note.level}: {escape(f"{note.message} {note.mend}".strip())}</span>'
        for note in job.notes
        if note.level in colours
    )


def error_html(error: JobsError) -> str:
    """What went wrong, and the mend."""
    return f'<span style="color:{COLOURS["failed"]}">{escape(str(error))}</span>'


def state_html(state: str | None) -> str:
    """`✓ complete`, in its colour."""
    if state is None:
        return "empty"
    return f'<span style="color:{COLOURS.get(state, "inherit")}">{SIGNS[state][0]} {escape(state)}</span>'


def strip_html(job: Job, limit: int = 60) -> str:
    """The runs in grid order, a sign each."""
    states = [BY_LETTER[letter] for letter in job.strip[:limit]]
    return "".join(
        f'<span style="color:{COLOURS[state]}" title="run {number} {state}">{SIGNS[state][0]}</span>' for number, state in enumerate(states, 1)
    )


def runs_html(page: RunList) -> str:
    """The runs with parameters and recorded values as columns."""
    names = list(dict.fromkeys(name for run in page.runs for name in run.parameters))
    records = list(dict.fromkeys(name for run in page.runs for name in run.records))
    rows = []
    for run in page.runs:
        cells = [escape(run.id), state_html(run.status)]
        cells += [escape(value_text(run.parameters[name])) if name in run.parameters else "–" for name in names]
        cells += [escape(value_text(run.records[name])) if name in run.records else "–" for name in records]
        cells += [seconds_text(run.duration), escape(run.error.message) if run.error else ""]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    more = f"{page.page.total - len(page.runs)} more" if page.page.next else ""
    return table_html(["run", "state", *names, *records, "time", ""], "".join(rows)) + more


def table_html(head: list[str], rows: str) -> str:
    """A table in the notebook's own style; `rows` is HTML."""
    return (
        '<table style="margin-left:0"><thead><tr>'
        + "".join(f"<th>{escape(name)}</th>" for name in head)
        + f"</tr></thead><tbody>{rows}</tbody></table>"
    )
