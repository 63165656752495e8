"""Run a notebook's cells: papermill's engine and client, on the frozen kernel, with outputs written down as they come."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.engines import NBClientEngine, papermill_engines

from jupyter_jobs.runner import clock, confine, failures, namespace, notebook, processes, questions, records, rundir
from jupyter_jobs.runner.client import CellClient
from jupyter_jobs.runner.failures import MemoryFacts, Place, RunFailed
from jupyter_jobs.runner.kernel import RunKernel, is_ipykernel, is_python
from jupyter_jobs.runner.load import load
from jupyter_jobs.runner.log import Journal, Stream
from jupyter_jobs.runner.outcome import Outcome, Stopped
from jupyter_jobs.runner.raw import RawOutput
from jupyter_jobs.runner.rundir import CellRef, RunError, RunSpec
from jupyter_jobs.runner.usage import Breach, Usage, family_of

ENGINE = "jupyter_jobs"
GRACE = 3.0
"""Seconds between asking a kernel to stop and killing it."""
START_TIMEOUT = 120.0
SHUTDOWN_TIMEOUT = 15.0
"""Seconds that a kernel may take to end by itself after the last cell, for its exit handlers. ipykernel sometimes waits 10 s for its own threads."""
SAVE_INTERVAL = 3.0


class CellEngine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine for this process's run."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, execution: Execution | None = None, **kwargs: object) -> None:
        assert execution is not None
        asyncio.run(execution.drive(nb_man))


class Execution:
    """The execution of one run: its kernel, its notebook, and why it stops."""

    def __init__(self, spec: RunSpec, run_dir: Path, journal: Journal, kernel: RunKernel, outcome: Outcome, began: float) -> None:
        self.spec = spec
        self.kernel = kernel
        self.outcome = outcome
        self.cell: CellRef | None = None
        self._run_dir = run_dir
        self._journal = journal
        self._began = began
        self._cells: list[CellRef] = []
        self._cwd = self._inside = ""
        self._env: dict[str, str] = {}
        self._phase: Literal["starting", "cells", "ending"] = "starting"
        self._stopping = ""
        self._interrupt: asyncio.Future[None] | None = None
        self._saver: notebook.Saver | None = None
        self._raw = RawOutput(journal)
        self._ask: questions.Kernel | None = None
        self._on_loop: Callable[[Callable[[], None] | None], None] = lambda stop: None
        self._time_limit = spec.time_limit
        self._timer: asyncio.TimerHandle | None = None
        self._usage = Usage(spec, run_dir, self.breach)
        self._breach: Breach | None = None

    def run(self, env: dict[str, str], cwd: str, inside: str, on_loop: Callable[[Callable[[], None] | None], None]) -> None:
        """Execute the notebook; `outcome` tells how it went. Raises RunFailed, Stopped.

        A process is started in `cwd`, a forked kernel goes to `inside` itself.
        `on_loop` is given the function that asks for a stop (callable from a signal handler) once the loop runs, and None when it is over.
        """
        self._env, self._cwd, self._inside, self._on_loop = env, cwd, inside, on_loop
        nb, self._cells = load(self.spec)
        code = [(cell, ref) for cell, ref in zip(nb.cells, self._cells, strict=True) if cell.cell_type == "code"]
        self.outcome.total = sum(ref.number > 0 for _, ref in code)
        if self.spec.learn_preload:
            self.kernel.learn([cell.source for cell, _ in code])
        self._saver = notebook.Saver(nb, self._run_dir / rundir.NOTEBOOK, SAVE_INTERVAL)
        papermill_engines.register(ENGINE, CellEngine)
        # papermill.execute_notebook's own steps, but for those that format braces in paths, change this process's directory, and put cells of
        # their own into the notebook when it failed
        try:
            papermill_engines.execute_notebook_with_engine(
                ENGINE, nb, self.spec.kernel.name or "kernel", progress_bar=False, autosave_cell_every=0, execution=self
            )
        finally:
            notebook.save_last(self._saver, self._journal)

    # -- stopping ------------------------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Interrupt the kernel and kill it after the grace. A cancel that is asked for again, or before any cell runs, kills at once."""
        if self._phase != "cells" or (self._stopping and reason == "canceled"):
            self._stopping = self._stopping or (reason if self._phase == "starting" else "")
            self.kernel.kill()
        elif not self._stopping:
            self._stopping = reason
            self._interrupt = asyncio.ensure_future(self.kernel.interrupt_kernel())
            asyncio.get_running_loop().call_later(GRACE, self.kernel.kill)

    def _set_time_limit(self) -> None:
        """Look again when the run's time is over: by its spec, or as it was extended since."""
        self._read_limits()
        if self._timer:
            self._timer.cancel()
        if self._time_limit:
            left = max(0.0, self._time_limit - (clock.now() - self._began))
            self._timer = asyncio.get_running_loop().call_later(left, self._time_is_over)

    def _time_is_over(self) -> None:
        """Stop the run, unless it was extended by somebody who cannot send us the signal."""
        before = self._time_limit
        self._read_limits()
        if self._time_limit == before:
            self.stop("time_limit_exceeded")
        else:
            self._journal.note(f"The run may take {self._time_limit:g} s by now.")
            self._set_time_limit()

    def _read_limits(self) -> None:
        try:
            extended = rundir.read_limits(self._run_dir)
        except (OSError, ValueError) as error:
            self._journal.note(f"The run's new time limit cannot be read: {error}")
        else:
            self._time_limit = self._time_limit if extended is None else extended.time_limit

    def breach(self, breach: Breach) -> None:
        """The run uses more than it may: end it at once."""
        if not self._stopping:
            self._stopping, self._breach = "resource_limit_exceeded", breach
        self.kernel.kill()

    def _why_stopped(self) -> RunFailed | Stopped:
        if self._breach:
            return RunFailed(failures.resource_limit(*self._breach, self.cell))
        if self._stopping == "canceled":
            return Stopped()
        limit = self.spec.cell_timeout if self._stopping == "cell_time_limit_exceeded" else self._time_limit
        return RunFailed(failures.time_limit(self._stopping, limit or 0, self.cell))

    # -- the run, on the loop ------------------------------------------------------------------------------------------

    async def drive(self, nb_man: Any) -> None:
        """Start the kernel, run the cells, read the records, end the kernel. Raises RunFailed, Stopped."""
        loop = asyncio.get_running_loop()
        client = CellClient(nb_man, self.kernel, self.spec.max_stream_bytes, self._saw, self._left_out)

        def cancel() -> None:
            loop.call_soon_threadsafe(self.stop, "canceled")

        self._on_loop(cancel)
        # not through the loop, which would give the signal back its deadly default at its end
        signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon_threadsafe(self._set_time_limit))
        self._set_time_limit()
        try:
            started = time.monotonic()
            await self._start(client)
            self._journal.phase("kernel", time.monotonic() - started)
            self._phase = "cells"
            self._journal.state("running")
            started = time.monotonic()
            await self._run_cells(client)
            self._journal.phase("cells", time.monotonic() - started)
            await self._record_variables()
        finally:
            self._phase = "ending"
            started = time.monotonic()
            await self._end(client)
            self._journal.phase("shutdown", time.monotonic() - started)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            self._on_loop(None)
        if self._breach:
            # on its way out
            raise self._why_stopped()

    async def _start(self, client: CellClient) -> None:
        kernel = self.kernel
        try:
            await kernel.launch(self._env, self._cwd, self._inside, self._raw)
        except OSError as error:
            raise RunFailed(failures.kernel_not_started(self.spec, str(error), "")) from error
        self._journal.way("kernel", kernel.way())
        if self._stopping:
            raise self._why_stopped()
        if kernel.pid:
            self._confine()
            self._usage.start(self._above)
        if kernel.forked and kernel.forked.pid:
            rundir.write_kernel(self._run_dir, kernel.forked.facts())
            # its sockets are bound then: one that looks for them earlier tries again after a tenth of a second
            either: set[asyncio.Future[Any]] = {kernel.forked.ready, kernel.ended}
            await asyncio.wait(either, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        else:
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, lambda: processes.reap_orphans(kernel.pid))
        client.connect()
        self._ask = ask = questions.Kernel(client.kc, kernel.ended)
        info = await ask.greet(START_TIMEOUT)
        if self._stopping:
            raise self._why_stopped()
        if kernel.ended.done():
            raise self._why_not_started()
        if info is None:
            raise RunFailed(failures.kernel_not_started(self.spec, f"it did not answer within {START_TIMEOUT:g} s", kernel.tail()))
        self._keep_to_cores()
        client.nb.metadata["language_info"] = info.get("language_info", {})
        if kernel.forked and kernel.forked.ready.done():
            self._raw.repeated = kernel.forked.ready.result()
        elif is_python(self.spec):
            self._raw.repeated = await ask.repeats_raw_output()

    @property
    def _above(self) -> int:
        """The process below which all processes of the run are."""
        return self.kernel.forked.keeper if self.kernel.forked else os.getpid()

    def _confine(self) -> None:
        group = confine.make_group(Path(self.spec.cgroup), self.spec.resources) if self.spec.cgroup else None
        if group:
            try:
                # before it runs anything of the notebook's, and with it all that it will start
                group.take(self.kernel.pid)
            except OSError as error:
                self._journal.note(f"The run's group {group.path} cannot be used ({error}); its limits are watched instead.")
                group.remove()
            else:
                self.outcome.group = group

    def _keep_to_cores(self) -> None:
        if self.spec.resources.cpu is not None and not (self.outcome.group and self.outcome.group.cpu):
            # now, before the first cell: threads that the kernel has started keep to it too
            confine.keep_to_cores(family_of(self._above), self.spec.resources.cpu)

    def _why_not_started(self) -> RunFailed:
        kernel = self.kernel
        kernel.close()
        status = kernel.ended.result()
        refused = self._run_dir / "work" / namespace.ERROR_FILE
        reason = kernel.forked.failed if kernel.forked else None
        if status == namespace.EXIT_FAILED and refused.exists():
            reason = json.loads(refused.read_bytes())
        if reason is None:
            how = f"its process ended with exit status {status}" if status >= 0 else f"its process was killed by signal {-status}"
            return RunFailed(failures.kernel_not_started(self.spec, how, kernel.tail(), status))
        if reason["step"] == "start":
            return RunFailed(failures.kernel_not_started(self.spec, reason["message"], ""))
        message = f"The run's workspace could not be made: {reason['message']}"
        return RunFailed(RunError(code="workspace_failed", message=message, mend="Run `jupyter jobs doctor`."))

    async def _run_cells(self, client: CellClient) -> None:
        assert self._saver is not None
        for index, cell in enumerate(client.nb.cells):
            ref = self._cells[index]
            client.nb_man.cell_start(cell, index)
            is_code = cell.cell_type == "code"
            if is_code:
                self.cell, self._journal.cell, self._raw.cell, client.reply = ref, ref.number, ref.number, {}
                self._journal.progress(self.outcome.done, self.outcome.total, ref)
            try:
                with self._cell_limit():
                    await client.async_execute_cell(cell, index)
                if self._stopping:
                    # the cell has caught the interrupt, or ended just then
                    client.nb_man.cell_exception(cell, cell_index=index)
                    raise self._explained(cell, self._why_stopped())
            except CellExecutionError as error:
                if not self._exits(client.reply):
                    notebook.keep_error(cell, client.reply)
                    client.nb_man.cell_exception(cell, cell_index=index)
                    raise await self._why_failed(client.reply, cell) from error
            except DeadKernelError as error:
                await client.hear_out()
                client.nb_man.cell_exception(cell, cell_index=index)
                raise self._why_dead(cell) from error
            finally:
                notebook.merge_streams(cell, index, client._display_id_map)
                client.nb_man.cell_complete(cell, cell_index=index)
                self._saver.changed()
            if is_code and ref.number:
                self.outcome.done += 1
            if self._exits(client.reply):
                self._journal.note(f"{failures.where(ref)} ended the run (exit status 0); the cells after it were not run.")
                break
        self.cell, self._journal.cell = None, 0
        self._journal.progress(self.outcome.done, self.outcome.total)

    @contextlib.contextmanager
    def _cell_limit(self) -> Iterator[None]:
        limit = self.spec.cell_timeout
        timer = asyncio.get_running_loop().call_later(limit, self.stop, "cell_time_limit_exceeded") if limit else None
        try:
            yield
        finally:
            if timer:
                timer.cancel()

    def _exits(self, reply: Mapping[str, Any]) -> bool:
        """Whether the cell ended the run in good order: sys.exit(0), exit(), quit()."""
        if reply.get("ename") == "SystemExit":
            return failures.exit_status(reply.get("evalue", "")) == 0
        payload = reply.get("payload") or []
        return any(item.get("source") == "ask_exit" for item in payload)

    async def _why_failed(self, reply: Mapping[str, Any], cell: Any) -> RunFailed | Stopped:
        if self._stopping:
            return self._explained(cell, self._why_stopped())
        place = await self._ask.place() if self._ask and is_python(self.spec) else Place()
        assert self.cell is not None
        seen = self._cwd if self.spec.workspace.mode == "copy" else ""
        project = notebook.project_seen(seen, self.spec.workspace.cwd, self.spec.workspace.project)
        return RunFailed(failures.of_cell(self.spec, self.cell, reply, place, project))

    def _why_dead(self, cell: Any) -> RunFailed | Stopped:
        self.kernel.close()
        last_words = self._raw.flush()
        if self._stopping:
            return self._explained(cell, self._why_stopped())
        if self.outcome.group and (used := self.outcome.group.out_of_memory()) is not None:
            self._stopping, self._breach = "resource_limit_exceeded", Breach("memory", self.spec.resources.memory or 0, used)
            return self._explained(cell, self._why_stopped())
        seen = self._usage.last
        memory = MemoryFacts(held=seen.memory, free=self._usage.free, ran_out=self._usage.system_killed()) if seen else None
        return self._explained(cell, RunFailed(failures.kernel_died(self.cell, self.kernel.ended.result(), last_words, memory)))

    def _explained(self, cell: Any, why: RunFailed | Stopped) -> RunFailed | Stopped:
        """Put the reason into the cell's outputs, where the kernel could not or did not know it."""
        name, text = ("Canceled", "The run was canceled.") if isinstance(why, Stopped) else (_title(why.error.code), why.error.message)
        line = f"{name}: {text}"
        cell.outputs.append(notebook.error_output(name, text))
        self._journal.output("stderr", line + "\n")
        return why

    async def _end(self, client: CellClient) -> None:
        kernel = self.kernel
        client.set_widgets_metadata()
        if kernel.pid:
            if not kernel.ended.done():
                if not await self._leaves_by_itself() and not kernel.ended.done():
                    await kernel.request_shutdown()
                await asyncio.wait({kernel.ended}, timeout=GRACE if self._stopping else SHUTDOWN_TIMEOUT)
            if not kernel.ended.done():
                if not self._stopping:
                    self._journal.note(f"The kernel was still running {SHUTDOWN_TIMEOUT:g} s after the last cell and was killed.")
                kernel.kill()
            self.outcome.kernel_exit = await kernel.ended
            self._usage.stop()
            if kernel.forked:
                self.outcome.clear = await kernel.forked.clear
                self.outcome.memory, self.outcome.cpu = kernel.forked.memory, kernel.forked.cpu
            self.outcome.peak = self._usage.peak
            await self._usage.last_look()
            kernel.close()
            await client.hear_out()
            self._raw.flush()
        client.settle_outputs()
        client.disconnect()
        await kernel.cleanup_resources()

    async def _leaves_by_itself(self) -> bool:
        # told by a shutdown_request, one ipykernel in a hundred waits ten seconds for a thread of its own that has ended already
        return self._ask is not None and is_ipykernel(self.spec) and await self._ask.to_leave()

    # -- what the kernel says ------------------------------------------------------------------------------------------

    def _saw(self, kind: str, content: Mapping[str, Any], index: int) -> None:
        """Write down what a message of this kind tells of a cell, at once."""
        number = self._cells[index].number
        if kind == "stream":
            stream: Stream = "stderr" if content["name"] == "stderr" else "stdout"
            self._raw.heard(stream, content["text"])
            self._journal.output(stream, content["text"], number)
        elif kind == "error":
            self._journal.output("stderr", failures.joined(content.get("traceback") or [f"{content.get('ename')}: {content.get('evalue')}"]), number)
        elif kind in ("display_data", "update_display_data", "execute_result"):
            for name, value in records.of_output(content.get("data", {}), content.get("metadata", {})).items():
                self._record(name, value)

    def _left_out(self, kind: str, index: int) -> None:
        """Say that a cell sent an output that no notebook can hold."""
        self._journal.note(f"{failures.where(self._cells[index])} sent an output ({kind}) that is not valid in a notebook; it was left out.")

    def _record(self, name: str, value: object) -> None:
        self.outcome.records[name] = value
        self._journal.record(name, value)

    async def _record_variables(self) -> None:
        names = list(dict.fromkeys(self.spec.record))
        values = await self._ask.variables(names, self.spec.kernel.language) if self._ask and names else {}
        if self._stopping:
            raise self._why_stopped()
        if not values.keys() | self.outcome.records.keys() >= set(names) and self.kernel.ended.done() and self.kernel.ended.result():
            # not as it leaves at exit(): the values were there, and are lost
            self.kernel.close()
            raise RunFailed(failures.kernel_died(None, self.kernel.ended.result(), self._raw.flush()))
        for name in names:
            if name in values:
                self._record(name, values[name])
            elif name not in self.outcome.records:
                self._journal.note(f"“{name}” was not recorded: after the last cell it had no value that could be read.")


def _title(code: str) -> str:
    return "".join(part.capitalize() for part in code.split("_"))
