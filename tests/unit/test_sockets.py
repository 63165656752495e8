"""The private directory for sockets."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_jobs.errors import Unavailable
from jupyter_jobs.sockets import ADDRESS_BYTES, DISPATCHER_SOCKET, KERNEL_SOCKETS, NAME_BYTES, check_address, socket_directory, socket_path

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="jj", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    yield directory
    shutil.rmtree(directory)


def test_it_is_ours_alone_and_the_same_each_time(runtime: Path, tmp_path: Path) -> None:
    found = socket_directory(tmp_path)
    assert found.parent == runtime / "jupyter-jobs"
    assert socket_directory(tmp_path) == socket_path(tmp_path) == found
    for each in (found.parent, found, found / KERNEL_SOCKETS):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700
    assert socket_directory(tmp_path / "other") != found


def test_links_to_a_store_lead_to_the_same(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store")
    assert socket_path(tmp_path / "link") == socket_path(tmp_path / "store")


def test_a_mode_that_lets_others_in_is_mended(runtime: Path, tmp_path: Path) -> None:
    found = socket_directory(tmp_path)
    found.chmod(0o777)
    socket_directory(tmp_path)
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


@as_root
def test_a_directory_of_another_user_is_refused(runtime: Path, tmp_path: Path) -> None:
    found = socket_directory(tmp_path)
    os.chown(found, 12345, 12345)
    with pytest.raises(Unavailable) as refused:
        socket_directory(tmp_path)
    assert refused.value.code == "socket_directory_refused"
    assert str(found) in refused.value.message
    assert refused.value.mend


def test_a_link_is_refused(runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (runtime / "jupyter-jobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable) as refused:
        socket_directory(tmp_path)
    assert refused.value.code == "socket_directory_refused"
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_dangling_link_is_refused(runtime: Path, tmp_path: Path) -> None:
    (runtime / "jupyter-jobs").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Unavailable):
        socket_directory(tmp_path)


@as_root
def test_the_runtime_directory_of_another_user_is_not_used(runtime: Path, tmp_path: Path) -> None:
    os.chown(runtime, 12345, 12345)
    assert not socket_path(tmp_path).is_relative_to(runtime)


def test_a_long_runtime_directory_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    found = socket_path(tmp_path)
    assert not found.is_relative_to(long)
    assert len(os.fsencode(found)) + NAME_BYTES <= ADDRESS_BYTES


def test_an_address_that_is_too_long_names_itself(tmp_path: Path) -> None:
    path = tmp_path / ("x" * ADDRESS_BYTES) / DISPATCHER_SOCKET
    with pytest.raises(Unavailable) as refused:
        check_address(path)
    assert refused.value.code == "socket_path_too_long"
    assert str(path) in refused.value.message
