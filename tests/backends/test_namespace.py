"""What a process sees behind `namespace.py`: as root without a user namespace, as root within one, and as an ordinary user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from jupyter_jobs.runner import namespace
from jupyter_jobs.runner.rundir import Bind, Mount, WorkspaceSpec
from jupyter_jobs.runner.workspace import artifact_root, clean, collect, prepare
from tests.venvs import why_no_overlays

USER = 48123

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")


@dataclass
class Machine:
    """How to enter, and a directory that whoever enters may use."""

    how: str
    place: Path
    python: str

    def own(self) -> None:
        if self.how == "user":
            for path in (self.place, *self.place.rglob("*")):
                os.lchown(path, USER, USER)

    def enter(self, spec: WorkspaceSpec, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
        run = self.place / "run"
        run.mkdir(exist_ok=True)
        wanted = "always" if self.how == "always" else "auto"
        command, cwd, added, *_ = prepare(spec, run, list(argv), {}, user_namespace=wanted)  # type: ignore[arg-type]
        if self.how == "user":
            script = self.place / "namespace.py"
            shutil.copy(namespace.__file__, script)
            command[0], command[2] = self.python, str(script)
        self.own()
        identity = {"user": USER, "group": USER, "extra_groups": []} if self.how == "user" else {}
        environment = {"PATH": os.defpath, **added, **variables}
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, **identity)  # type: ignore[call-overload,no-any-return]

    def shell(self, spec: WorkspaceSpec, script: str, *arguments: str) -> str:
        done = self.enter(spec, "/bin/sh", "-ec", script, "sh", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(params=["root", "always", "user"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    how = request.param
    if how == "root" and os.geteuid() != 0:
        pytest.skip("only root can do without a user namespace")
    if how == "user" and os.geteuid() != 0:
        pytest.skip("these tests run as an ordinary user already: see `always`")
    if why := why_no_overlays(tmp_path):
        pytest.skip(f"no overlays here: {why}")
    if how != "user":
        yield Machine(how, tmp_path, sys.executable)
        return
    place = Path(tempfile.mkdtemp(prefix="jupyter-jobs-test-"))
    os.chown(place, USER, USER)
    try:
        for python in (sys.executable, "/usr/bin/python3"):
            try:
                subprocess.run([python, "-c", ""], user=USER, group=USER, extra_groups=[], cwd="/", check=True)
            except (PermissionError, FileNotFoundError):
                continue
            yield Machine(how, place, python)
            return
        pytest.skip("no Python that an ordinary user may execute")
    finally:
        shutil.rmtree(place)


def layers(machine: Machine, name: str = "project") -> tuple[Path, Path, WorkspaceSpec]:
    project, tree = machine.place / name, machine.place / "tree"
    for folder in (project, tree):
        (folder / "sub").mkdir(parents=True)
        (folder / "input.csv").write_text(f"{'frozen' if folder == tree else 'now'}\n")
    return project, tree, WorkspaceSpec(mode="overlay", project=str(project), tree=str(tree), cwd="sub")


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def produced(spec: WorkspaceSpec, machine: Machine) -> dict[str, str]:
    return {artifact.path: artifact.kind for artifact in collect(spec, machine.place / "run")}


def test_everything_is_where_it_was_and_writes_stay_inside(machine: Machine) -> None:
    project, tree, spec = layers(machine)
    (machine.place / "beside.txt").write_text("beside\n")
    before = files(project), files(tree)
    said = machine.shell(
        spec, 'pwd; cat ../../beside.txt ../input.csv; echo new > "$1/made"; echo changed > "$1/input.csv"; cat ../input.csv', str(project)
    )
    assert said == f"{project}/sub\nbeside\nfrozen\nchanged\n"
    assert (files(project), files(tree)) == before
    assert produced(spec, machine) == {"made": "created", "input.csv": "changed"}
    clean(spec, machine.place / "run")
    assert files(machine.place / "run" / "work") == {"upper/input.csv": "changed\n", "upper/made": "new\n"}
    assert artifact_root(machine.place / "run") == machine.place / "run" / "work" / "upper"


def test_nothing_is_mounted_outside(machine: Machine) -> None:
    project, _, spec = layers(machine)
    assert str(project) in machine.shell(spec, "cat /proc/self/mounts")
    assert str(project) not in Path("/proc/self/mounts").read_text()


def test_same_user_same_process_no_capability_gained(machine: Machine) -> None:
    _, _, spec = layers(machine)
    run = machine.place / "run"
    run.mkdir()
    script = "echo $$; id -u; id -g; grep -E 'Cap(Prm|Eff|Bnd|Amb)|SigIgn' /proc/self/status"
    said = machine.shell(spec, script).split("\n")
    uid = USER if machine.how == "user" else os.getuid()
    gid = USER if machine.how == "user" else os.getgid()
    assert said[1:3] == [str(uid), str(gid)]
    status = dict(line.split(":\t") for line in said[3:] if line)
    # what Python ignores for itself; whoever started the tests may ignore others (nohup)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not int(status["SigIgn"], 16) >> (number - 1) & 1
    own = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Cap"))
    for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        has = int(status[name], 16)
        if machine.how == "root":
            assert has == int(own[name], 16)
        elif machine.how == "user":
            assert has == 0
        else:
            assert has & ~int(own["CapPrm"], 16) == 0
            assert not has >> 21 & 1


def test_the_process_id_stays(machine: Machine) -> None:
    _, _, spec = layers(machine)
    run = machine.place / "run"
    run.mkdir()
    command, cwd, *_ = prepare(spec, run, ["/bin/sh", "-c", "echo $$"], {}, user_namespace="always" if machine.how == "always" else "auto")
    if machine.how == "user":
        pytest.skip("the same as `always`")
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read().strip() == str(process.pid)


def test_the_death_signal_of_the_parent_is_kept(machine: Machine) -> None:
    _, _, spec = layers(machine)
    if machine.how == "user":
        pytest.skip("the same as `always`")
    run = machine.place / "run"
    run.mkdir()
    ask = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)"
    command, cwd, *_ = prepare(spec, run, [sys.executable, "-c", ask], {}, user_namespace="always" if machine.how == "always" else "auto")

    def arm() -> None:
        # PR_SET_PDEATHSIG
        namespace.prctl(1, signal.SIGTERM)

    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True, preexec_fn=arm, check=True)
    assert done.stdout.strip() == str(int(signal.SIGTERM))


@pytest.mark.parametrize("name", ["with space", "comma, colon: semi;", "back\\slash", "quote\"'", "schön-日本", "new\nline", "=%{}$HOME"])
def test_odd_names(machine: Machine, name: str) -> None:
    project, _, spec = layers(machine, name)
    assert machine.shell(spec, "cat ../input.csv; echo x > ../made; pwd") == f"frozen\n{project}/sub\n"
    assert produced(spec, machine) == {"made": "created"}
    assert "made" not in files(project)


def test_live_paths_are_read_only_unless_writable(machine: Machine) -> None:
    project, _, spec = layers(machine)
    for name in ("data/deep", "scratch"):
        (project / name).mkdir(parents=True)
        (project / name / "here").write_text("live\n")
    (project / "table.csv").write_text("live\n")
    binds = [
        Bind(source=str(project / name), target=str(project / name), writable=name == "scratch") for name in ("data/deep", "scratch", "table.csv")
    ]
    spec = WorkspaceSpec(mode="overlay", project=spec.project, tree=spec.tree, binds=binds)
    script = """
        cat data/deep/here scratch/here table.csv
        if (echo x > data/deep/made) 2>/dev/null; then exit 3; fi
        if (echo x > table.csv) 2>/dev/null; then exit 4; fi
        echo x > scratch/made
    """
    assert machine.shell(spec, script) == "live\n" * 3
    assert (project / "scratch" / "made").read_text() == "x\n"
    assert produced(spec, machine) == {}
    clean(spec, machine.place / "run")
    assert list((machine.place / "run" / "work" / "upper").iterdir()) == []


def test_deleted_replaced_and_renamed(machine: Machine) -> None:
    _, tree, spec = layers(machine)
    for name in ("old/a", "old/b", "again/a", "again/b", "file", "touched", "kept"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(name)
    script = """
        cd ..
        rm -r old
        rm -r again; mkdir again; echo new > again/a
        rm file; mkdir file; echo x > file/inner
        touch touched; printf kept > kept
        ln -s input.csv link
        mkdir __pycache__; echo x > __pycache__/m.pyc
        mkdir hidden; echo x > hidden/h; chmod 000 hidden
    """
    machine.shell(spec, script)
    assert produced(spec, machine) == {
        "old/a": "deleted",
        "old/b": "deleted",
        "again/a": "changed",
        "again/b": "deleted",
        "file": "deleted",
        "file/inner": "created",
        "link": "created",
        "hidden/h": "created",
    }
    clean(spec, machine.place / "run")
    assert sorted(files(artifact_root(machine.place / "run"))) == ["again/a", "file/inner", "hidden/h"]
    assert (artifact_root(machine.place / "run") / "link").is_symlink()


def test_an_input_without_write_permission(machine: Machine) -> None:
    project, tree, spec = layers(machine)
    for folder in (project, tree):
        (folder / "input.csv").chmod(0o444)
    # as in the original, an ordinary user can replace such a file but not write into it
    write = "" if machine.how == "user" else "echo more >> ../input.csv;"
    machine.shell(spec, f"{write} echo other > new; mv -f new ../input.csv; cat ../input.csv")
    assert produced(spec, machine) == {"input.csv": "changed"}
    assert (tree / "input.csv").read_text() == "frozen\n"


def test_an_environment_inside_the_project(machine: Machine) -> None:
    project, _, spec = layers(machine)
    clone = machine.place / "clone"
    for folder in (project / ".venv" / "lib", clone / "lib"):
        folder.mkdir(parents=True)
        (folder / "module.py").write_text("frozen" if clone in folder.parents else "now")
    spec = WorkspaceSpec(mode="overlay", project=spec.project, tree=spec.tree, environment=[Mount(source=str(clone), target=str(project / ".venv"))])
    assert machine.shell(spec, "cat .venv/lib/module.py; echo x > .venv/lib/module.py; cat .venv/lib/module.py") == "frozenx\n"
    assert files(clone) == {"lib/module.py": "frozen"}
    assert files(project / ".venv") == {"lib/module.py": "now"}
    assert produced(spec, machine) == {}


@pytest.mark.parametrize(
    ("broken", "step"),
    [
        (lambda spec: {"cwd": "nowhere"}, "change into"),
        (lambda spec: {"binds": [Bind(source="/nowhere/at/all", target=spec.project)]}, "open"),
        (lambda spec: {"binds": [Bind(source="/usr", target="/nowhere/at/all")]}, "mount over"),
        (lambda spec: {"tree": "/dev/null"}, ""),
    ],
)
def test_a_refused_step_is_told(machine: Machine, broken: Callable[[WorkspaceSpec], dict[str, object]], step: str) -> None:
    _, _, spec = layers(machine)
    values = {"mode": "overlay", "project": spec.project, "tree": spec.tree, **broken(spec)}
    done = machine.enter(WorkspaceSpec(**values), "/bin/true")  # type: ignore[arg-type]
    assert done.returncode == namespace.EXIT_FAILED
    assert len(done.stderr.splitlines()) == 1
    reason = json.loads((machine.place / "run" / "work" / namespace.ERROR_FILE).read_text())
    assert reason["message"] in done.stderr
    assert reason["step"].startswith(step)
    assert not Path("/nowhere").exists()


def test_a_missing_program_is_told(machine: Machine) -> None:
    _, _, spec = layers(machine)
    done = machine.enter(spec, "/nowhere/python")
    assert done.returncode == namespace.EXIT_FAILED
    assert "cannot start /nowhere/python" in done.stderr
