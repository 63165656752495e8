"""Workspaces over real snapshots of real environments: what a run sees, what it leaves, and what it cannot touch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from jupyter_jobs.model import KernelInfo, LivePath
from jupyter_jobs.runner.rundir import Bind, Link, Mount, WorkspaceSpec
from jupyter_jobs.runner.workspace import WorkspaceFailed, artifact_root, clean, collect, prepare
from jupyter_jobs.snapshot import workspace
from jupyter_jobs.snapshot.environment import freeze_environment, verify_environment
from jupyter_jobs.snapshot.workspace import expected_workspace, probe_workspace, workspace_findings, workspace_spec
from tests.venvs import build_wheel, install, kernel_of, make_venv, pip, unpack, why_no_overlays

Mode = Literal["overlay", "copy"]


@pytest.fixture(params=["overlay", "copy"])
def mode(request: pytest.FixtureRequest, tmp_path: Path) -> Mode:
    if request.param == "overlay":
        overlay_or_skip(tmp_path)
    return "overlay" if request.param == "overlay" else "copy"


def overlay_or_skip(tmp_path: Path) -> None:
    if why := why_no_overlays(tmp_path):
        pytest.skip(f"no overlays here: {why}")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    place = tmp_path / "data" / "jobs"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project, and beside it the tree that a snapshot of it would have."""
    for name in ("project", "tree"):
        (tmp_path / name / "notebooks").mkdir(parents=True)
        (tmp_path / name / "input.csv").write_text("1\n")
    return tmp_path / "project"


def run_in(spec: WorkspaceSpec, run: Path, argv: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    run.mkdir(parents=True)
    environment = {"PATH": os.defpath, "HOME": str(run.parent), **variables}
    command, cwd, added, *_ = prepare(spec, run, argv, environment)
    return subprocess.run(command, cwd=cwd, env=environment | added, capture_output=True, text=True, check=False)


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()}


def test_the_test_that_counts(mode: Mode, data_dir: Path, project: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "my venv")
    install(
        python,
        build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 'x 1.0'\ndef main(): print('script', V)\n"}, command="xcmd"),
        build_wheel(tmp_path, "ypack", "1.0", {"ypack.py": "V = 'y 1.0'\n"}),
        build_wheel(tmp_path, "zpack", "1.0", {"zpack.py": "V = 'z 1.0'\n"}),
    )
    site = next((tmp_path / "my venv").glob("lib/python*/site-packages"))
    (site / "own.py").write_text("V = 'own 1.0'\n")
    kernel = kernel_of(python)
    environment = freeze_environment(data_dir, kernel, copy_max_bytes=1 << 30, project=project)

    install(python, build_wheel(tmp_path, "xpack", "2.0", {"xpack.py": "V = 'x 2.0'\n"}))
    pip(python, "uninstall", "-y", "ypack")
    (site / "own.py").write_text("V = 'own 2.0'\n")
    assert verify_environment(data_dir, environment.digest) == []

    script = "import own, subprocess, sys, xpack, ypack, zpack; print(xpack.V, ypack.V, zpack.V, own.V, sys.executable); "
    script += "print(subprocess.run('xcmd', stdout=subprocess.PIPE, text=True).stdout)"
    for number in (1, 2):
        spec = workspace_spec(data_dir, mode=mode, project=project, tree=tmp_path / "tree", environment=environment.digest, kernel=kernel)
        assert spec.notes == []
        said = ok(run_in(spec, tmp_path / "runs" / str(number), [str(python), "-c", script], PATH=f"{python.parent}:{os.defpath}"))
        assert said.startswith("x 1.0 y 1.0 z 1.0 own 1.0 ")
        assert "script x 1.0" in said
        if mode == "overlay":
            assert str(python) in said

    (site / "zpack.py").write_text("V = 'z 2.0'\n")
    drift = verify_environment(data_dir, environment.digest)
    if environment.mode == "hardlink":
        assert [(one.code, one.path) for one in drift] == [("environment_drifted", str(site / "zpack.py"))]
    else:
        assert drift == []


