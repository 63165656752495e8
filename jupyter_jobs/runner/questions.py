"""What the runner asks a kernel beside the notebook's cells."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from queue import Empty
from typing import Any

import msgspec

from jupyter_jobs.runner import records
from jupyter_jobs.runner.failures import Place

ANSWER_TIMEOUT = 30.0

PLACE = (
    "__import__('json').dumps([__import__('os').getcwd()] + [(lambda value: value if value is None or isinstance(value, int) else str(value))"
    "(getattr(getattr(__import__('sys'), 'last_value', None), name, None)) for name in ('errno', 'filename')])"
)
# flushed, so that what was said while the kernel started is not taken for the first cell's
REPEATS_RAW_OUTPUT = (
    "(lambda sys: (sys.stdout.flush(), sys.stderr.flush(),"
    " __import__('json').dumps(getattr(sys.stdout, '_original_stdstream_copy', None) is not None))[2])(__import__('sys'))"
)

# at once, where `exit()` would wait a tenth of a second
LEAVE = "(lambda shell: (shell.ask_exit(), shell.kernel.io_loop.call_later(0, shell.kernel.io_loop.stop)))(__import__('IPython').get_ipython())"


class Kernel:
    """A kernel that can be asked: its client, and the future of its end."""

    def __init__(self, client: Any, ended: asyncio.Future[int]) -> None:
        self._client = client
        self._ended = ended

    async def greet(self, patience: float) -> dict[str, Any] | None:
        """Its kernel_info, once it also speaks on iopub, where it is not heard before it has noticed us.

        None from a kernel that ends or is too slow.
        """
        info = await self._answer(_message_to(self._client.shell_channel, self._client.kernel_info(), "kernel_info_reply"), patience)
        while info is not None and not self._ended.done():
            try:
                await self._client.iopub_channel.get_msg(timeout=0.2)
                return info
            except Empty:
                self._client.kernel_info()
        return None

    async def evaluate(self, expressions: dict[str, str]) -> dict[str, Any]:
        """Its answers to expressions, by name; none from a kernel that ends, is too slow, or does not know how."""
        request = self._client.execute("", silent=True, store_history=False, allow_stdin=False, user_expressions=expressions)
        reply = await self._answer(_message_to(self._client.shell_channel, request, "execute_reply"))
        return (reply or {}).get("user_expressions") or {}

    async def shown(self, name: str) -> str | None:
        """What it shows when a name alone is executed."""
        request = self._client.execute(name, store_history=False, allow_stdin=False)
        result = await self._answer(_message_to(self._client.iopub_channel, request, "execute_result", "display_data", "error"))
        text = ((result or {}).get("data") or {}).get("text/plain")
        return text if isinstance(text, str) else None

    async def variables(self, names: list[str], language: str) -> dict[str, object]:
        """The values of variables, as JSON; what there is none of is left out."""
        python = language.lower() == "python"
        answers = await self.evaluate({name: records.expression(name, python) for name in names})
        values: dict[str, object] = {}
        for name in names:
            text = _text_of(answers.get(name))
            # R answers no expressions; elsewhere a name alone may be a command
            if text is None and language.lower() == "r" and name not in answers:
                text = await self.shown(name)
            if text is not None:
                values[name] = records.from_text(text, python)
        return values

    async def place(self) -> Place:
        """What a Python kernel knows of the exception that stopped it."""
        place = await self._python(PLACE)
        with contextlib.suppress(msgspec.ValidationError):
            cwd, errno, filename = msgspec.convert(place, tuple[str, int | None, str | int | None])
            return Place(cwd=cwd, errno=errno, filename=filename if isinstance(filename, str) else "")
        return Place()

    async def repeats_raw_output(self) -> bool:
        """Whether a Python kernel sends what is written to its descriptors 1 and 2 as messages too (ipykernel from 6 on)."""
        return await self._python(REPEATS_RAW_OUTPUT) is True

    async def to_leave(self) -> bool:
        """Have an IPython kernel end as it does at `exit()`; whether it will."""
        answers = await self.evaluate({"asked": LEAVE})
        return bool(answers.get("asked", {}).get("status") == "ok")

    async def _python(self, expression: str) -> object:
        text = _text_of((await self.evaluate({"asked": expression})).get("asked"))
        return None if text is None else records.from_text(text, python=True)

    async def _answer(self, coming: Coroutine[object, object, dict[str, Any]], patience: float = ANSWER_TIMEOUT) -> dict[str, Any] | None:
        answer = asyncio.ensure_future(coming)
        waiting: set[asyncio.Future[Any]] = {answer, self._ended}
        await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            return None
        return answer.result()


async def _message_to(channel: Any, request: str, *kinds: str) -> dict[str, Any]:
    while True:
        message = await channel.get_msg(timeout=None)
        if message["parent_header"].get("msg_id") == request and message["msg_type"] in kinds:
            content: dict[str, Any] = message["content"]
            return content


def _text_of(answer: Mapping[str, Any] | None) -> str | None:
    if not answer or answer.get("status") != "ok":
        return None
    text = answer.get("data", {}).get("text/plain")
    return text if isinstance(text, str) else None
