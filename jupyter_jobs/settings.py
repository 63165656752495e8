"""What can be configured, once: read by the server extension, the dispatcher and the CLI from `jupyter_jobs_config.py|json`
(section `Jobs`) in Jupyter's configuration path."""

from __future__ import annotations

import os
from pathlib import Path

from traitlets import Bool, Bunch, Enum, Int, Unicode, default, validate
from traitlets.config import Config, Configurable

GIB = 1 << 30


class Jobs(Configurable):
    """Settings of jupyter_jobs (`c.Jobs.…`)."""

    data_dir = Unicode(help="Where the store, snapshots and runs are kept. Default: `jobs` in Jupyter's data directory.").tag(config=True)
    db_url = Unicode("", help="SQLAlchemy URL of the store. Default: `jobs.sqlite` in `data_dir`.").tag(config=True)
    max_parallel_runs = Int(0, min=0, help="Runs at a time. 0: the usable cores (affinity and cgroup quota).").tag(config=True)
    threads_per_run = Int(0, min=0, help="BLAS/OpenMP threads of a run. 0: usable cores divided by parallel runs.").tag(config=True)
    snapshot_max_bytes = Int(2 * GIB, min=0, help="Largest project that is frozen, in bytes.").tag(config=True)
    snapshot_max_files = Int(100_000, min=0, help="Largest number of files of a project that is frozen.").tag(config=True)
    environment_copy_max_bytes = Int(
        1 * GIB, min=0, help="Largest environment that is frozen by a full copy where it can be neither reflinked nor hard-linked."
    ).tag(config=True)
    workspace = Enum(["auto", "overlay", "copy"], "auto", help="How a run gets its own project: an overlay in a mount namespace, or a copy.").tag(
        config=True
    )
    max_log_bytes = Int(50_000_000, min=0, help="Longest log of a run on disk: its beginning and its end are kept. 0: all of it.").tag(config=True)
    max_stream_bytes = Int(
        20_000_000,
        min=0,
        help="Most of a cell's standard output and error that the executed notebook keeps; a quarter more of its end is added. 0: all.",
    ).tag(config=True)
    keep_dispatcher_seconds = Int(60, min=0, help="How long an idle dispatcher waits for more before it ends.").tag(config=True)
    fork = Bool(True, help="Fork runners and Python kernels from warm processes (Linux). If not, each is started by itself.").tag(config=True)
    fork_memory = Int(0, min=0, help="Bytes that warm processes may hold together. 0: a quarter of the machine's memory.").tag(config=True)
    freeze_environment = Bool(True, help="Freeze the kernel's environment. If not, it is recorded and checked.").tag(config=True)
    html_cache_max_bytes = Int(GIB // 2, min=0, help="Rendered notebooks that are kept, in bytes; those not looked at for longest go first.").tag(
        config=True
    )

    @default("data_dir")
    def _default_data_dir(self) -> str:
        from jupyter_core.paths import jupyter_data_dir

        return str(Path(jupyter_data_dir()) / "jobs")

    @validate("data_dir")
    def _expanded_data_dir(self, proposal: Bunch) -> str:
        # here, so that all processes mean the same; a name of no user stays as it is
        return os.path.expanduser(str(proposal["value"]))  # noqa: PTH111


def load_settings() -> Jobs:
    """Settings from Jupyter's configuration path, for processes that are no Jupyter server."""
    from jupyter_core.paths import jupyter_config_path
    from traitlets.config import Application

    app = Application()
    app.load_config_file("jupyter_jobs_config", path=jupyter_config_path())
    return Jobs(config=Config(app.config))
