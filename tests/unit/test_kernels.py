"""Kernelspecs on disk, resolved as a server would start them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager

from jupyter_jobs.errors import BadInput
from jupyter_jobs.snapshot.kernels import LocalKernelSpecs, kernel_for, list_kernels, resolve_kernel


def add(folder: Path, name: str, **spec: object) -> Path:
    place = folder / name
    place.mkdir()
    whole = {"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": name.title(), "language": "python"} | spec
    (place / "kernel.json").write_text(json.dumps(whole))
    return place


@pytest.fixture
def specs(tmp_path: Path) -> KernelSpecManager:
    (tmp_path / "kernels").mkdir()
    return KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")], ensure_native_kernel=False)


@pytest.fixture
def folder(specs: KernelSpecManager, tmp_path: Path) -> Path:
    return tmp_path / "kernels"


@pytest.mark.parametrize("program", ["python", "python3", f"python3.{sys.version_info[1]}"])
def test_a_bare_python_is_the_submitters(specs: KernelSpecManager, folder: Path, program: str) -> None:
    add(folder, "mine", argv=[program, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    kernel = resolve_kernel(specs, "mine")
    assert kernel.argv == [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def test_another_program_is_looked_for_in_path(specs: KernelSpecManager, folder: Path, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "ark"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    place = add(
        folder,
        "ark",
        argv=["ark", "{resource_dir}/start.R", "{prefix}", "{connection_file}"],
        language="R",
        env={"PATH": f"{tool.parent}:${{PATH}}", "TOKEN": "${SECRET}"},
        interrupt_mode="message",
    )
    kernel = resolve_kernel(specs, "ark")
    assert kernel.argv == [str(tool), f"{place}/start.R", sys.prefix, "{connection_file}"]
    assert kernel.env["TOKEN"] == "${SECRET}"
    assert (kernel.language, kernel.interrupt_mode, kernel.resource_dir) == ("R", "message", str(place))


def test_an_unknown_name_lists_what_there_is(specs: KernelSpecManager, folder: Path) -> None:
    add(folder, "one")
    add(folder, "two")
    with pytest.raises(BadInput) as caught:
        resolve_kernel(specs, "three")
    assert caught.value.code == "kernel_not_found"
    assert "'three'" in caught.value.message
    assert "one, two" in caught.value.message
    assert caught.value.detail["kernels"] == ["one", "two"]


def test_broken_kernels_are_errors_when_named_and_left_out_of_lists(specs: KernelSpecManager, folder: Path) -> None:
    add(folder, "good")
    add(folder, "gone", argv=["/nowhere/python", "-m", "ipykernel_launcher"])
    add(folder, "empty", argv=[])
    (add(folder, "torn") / "kernel.json").write_text("{")
    for name, code in (("gone", "kernel_executable_missing"), ("empty", "kernel_spec_invalid"), ("torn", "kernel_spec_invalid")):
        with pytest.raises(BadInput) as caught:
            resolve_kernel(specs, name)
        assert caught.value.code == code
        assert name in caught.value.message
    assert [kernel.name for kernel in list_kernels(specs)] == ["good"]


def test_a_notebooks_own_kernel(specs: KernelSpecManager, folder: Path) -> None:
    add(folder, "own")
    add(folder, "python3")
    kernel, findings = kernel_for(specs, {"kernelspec": {"name": "own", "language": "python"}})
    assert (kernel.name, findings) == ("own", [])


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"kernelspec": {"name": "orchest-kernel-6a", "language": "R"}}, "ir"),
        ({"kernelspec": {"name": "gone"}, "language_info": {"name": "R"}}, "ir"),
        ({"kernelspec": {"name": "conda-env-x-py"}}, "python3"),
    ],
)
def test_a_missing_kernel_is_replaced_by_one_of_its_language(
    specs: KernelSpecManager, folder: Path, metadata: dict[str, object], expected: str
) -> None:
    add(folder, "another")
    add(folder, "python3")
    add(folder, "ir", argv=["/bin/sh"], language="R")
    kernel, findings = kernel_for(specs, metadata)
    assert kernel.name == expected
    assert [finding.code for finding in findings] == ["kernel_replaced"]
    assert expected in findings[0].message


def test_no_kernelspec_at_all_means_python_without_a_word(specs: KernelSpecManager, folder: Path) -> None:
    add(folder, "python3")
    assert kernel_for(specs, {})[1] == []


def test_no_kernel_of_the_language(specs: KernelSpecManager, folder: Path) -> None:
    add(folder, "python3")
    with pytest.raises(BadInput, match="julia") as caught:
        kernel_for(specs, {"kernelspec": {"name": "julia-1.9", "language": "julia"}})
    assert caught.value.code == "kernel_not_found"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jupyter's data directory, with a folder of kernels."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "more"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for folder in ("kernels", "more/kernels"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path / "kernels"


def test_local_kernels_are_those_that_jupyter_finds(here: Path, tmp_path: Path) -> None:
    add(here, "Mine", env={"A": "1"}, interrupt_mode="message", metadata={"debugger": True})
    add(here, "python3", display_name="Ours")
    add(here, "twice", display_name="one")
    add(tmp_path / "more" / "kernels", "twice", display_name="other")
    add(here, "provided", metadata={"kernel_provisioner": {"provisioner_name": "local-provisioner"}})
    add(here, "odd", argv=["python", 7])
    (add(here, "broken") / "kernel.json").write_text("{")
    (here / "empty").mkdir()
    ours, theirs = LocalKernelSpecs(), KernelSpecManager()
    assert ours.find_kernel_specs() == theirs.find_kernel_specs()
    for name in ("mine", "Mine", "python3", "twice", "provided", "odd"):
        assert resolve_kernel(ours, name) == resolve_kernel(theirs, name), name
    for name in ("broken", "nowhere", "empty"):
        said = []
        for specs in (ours, theirs):
            with pytest.raises(BadInput) as caught:
                resolve_kernel(specs, name)
            said.append((caught.value.code, caught.value.message))
        assert said[0] == said[1]


def test_ipythons_own_kernels_count(here: Path, tmp_path: Path) -> None:
    add(here, "python3")
    (tmp_path / "ipython" / "kernels").mkdir(parents=True)
    add(tmp_path / "ipython" / "kernels", "old")
    specs = LocalKernelSpecs()
    assert {"old", "python3"} <= set(specs.find_kernel_specs())
    assert resolve_kernel(specs, "old").display_name == "Old"