def test_installing_in_a_run_changes_neither_original_nor_clone(mode: Mode, data_dir: Path, project: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv", pip=True)
    unpack(python, build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}))
    wheel = build_wheel(tmp_path / "new", "xpack", "2.0", {"xpack.py": "V = 2\n"})
    kernel = kernel_of(python)
    environment = freeze_environment(data_dir, kernel, copy_max_bytes=1 << 30, project=project)
    before = {name: text for name, text in files(tmp_path / "venv").items() if "__pycache__" not in name}
    spec = workspace_spec(data_dir, mode=mode, project=project, tree=tmp_path / "tree", environment=environment.digest, kernel=kernel)
    script = f"python -m pip install -q --no-index --no-cache-dir --disable-pip-version-check {wheel} >&2; python -c 'import xpack; print(xpack.V)'"
    said = ok(run_in(spec, tmp_path / "run", ["/bin/sh", "-ec", script], PATH=f"{python.parent}:{os.defpath}"))
    assert said == "2\n"
    assert {name: text for name, text in files(tmp_path / "venv").items() if "__pycache__" not in name} == before
    assert verify_environment(data_dir, environment.digest) == []
    assert collect(spec, tmp_path / "run") == []
    clean(spec, tmp_path / "run")
    assert files(tmp_path / "run" / "work") == {}
    assert ok(run_in(spec, tmp_path / "again", [str(python), "-c", "import xpack; print(xpack.V)"])) == "1\n"


def test_an_environment_in_the_project(mode: Mode, data_dir: Path, project: Path, tmp_path: Path) -> None:
    python = make_venv(project / ".venv")
    unpack(python, build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}))
    kernel = kernel_of(python)
    environment = freeze_environment(data_dir, kernel, copy_max_bytes=1 << 30, project=project)
    shutil.rmtree(next((project / ".venv").glob("lib/python*/site-packages")) / "xpack-1.0.dist-info")
    next((project / ".venv").glob("lib/python*/site-packages/xpack.py")).unlink()
    spec = workspace_spec(data_dir, mode=mode, project=project, tree=tmp_path / "tree", environment=environment.digest, kernel=kernel)
    script = "import sys, xpack; open('made.txt', 'w').write(str(xpack.V)); print(sys.prefix)"
    said = ok(run_in(spec, tmp_path / "run", [str(python), "-c", script]))
    if mode == "overlay":
        assert said == f"{project}/.venv\n"
    assert [(one.path, one.kind, one.bytes) for one in collect(spec, tmp_path / "run")] == [("made.txt", "created", 1)]


def test_an_environment_that_the_project_links_to(mode: Mode, data_dir: Path, project: Path, tmp_path: Path) -> None:
    unpack(make_venv(tmp_path / "envs" / "one"), build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\n"}))
    (project / ".venv").symlink_to("../envs/one")
    python = project / ".venv" / "bin" / "python"
    kernel = kernel_of(python)
    environment = freeze_environment(data_dir, kernel, copy_max_bytes=1 << 30, project=project)
    spec = workspace_spec(data_dir, mode=mode, project=project, tree=tmp_path / "tree", environment=environment.digest, kernel=kernel)
    assert spec.links == [Link(path=".venv", target="../envs/one")]
    assert ok(run_in(spec, tmp_path / "run", [str(python), "-c", "import xpack; print(xpack.V)"])) == "1\n"
    assert collect(spec, tmp_path / "run") == []


def test_an_environment_that_is_gone(mode: Mode, data_dir: Path, project: Path, tmp_path: Path) -> None:
    python = make_venv(tmp_path / "venv")
    install(python, build_wheel(tmp_path, "xpack", "1.0", {"xpack.py": "V = 1\ndef main(): print('script', V)\n"}, command="xcmd"))
    kernel = kernel_of(python)
    environment = freeze_environment(data_dir, kernel, copy_max_bytes=1 << 30, project=project)
    (tmp_path / "venv").rename(tmp_path / "elsewhere")
    assert verify_environment(data_dir, environment.digest) == []
    spec = workspace_spec(data_dir, mode=mode, project=project, tree=tmp_path / "tree", environment=environment.digest, kernel=kernel)
    if mode == "overlay":
        assert len(spec.notes) == 1
        assert str(tmp_path / "venv") in spec.notes[0]
    script = "import os, sys, xpack; print(xpack.V, flush=True); os.system('xcmd')"
    said = ok(run_in(spec, tmp_path / "run", [str(python), "-c", script], PATH=f"{python.parent}:{os.defpath}"))
    assert said == "1\nscript 1\n"
    assert not (tmp_path / "venv").exists()
    assert verify_environment(data_dir, environment.digest) == []


def test_editable_sources_lie_at_their_place(data_dir: Path, project: Path, tmp_path: Path) -> None:
    overlay_or_skip(tmp_path)
    source = tmp_path / "lib" / "src"
    (source / "mylib").mkdir(parents=True)
    (source / "mylib" / "__init__.py").write_text("V = 1\n")
    python = make_venv(tmp_path / "venv")
    (next((tmp_path / "venv").glob("lib/python*/site-packages")) / "mylib.pth").write_text(f"{source}\n")
    kernel = kernel_of(python)
    environment = freeze_environment(data_dir, kernel, copy_max_bytes=1 << 30, project=project)
    (source / "mylib" / "__init__.py").write_text("V = 2\n")
    spec = workspace_spec(data_dir, mode="overlay", project=project, tree=tmp_path / "tree", environment=environment.digest, kernel=kernel)
    said = ok(run_in(spec, tmp_path / "run", [str(python), "-c", "import mylib; print(mylib.V, mylib.__file__)"]))
    assert said == f"1 {source}/mylib/__init__.py\n"


def test_other_environments_cannot_be_changed(data_dir: Path, project: Path, tmp_path: Path) -> None:
    """`!pip` may be the server's pip: it fails rather than change the server's environment."""
    overlay_or_skip(tmp_path)
    spec = workspace_spec(data_dir, mode="overlay", project=project, tree=tmp_path / "tree")
    prefixes = [place for place in {os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix)} if place not in ("/usr", "/usr/local")]
    assert {bind.target for bind in spec.binds} >= set(prefixes)
    name = f"jupyter-jobs-test-{os.getpid()}"
    for place in prefixes:
        done = run_in(spec, tmp_path / f"run{prefixes.index(place)}", ["/bin/sh", "-c", f'echo x > "{place}/{name}"'])
        assert done.returncode
        assert not Path(place, name).exists()


