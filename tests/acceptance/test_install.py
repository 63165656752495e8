"""`pip install .` from a clean clone: one package with the server's and JupyterLab's part, built without a Node.js of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.acceptance.place import ROOT


def test_one_wheel_holds_everything(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone)], check=True)
    # only what pip's build environment brings: no node, no npm
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("env", "sh", "bash", "git", "cat", "uname"):
        if found := next((Path(folder, name) for folder in ("/usr/bin", "/bin") if Path(folder, name).exists()), None):
            (tools / name).symlink_to(found)
    variables = os.environ | {"PATH": str(tools)}
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(clone)],
        check=True,
        env=variables,
        timeout=900,
    )
    (wheel,) = tmp_path.glob("jupyter_jobs-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (settings,) = [name for name in names if name.endswith("etc/jupyter/jupyter_server_config.d/jupyter_jobs.json")]
        assert json.loads(archive.read(settings)) == {"ServerApp": {"jpserver_extensions": {"jupyter_jobs": True}}}
        (package,) = [name for name in names if name.endswith("share/jupyter/labextensions/jupyter-jobs/package.json")]
        entry = json.loads(archive.read(package))["jupyterlab"]["_build"]["load"]
    inside = {name.split("share/jupyter/labextensions/jupyter-jobs/")[-1] for name in names}
    assert entry in inside
    assert "schemas/jupyter-jobs/package.json.orig" in inside or any(name.startswith("schemas/jupyter-jobs/") for name in inside)
    vendor = {Path(name).name for name in names if name.startswith("jupyter_jobs/static/vendor/")}
    assert {"mathjax.js", "require.js", "plotly.js", "mermaid.js"} <= vendor
    assert any(name.startswith("jupyter_jobs/store/migrations/versions/") for name in names)
    assert any(name.startswith("jupyter_jobs/reports/templates/") and name.endswith(".css") for name in names)
    assert not [name for name in names if "node_modules" in name or name.startswith(("tests/", "labextension/"))]
