"""Being told that files in a directory changed, with no thread and no polling where the system offers that (inotify on Linux).

watchfiles wakes twenty times a second for each watch, which a server with many open logs would feel; it serves where there is no inotify.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import threading
from pathlib import Path

_IN_MODIFY, _IN_MOVED_TO, _IN_CREATE, _IN_DELETE_SELF = 0x2, 0x80, 0x100, 0x400
_HEADER = struct.Struct("iIII")


class DirectoryWatch:
    """Directories, not what is below them. `fileno()` becomes readable when a file in one was made or written to; `drain()` says in which."""

    def __init__(self) -> None:
        self._paths: dict[int, Path] = {}
        self._descriptor = _inotify_init()

    def fileno(self) -> int:
        return self._descriptor

    def add(self, directory: Path) -> bool:
        """Watch `directory`; False when it does not exist. Raises OSError when the system's limit is reached."""
        libc = _libc()
        wd = libc.inotify_add_watch(self._descriptor, os.fsencode(directory), _IN_MODIFY | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE_SELF)
        if wd < 0:
            number = ctypes.get_errno()
            if not directory.is_dir():
                return False
            raise OSError(number, os.strerror(number), str(directory))
        self._paths[wd] = directory
        return True

    def remove(self, directory: Path) -> None:
        for wd, path in list(self._paths.items()):
            if path == directory:
                del self._paths[wd]
                # fails when the directory is gone, and the watch with it
                _libc().inotify_rm_watch(self._descriptor, wd)

    def drain(self) -> set[Path]:
        """The directories in which something happened since the last call; does not block."""
        changed: set[Path] = set()
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return changed
            offset = 0
            while offset < len(data):
                wd, mask, _, length = _HEADER.unpack_from(data, offset)
                offset += _HEADER.size + length
                if path := self._paths.get(wd):
                    changed.add(path)
                    if mask & _IN_DELETE_SELF:
                        del self._paths[wd]
                elif wd == -1:  # the queue overflowed: anything may have happened
                    changed.update(self._paths.values())

    def close(self) -> None:
        os.close(self._descriptor)


class WatchfilesWatch:
    """The same by watchfiles, a thread for each directory."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._stops: dict[Path, threading.Event] = {}
        self._changed: set[Path] = set()
        self._lock = threading.Lock()

    def fileno(self) -> int:
        return self._read

    def add(self, directory: Path) -> bool:
        if directory in self._stops:
            return True
        if not directory.is_dir():
            return False
        stop = self._stops[directory] = threading.Event()
        threading.Thread(target=self._follow, args=(directory, stop), name="jupyter_jobs watch", daemon=True).start()
        return True

    def remove(self, directory: Path) -> None:
        if stop := self._stops.pop(directory, None):
            stop.set()

    def drain(self) -> set[Path]:
        with self._lock:
            try:
                os.read(self._read, 65536)
            except BlockingIOError:
                return set()
            changed, self._changed = self._changed, set()
            return changed

    def close(self) -> None:
        with self._lock:
            for stop in self._stops.values():
                stop.set()
            os.close(self._read)
            os.close(self._write)
            self._write = -1

    def _follow(self, directory: Path, stop: threading.Event) -> None:
        from watchfiles import watch

        for _ in watch(directory, watch_filter=None, stop_event=stop, recursive=False, debounce=50, step=50):
            with self._lock:
                if self._write < 0:
                    return
                self._changed.add(directory)
                if len(self._changed) == 1:
                    os.write(self._write, b"x")


def watch_directories() -> DirectoryWatch | WatchfilesWatch:
    """What tells of changes on this platform."""
    return DirectoryWatch() if sys.platform == "linux" else WatchfilesWatch()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _inotify_init() -> int:
    descriptor: int = _libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)} (the limit is fs.inotify.max_user_instances)")
    return descriptor
