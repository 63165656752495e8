"""The limit: a notebook's cells in one warm kernel that is never restarted, one run after another.

    python limit.py NOTEBOOK RUNS

Stands alone: it runs in the peers' Python. The first pass, which imports what the cells import, is not counted. Prints JSON: `seconds`, `first`
(after which the first run had ended) and `cpu`, of kernel and client.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

SECONDS = 300


def main() -> None:
    notebook, runs = Path(sys.argv[1]), int(sys.argv[2])
    cells = ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"]]
    cells.insert(1, "n = 1")
    manager, client = start_new_kernel(startup_timeout=SECONDS, kernel_name="python3", cwd=str(notebook.parent))
    try:
        execute(client, cells)
        kernel: Any = manager.provisioner
        start, cpu = time.perf_counter(), used(kernel.pid)
        first = 0.0
        for _ in range(runs):
            execute(client, cells)
            first = first or time.perf_counter() - start
        print(json.dumps({"seconds": time.perf_counter() - start, "first": first, "cpu": used(kernel.pid) - cpu}))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def execute(client: Any, cells: list[str]) -> None:
    for cell in cells:
        asked = client.execute(cell)
        while True:
            message = client.get_iopub_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") != asked:
                continue
            if message["msg_type"] == "error":
                raise SystemExit(f"{message['content']['ename']}: {message['content']['evalue']}")
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        client.get_shell_msg(timeout=SECONDS)


def used(kernel: int) -> float:
    """Processor time of the kernel and this process, in seconds."""
    fields = Path(f"/proc/{kernel}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") + time.process_time()


if __name__ == "__main__":
    main()