def test_the_store_stays_in_reach_below_the_project(project: Path, tmp_path: Path) -> None:
    overlay_or_skip(tmp_path)
    data_dir, sockets = project / ".jupyter" / "jobs", project / ".sockets"
    python = make_venv(project / "base")
    for place in (data_dir / "runs", sockets):
        place.mkdir(parents=True)
    (tmp_path / "tree").rename(data_dir / "tree")
    kernel = kernel_of(python)
    environment = freeze_environment(data_dir, kernel, copy_max_bytes=1 << 30, project=project)
    spec = workspace_spec(
        data_dir, mode="overlay", project=project, tree=data_dir / "tree", environment=environment.digest, kernel=kernel, keep=[sockets]
    )
    run = data_dir / "runs" / "1"
    (data_dir / "seen").write_text("x")
    script = f"open({str(data_dir / 'seen')!r}).read(); open({str(sockets / 's')!r}, 'w').write('x'); open('made', 'w').write('x')"
    ok(run_in(spec, run, [str(python), "-c", script]))
    assert (sockets / "s").exists()
    assert [one.path for one in collect(spec, run)] == ["made"]
    assert not (project / "made").exists()


@pytest.mark.parametrize("user_namespace", ["auto", "always"])
def test_a_run_cannot_write_to_the_store(data_dir: Path, project: Path, tmp_path: Path, user_namespace: Literal["auto", "always"]) -> None:
    """Neither a result of its own making, nor into what was frozen, nor past its project's layer."""
    overlay_or_skip(tmp_path)
    run = data_dir / "runs" / "4f1c9a2b" / "1" / "1"
    run.mkdir(parents=True)
    tree = data_dir / "tree"
    (tmp_path / "tree").rename(tree)
    spec = workspace_spec(data_dir, mode="overlay", project=project, tree=tree)
    places = [run / "result.json", tree / "input.csv", tree / "new", run / "work" / "upper" / "forged", data_dir / "jobs.sqlite"]
    before = files(tree)
    script = 'echo x > made; cd /; for place in "$@"; do if (echo x > "$place") 2>/dev/null; then exit 3; fi; done'
    command, cwd, added, *_ = prepare(spec, run, ["/bin/sh", "-c", script, "sh", *map(str, places)], {}, user_namespace=user_namespace)
    ok(subprocess.run(command, cwd=cwd, env=added, capture_output=True, text=True, check=False))
    assert files(tree) == before
    assert not any(place.exists() for place in places if place.parent != tree)
    assert [one.path for one in collect(spec, run)] == ["made"]


