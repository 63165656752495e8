"""The server's kernels, for code that runs in a thread: some managers (a gateway's) answer only on the event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any, TypeVar, cast

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

ANSWER_SECONDS = 60.0

T = TypeVar("T")


def blocking(manager: KernelSpecManager, loop: asyncio.AbstractEventLoop) -> KernelSpecManager:
    """`manager` itself, or if it is asynchronous one that asks it on `loop`. To be used on other threads than the loop's."""
    return _FromLoop(manager, loop) if inspect.iscoroutinefunction(manager.get_kernel_spec) else manager


class _FromLoop(KernelSpecManager):
    def __init__(self, manager: KernelSpecManager, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(parent=manager.parent)
        self._manager = manager
        self._loop = loop

    def find_kernel_specs(self) -> dict[str, str]:
        found = self._wait(cast("Awaitable[dict[str, dict[str, Any]]]", self._manager.get_all_specs()))
        return {name: entry.get("resource_dir") or entry.get("spec", {}).get("resource_dir") or "" for name, entry in found.items()}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return self._wait(cast("Awaitable[KernelSpec]", self._manager.get_kernel_spec(kernel_name)))

    def _wait(self, answer: Awaitable[T]) -> T:
        async def ask() -> T:
            return await answer

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(ANSWER_SECONDS)
