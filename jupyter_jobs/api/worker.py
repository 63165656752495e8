"""A process for work that would keep the server's from answering: hashing, copying, rendering. It takes calls by stdin, one after the other.

`concurrent.futures` would import the server's own `__main__` in each worker, which for JupyterLab takes seconds and a hundred megabytes.
"""

from __future__ import annotations

import importlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO, ParamSpec, TypeVar

from jupyter_jobs.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

NICENESS = 5
"""Freezing yields to the server's and the kernels' own work."""
LARGEST = 320 << 20
"""Bytes of memory beyond which a worker ends after its answer; another takes its place."""


class Workers:
    """At most `count` worker processes, started when they are first needed and kept while they stay small. Usable from any thread.

    `prepare` (`module:function`) is called in each as it starts, so that its first call need not wait for imports.
    """

    def __init__(self, count: int, prepare: str = "") -> None:
        self._prepare = [prepare] if prepare else []
        # a place is a live process, or None where one may be started; taking one waits for its turn
        self._places: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()
        for _ in range(count):
            self._places.put(None)
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result, computed in a worker; function, arguments and result must pickle. Raises what it raises, and `Unavailable`
        when the worker died over it."""
        call = pickle.dumps((function, args, kwargs))
        process = self._places.get()
        try:
            if process is None or process.poll() is not None:
                process = self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                _write(process.stdin, call)
                said = _read(process.stdout)
            except (EOFError, BrokenPipeError):
                self._end(process)
                process = None
                raise Unavailable(
                    f"The process that worked on {function.__name__} ended before it was done.",
                    code="worker_died",
                    mend="Perhaps memory ran out; try again, or leave out large folders.",
                ) from None
            except BaseException:
                # what was sent or read is half a message
                self._end(process)
                process = None
                raise
            if said.startswith(b"1"):
                # grown too large; it is asked nothing more
                self._end(process)
                process = None
                with suppress(Unavailable):
                    process = self._start() if self._prepare else None
        finally:
            self._places.put(process)
        succeeded, answer = pickle.loads(said[1:])
        if not succeeded:
            raise answer
        result: T = answer
        return result

    @property
    def started(self) -> bool:
        """Whether there is a worker."""
        return bool(self._processes)

    def ready(self) -> None:
        """Start a worker, unless there is one. Does not wait until it is prepared."""
        with suppress(queue.Empty, Unavailable):
            process = self._places.get_nowait()
            try:
                if process is None and not self.started:
                    process = self._start()
            finally:
                self._places.put(process)

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        with self._lock:
            self._closed = True
            processes = list(self._processes)
        for process in processes:
            self._end(process)

    def _start(self) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._closed:
                raise Unavailable("The server is stopping.", code="stopping", mend="Ask again when it is back.")
            command = [sys.executable, "-P", "-m", __name__, *self._prepare]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._processes.add(process)
            return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                # what is still in the buffer has no reader any more
                with suppress(BrokenPipeError, ValueError):
                    pipe.close()
        with self._lock:
            self._processes.discard(process)


def serve(prepare: str = "") -> None:
    """Answer calls until stdin ends. `prepare`: `module:function`, called first."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the answers
    os.nice(NICENESS)
    # jsonschema would build a grammar with it, for a second, to check a format that nothing here has
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    if prepare:
        module, _, name = prepare.partition(":")
        getattr(importlib.import_module(module), name)()
    while True:
        try:
            call = _read(sys.stdin.buffer)
        except EOFError:
            return
        try:
            function, args, kwargs = pickle.loads(call)
            answer = pickle.dumps((True, function(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001 - it is the caller's
            answer = pickle.dumps((False, error.with_traceback(None)))
        _write(answers, (b"1" if _resident() > LARGEST else b"0") + answer)


def _resident() -> int:
    """Bytes of memory that this process has now."""
    import psutil

    resident: int = psutil.Process().memory_info().rss
    return resident


def _write(stream: IO[bytes], message: bytes) -> None:
    stream.write(len(message).to_bytes(8))
    stream.write(message)
    stream.flush()


def _read(stream: IO[bytes]) -> bytes:
    """The next message. Raises EOFError when the other side is gone."""
    size = stream.read(8)
    message = stream.read(int.from_bytes(size)) if len(size) == 8 else b""
    if not message or len(message) < int.from_bytes(size):
        raise EOFError
    return message


if __name__ == "__main__":
    serve(*sys.argv[1:])