def test_single_files_of_a_directory(data_dir: Path, tmp_path: Path) -> None:
    """Where no directory may be frozen silently, what was not frozen stays visible, and new files still land in the run."""
    overlay_or_skip(tmp_path)
    home, tree = tmp_path / "home", tmp_path / "tree"
    for name in ("lib/helper.py", "lib/other.py", "photos/p.jpg", ".config/tool.ini", "notes.txt"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("live\n")
    (home / "link").symlink_to("notes.txt")
    (tree / "lib").mkdir(parents=True)
    (tree / "lib" / "helper.py").write_text("frozen\n")
    spec = workspace_spec(data_dir, mode="overlay", project=home, tree=tree, partial=True)
    script = """
        cat lib/helper.py lib/other.py photos/p.jpg .config/tool.ini link
        echo x > .config/cache; echo x > made; echo x > lib/made
        if (echo x > photos/made) 2>/dev/null; then exit 3; fi
    """
    assert ok(run_in(spec, tmp_path / "run", ["/bin/sh", "-ec", script])) == "frozen\n" + "live\n" * 4
    assert sorted(one.path for one in collect(spec, tmp_path / "run")) == ["lib/made", "made"]
    assert (home / ".config" / "cache").exists()
    assert not (home / "made").exists()
    clean(spec, tmp_path / "run")
    assert sorted(files(artifact_root(tmp_path / "run"))) == ["lib/made", "made"]


def test_a_copy(data_dir: Path, project: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("input.csv")
    for name in ("gone/a", "same", "touched"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(name)
    os.utime(tree / "same", (1, 1))
    (project / "data").mkdir()
    (project / "data" / "here").write_text("live\n")
    before = files(tree)
    spec = workspace_spec(data_dir, mode="copy", project=project, tree=tree, cwd="notebooks", live=[LivePath(path="data/"), LivePath(path="nothing")])
    assert [note for note in spec.notes if "nothing" in note] == spec.notes
    script = """
        cat ../data/here; test -x ../run.sh; test -L ../link; stat -c %Y ../same
        echo 2 > ../input.csv; rm -r ../gone; echo x > made; mkdir -p deep/er; echo x > deep/er/made; touch ../touched
    """
    assert ok(run_in(spec, tmp_path / "run", ["/bin/sh", "-ec", script])) == "live\n1\n"
    found = collect(spec, tmp_path / "run")
    assert [(one.path, one.kind) for one in found] == [
        ("gone/a", "deleted"),
        ("input.csv", "changed"),
        ("notebooks/deep/er/made", "created"),
        ("notebooks/made", "created"),
    ]
    clean(spec, tmp_path / "run", found)
    root = artifact_root(tmp_path / "run")
    assert root == tmp_path / "run" / "work" / "files"
    assert sorted(files(root)) == ["input.csv", "notebooks/deep/er/made", "notebooks/made"]
    assert [entry.name for entry in (tmp_path / "run" / "work").iterdir()] == ["files"]
    assert files(tree) == before
    assert (project / "data" / "here").exists()


def test_a_project_that_is_gone(data_dir: Path, project: Path, tmp_path: Path) -> None:
    shutil.rmtree(project)
    spec = workspace_spec(data_dir, mode="overlay", project=project, tree=tmp_path / "tree")
    assert spec.mode == "copy"
    assert str(project) in spec.notes[0]
    assert ok(run_in(spec, tmp_path / "run", ["/bin/cat", "input.csv"])) == "1\n"
    late = WorkspaceSpec(mode="overlay", project=str(project), tree=str(tmp_path / "tree"))
    (tmp_path / "late").mkdir()
    with pytest.raises(WorkspaceFailed, match="is gone"):
        prepare(late, tmp_path / "late", ["/bin/true"])


def test_a_project_that_is_a_link(data_dir: Path, project: Path, tmp_path: Path) -> None:
    overlay_or_skip(tmp_path)
    (tmp_path / "name").symlink_to(project)
    spec = workspace_spec(data_dir, mode="overlay", project=tmp_path / "name", tree=tmp_path / "tree")
    ok(run_in(spec, tmp_path / "run", ["/bin/sh", "-ec", f"echo x > {tmp_path}/name/made; echo x > {project}/made2"]))
    assert [one.path for one in collect(spec, tmp_path / "run")] == ["made", "made2"]
    assert sorted(files(project)) == ["input.csv"]


def test_a_live_link_to_outside(data_dir: Path, project: Path, tmp_path: Path) -> None:
    overlay_or_skip(tmp_path)
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "here").write_text("live\n")
    (project / "data").symlink_to(tmp_path / "big")
    spec = workspace_spec(data_dir, mode="overlay", project=project, tree=tmp_path / "tree", live=[LivePath(path="data")])
    done = run_in(spec, tmp_path / "run", ["/bin/sh", "-c", "cat data/here; echo x > data/made"])
    assert done.stdout == "live\n"
    assert done.returncode
    assert not (tmp_path / "big" / "made").exists()


def test_probe(tmp_path: Path) -> None:
    assert probe_workspace(tmp_path / "store", "copy")[0] == "copy"
    mode, note = probe_workspace(tmp_path / "store", "auto")
    assert mode == ("copy" if why_no_overlays(tmp_path) else "overlay")
    assert bool(note) == (mode == "copy")
    assert list((tmp_path / "store").iterdir()) == []
    assert workspace_findings("overlay", "") == []
    assert [one.code for one in workspace_findings("copy", "Why.")] == ["workspace_copy"]


def test_the_probe_says_why_not(tmp_path: Path) -> None:
    """Where the store itself lies on an overlay, a second one cannot be stacked: seen from inside a workspace."""
    overlay_or_skip(tmp_path)
    for name in ("project", "tree", "run"):
        (tmp_path / name).mkdir()
    spec = WorkspaceSpec(mode="overlay", project=str(tmp_path / "project"), tree=str(tmp_path / "tree"))
    script = "from pathlib import Path; from jupyter_jobs.snapshot.workspace import probe_workspace; "
    script += "print(probe_workspace(Path('store').absolute(), 'overlay'))"
    command, cwd, *_ = prepare(spec, tmp_path / "run", [sys.executable, "-c", script])
    said = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout
    assert said.startswith("('copy', 'Runs work on copies although c.Jobs.workspace asks for overlays: cannot mount over the store/project: ")


def test_kernels_of_other_languages_get_the_project_only(mode: Mode, data_dir: Path, project: Path, tmp_path: Path) -> None:
    kernel = KernelInfo(name="sh", display_name="Shell", language="bash", argv=["/bin/sh"])
    environment = freeze_environment(data_dir, kernel, copy_max_bytes=1, project=project)
    spec = workspace_spec(data_dir, mode=mode, project=project, tree=tmp_path / "tree", environment=environment.digest, kernel=kernel)
    assert spec.environment == []
    assert ok(run_in(spec, tmp_path / "run", ["/bin/sh", "-c", "cat input.csv"])) == "1\n"


def test_a_script_of_a_moved_environment_may_have_a_long_or_odd_path(tmp_path: Path) -> None:
    """pip writes such scripts in two forms: with the interpreter in the first line, and through /bin/sh where that cannot hold it."""
    clone = tmp_path / "clone with space" / ("x" * 150)
    (clone / "bin").mkdir(parents=True)
    (clone / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    old = tmp_path / "old place"
    body = "import sys\nprint(sys.argv[1:], sys.executable)\n"
    for name, head in (("plain", f"#!{tmp_path}/old/bin/python\n"), ("long", f"#!/bin/sh\n'''exec' \"{old}/bin/python\" \"$0\" \"$@\"\n' '''\n")):
        (clone / "bin" / name).write_text(head + body)
        (clone / "bin" / name).chmod(0o755)
    (tmp_path / "tree").mkdir()
    mounts = [Mount(source=str(clone), target=str(tmp_path / "old")), Mount(source=str(clone), target=str(old))]
    for number, (mount, name) in enumerate(zip(mounts, ("plain", "long"), strict=True)):
        spec = WorkspaceSpec(
            mode="copy", project=str(tmp_path), tree=str(tmp_path / "tree"), environment=[mount], binds=[Bind(source="/a", target="/b")]
        )
        said = ok(run_in(spec, tmp_path / f"run{number}", ["/bin/sh", "-c", f"{name} 'a b'"]))
        assert said == f"['a b'] {clone}/bin/python\n"


def test_what_worked_since_the_machine_started_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if probe_workspace(tmp_path / "probe", "auto")[0] != "overlay":
        pytest.skip("no overlays here")
    store = tmp_path / "store"
    store.mkdir()
    tried: list[Path] = []

    def fails(folder: Path) -> str:
        tried.append(folder)
        return "it was not to be tried"

    assert expected_workspace(store, "auto") == ("overlay", "")
    for each in (expected_workspace, probe_workspace):
        each.cache_clear()
    monkeypatch.setattr(workspace, "_try_overlay", fails)
    assert expected_workspace(store, "auto") == ("overlay", "")
    assert tried == []
    (store / "overlays-work").write_text("another boot")
    expected_workspace.cache_clear()
    assert expected_workspace(store, "auto")[0] == "copy"
    assert probe_workspace(store, "auto")[0] == "copy", "who starts runs tries it"
    for each in (expected_workspace, probe_workspace):
        each.cache_clear()
