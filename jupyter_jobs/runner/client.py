"""The client of a run's kernel: what it says of a cell becomes the cell's outputs, and is told at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from queue import Empty
from typing import Any

import nbformat
import zmq
from nbclient.exceptions import CellExecutionComplete

from jupyter_jobs.runner.kernel import RunKernel
from jupyter_jobs.runner.outputs import BoundedClient

HEAR_OUT_TIMEOUT = 1.0
"""Seconds to wait for the end of the connection to a kernel that has ended: a process that it forked may keep it open."""

Saw = Callable[[str, Mapping[str, Any], int], None]
"""Told of a message: its type, its content, and the index of the cell that it is about."""
LeftOut = Callable[[str, int], None]
"""Told of a message that is valid in no notebook: its type, and the index of the cell."""


class CellClient(BoundedClient):
    """papermill's client, which also tells of outputs as they come, and learns of the kernel's end at once.

    `saw` is told of each message about a cell, before it is an output; `left_out` of those that no notebook can hold.
    """

    def __init__(self, nb_man: Any, kernel: RunKernel, max_stream: int, saw: Saw, left_out: LeftOut) -> None:
        # an idle message that is late is no failure of the cell; the kernel's end is seen without it
        super().__init__(nb_man, km=kernel, raise_on_iopub_timeout=False, iopub_timeout=60, on_cell_executed=self._executed)
        self.kernel = kernel
        self.max_stream = max_stream
        self.saw = saw
        self.left_out = left_out
        self.reply: dict[str, Any] = {}
        self.cell_of_request: dict[str, int] = {}
        self.look: asyncio.Future[int] | None = None
        self._monitor: Any = None

    def connect(self) -> None:
        """Open the channels to the kernel, and learn when it has closed its own end."""
        self.kc = self.kernel.client(context=self.kernel.context)
        self.kc.start_channels(hb=False, stdin=False)
        self.kc.allow_stdin = False
        self._monitor = self.kc.iopub_channel.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    def disconnect(self) -> None:
        """Close the channels."""
        if self.kc:
            self.kc.iopub_channel.socket.disable_monitor()
            self.kc.stop_channels()

    def _executed(self, cell: Any, cell_index: int, execute_reply: dict[str, Any]) -> None:
        self.reply = execute_reply["content"]

    async def _async_poll_kernel_alive(self) -> None:
        await asyncio.wait({self.kernel.ended})
        self.task_poll_for_reply.cancel()

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        self.cell_of_request[parent_msg_id] = cell_index
        while True:
            message = await self.kc.iopub_channel.get_msg(timeout=None)
            if self.take(message, parent_msg_id):
                return

    def take(self, message: dict[str, Any], request: str) -> bool:
        """Process a message about a cell, whether of this request or, from a thread that goes on, of an earlier one. True: the request is done."""
        parent = message["parent_header"].get("msg_id")
        index = self.cell_of_request.get(parent)
        if index is None and message["msg_type"] == "stream" and self.cell_of_request:
            # written past the protocol, or by a thread, while the kernel answered a question of ours: the last cell's
            index = list(self.cell_of_request.values())[-1]
        if index is None:
            return False
        if parent != request and message["msg_type"] not in ("stream", "display_data", "update_display_data"):
            return False
        try:
            self.process_message(message, self.nb.cells[index], index)
        except CellExecutionComplete:
            return True
        return False

    def process_message(self, message: dict[str, Any], cell: Any, cell_index: int) -> Any:
        self.saw(message["msg_type"], message["content"], cell_index)
        try:
            return super().process_message(message, cell, cell_index)
        except nbformat.ValidationError:
            # its text would quote the output
            self.left_out(message["msg_type"], cell_index)
            return None
        finally:
            if self.comm_objects:
                # nbclient's widgets send on this socket past zmq's asyncio layer, which may swallow the news that a reply has come: look again
                self.look = asyncio.ensure_future(self.kc.shell_channel.socket.poll(1))

    async def hear_out(self) -> None:
        """Take what a kernel whose process has ended still said: all of it, up to the end of its connection."""
        if self._monitor is None:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._monitor.recv_multipart(), HEAR_OUT_TIMEOUT)
        self._monitor = None
        request = list(self.cell_of_request)[-1] if self.cell_of_request else ""
        with contextlib.suppress(Empty):
            while True:
                self.take(await self.kc.iopub_channel.get_msg(timeout=0), request)
        self.settle_outputs()
