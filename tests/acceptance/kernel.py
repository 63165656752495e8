"""A real kernel and what its cells leave behind: outputs, errors and the state of widgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

SECONDS = 240.0
"""The most that a test waits for a message; none waits for time to pass."""


@dataclass
class Cell:
    """What came of running a cell."""

    reply: dict[str, Any]
    outputs: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""

    @property
    def error(self) -> str:
        """What a person reads when the cell fails: the text on standard error, or a traceback."""
        return "" if self.reply["status"] == "ok" else "\n".join(filter(None, [self.text, *self.tracebacks]))

    @property
    def tracebacks(self) -> list[str]:
        return ["\n".join(output["traceback"]) for output in self.outputs if "traceback" in output]


class Kernel:
    """Runs cells; keeps the state of every widget as a front end does."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client
        self.widgets: dict[str, dict[str, Any]] = {}

    def run(self, source: str) -> Cell:
        """Run a cell and return once the kernel is idle again."""
        return self.finish(self.client.execute(source))

    def finish(self, asked: str) -> Cell:
        """What came of a cell, by its request's id; returns once the kernel is idle again."""
        outputs: list[dict[str, Any]] = []
        text = ""
        while True:
            message = self._next()
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return Cell(self._reply(asked), outputs, text)
            if kind in ("display_data", "execute_result", "error"):
                outputs.append(content)
            elif kind == "stream":
                text += content["text"]

    def view(self, cell: Cell) -> View:
        """The job's view that a cell displayed."""
        (shown,) = [output["data"] for output in cell.outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
        return View(self, shown["application/vnd.jupyter.widget-view+json"]["model_id"], shown["text/plain"])

    def until(self, seen: Callable[[], bool]) -> None:
        """Read what the kernel says until this holds."""
        while not seen():
            self._next()

    def _reply(self, asked: str) -> dict[str, Any]:
        # a slow kernel was asked more than once whether it is ready, and has answered each time
        while True:
            message = self.client.get_shell_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") == asked:
                return dict(message["content"])

    def _next(self) -> dict[str, Any]:
        message = self.client.get_iopub_msg(timeout=SECONDS)
        content = message["content"]
        if message["msg_type"] == "comm_open":
            self.widgets[content["comm_id"]] = dict(content["data"]["state"])
        elif message["msg_type"] == "comm_msg" and content["data"].get("method") == "update":
            self.widgets[content["comm_id"]].update(content["data"]["state"])
        return message


@dataclass
class View:
    """A job's view in a notebook, as the state of its widgets says."""

    kernel: Kernel
    model: str
    text: str

    def _of(self, name: str, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
        state = self.kernel.widgets[model]
        if state["_model_name"] == name:
            yield model, state
        for child in state.get("children", []):
            yield from self._of(name, child.removeprefix("IPY_MODEL_"))

    @property
    def bar(self) -> dict[str, Any]:
        return next(self._of("IntProgressModel", self.model))[1]

    @property
    def html(self) -> str:
        return " ".join(state["value"] for _, state in self._of("HTMLModel", self.model))

    def click_cancel(self) -> None:
        model, _ = next(self._of("ButtonModel", self.model))
        client = self.kernel.client
        content = {"comm_id": model, "data": {"method": "custom", "content": {"event": "click"}}}
        client.shell_channel.send(client.session.msg("comm_msg", content))


@contextmanager
def started_kernel(directory: Path, variables: dict[str, str], connection_file: Path) -> Iterator[Kernel]:
    """A Python kernel of this environment in a directory, started by nobody in particular."""
    manager = KernelManager(kernel_name="python3", connection_file=str(connection_file))
    manager.start_kernel(cwd=str(directory), env=variables)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=SECONDS)
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
