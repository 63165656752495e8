"""Enter a mount namespace in which a run's project and environment lie where they always were, then become the kernel.

    python -I namespace.py SPEC.json -- ARGV…

Standard library only, imports nothing of ours: it is run by path. The process id stays the same. SPEC.json:

    {"user_namespace": "auto|always|never", "cwd": "/…",
     "overlays": [{"name": "…", "lower": "/…", "upper": "/…", "work": "/…", "target": "/…"}],
     "binds": [{"source": "/…", "target": "/…", "writable": false}],
     "hold": false}

With CAP_SYS_ADMIN a mount namespace is enough. Everyone else gets a user namespace around it that maps their own uid and gid to themselves, and the
capabilities that came with it are dropped again before the kernel starts. When a step fails: one line on stderr, `namespace-error.json` beside
SPEC.json (`{"step", "path", "errno", "message"}`), exit code 96.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import stat
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXIT_FAILED = 96
ERROR_FILE = "namespace-error.json"

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_RDONLY = 1
_MS_REMOUNT = 32
_MS_BIND = 4096
_MS_REC = 16384
_MS_PRIVATE = 1 << 18
# statvfs flag → mount flag; a remount that leaves out one that is locked in a user namespace is refused
_KEPT_FLAGS = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_IS_SET = 1
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_SYS_ADMIN = 21
_CAPABILITY_VERSION = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A step that the kernel of the machine refused: what was tried, on which path, and why."""

    def __init__(self, step: str, path: str, error: OSError) -> None:
        super().__init__(f"cannot {step} {path}: {error.strerror}" if path else f"cannot {step}: {error.strerror}")
        self.step = step
        self.path = path
        self.errno = error.errno


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _unshare(flags: int) -> None:
    if sys.version_info >= (3, 12):
        os.unshare(flags)
    else:
        _check(_libc.unshare(ctypes.c_int(flags)))


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _check(_libc.mount(os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode() or None))


def prctl(option: int, argument: int = 0, third: int = 0) -> int:
    """The system call of that name; negative when it failed."""
    return int(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0)))


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def _capabilities() -> tuple[int, int]:
    """Effective and permitted capabilities of this process as bit sets."""
    data = (_CapData * 2)()
    _check(_libc.capget(ctypes.byref(_CapHeader(_CAPABILITY_VERSION, 0)), data))
    return data[0].effective | data[1].effective << 32, data[0].permitted | data[1].permitted << 32


def _keep_only(kept: int, over_exec: bool = False) -> None:
    """Drop every capability but `kept`, also from the bounding set, so that nothing executed later can have more. `over_exec`: those that are kept
    outlive an exec, which otherwise takes them from everyone but root."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    number = 0
    while (known := prctl(_PR_CAPBSET_READ, number)) >= 0:
        if known and not kept >> number & 1:
            _check(prctl(_PR_CAPBSET_DROP, number))
        number += 1
    data = (_CapData * 2)()
    for half in (0, 1):
        bits = kept >> 32 * half & 0xFFFFFFFF
        data[half].effective = data[half].permitted = bits
        data[half].inheritable = bits if over_exec else 0
    _check(_libc.capset(ctypes.byref(_CapHeader(_CAPABILITY_VERSION, 0)), data))
    if over_exec:
        for capability in range(number):
            if kept >> capability & 1:
                _check(prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability))


def _first_user_namespace() -> bool:
    with open("/proc/self/uid_map", encoding="ascii") as lines:
        return lines.read().split() == ["0", "0", "4294967295"]


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _enter(wanted: str) -> bool:
    """Unshare; returns whether a user namespace was made."""
    effective, _ = _capabilities()
    if wanted != "always" and effective >> _CAP_SYS_ADMIN & 1:
        try:
            _unshare(_CLONE_NEWNS)
            return False
        except OSError as error:
            if wanted == "never" or error.errno != errno.EPERM:
                raise Failed("enter a mount namespace", "", error) from error
    if wanted == "never":
        raise Failed("enter a mount namespace", "", PermissionError(errno.EPERM, "CAP_SYS_ADMIN is missing"))
    uid, gid = os.geteuid(), os.getegid()
    try:
        _unshare(_CLONE_NEWUSER | _CLONE_NEWNS)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    except OSError as error:
        raise Failed("enter a user namespace", "", error) from error
    return True


def _open(path: str, step: str, opened: list[int]) -> str:
    """A name of `path` that stays right when something is mounted over it, and needs no escaping in mount options, while what is `opened` is."""
    try:
        opened.append(os.open(path, os.O_PATH))
    except OSError as error:
        raise Failed(step, path, error) from error
    return f"/proc/self/fd/{opened[-1]}"


def _make_target(target: str, is_directory: bool, mounted: list[str]) -> None:
    """Make a missing mount point, but only inside an overlay of ours: there it lands in the run's own layer."""
    if os.path.exists(target):
        return
    if not any(target.startswith(above + "/") for above in mounted):
        raise Failed("mount over", target, FileNotFoundError(errno.ENOENT, "no such file or directory"))
    try:
        os.makedirs(target if is_directory else os.path.dirname(target), exist_ok=True)
        if not is_directory:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT, 0o644))
    except OSError as error:
        raise Failed("make the mount point", target, error) from error


def _mount_overlay(name: str, lower: str, upper: str, work: str, target: str, user_xattr: bool) -> None:
    # by `name`, which /proc/PID/mountinfo shows, the processes that see it are found: the number of a namespace is used again at once
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    # what a rename of a whole directory leaves must be files that can be listed, not a pointer into the layer below
    options += ",userxattr" if user_xattr else ",redirect_dir=nofollow,metacopy=off"
    try:
        # without `volatile` the end of a run waits until the whole disk is synced; Linux before 5.10 does not know it
        _mount(name, target, "overlay", 0, options + ",volatile")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _mount(name, target, "overlay", 0, options)


class _MountAttributes(ctypes.Structure):
    _fields_ = (("set", ctypes.c_uint64), ("clear", ctypes.c_uint64), ("propagation", ctypes.c_uint64), ("userns", ctypes.c_uint64))


def _bind(source: str, target: str, writable: bool) -> None:
    # recursive: in a user namespace a tree with mounts below it can only be bound whole
    _mount(source, target, "", _MS_BIND | _MS_REC)
    if writable:
        return
    attributes = _MountAttributes(_MS_RDONLY, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    if result == 0:
        return
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):
        _check(result)
    has = os.statvfs(target).f_flag
    kept = sum(flag for known, flag in _KEPT_FLAGS.items() if has & known)
    _mount("", target, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def _mount_all(overlays: list[dict[str, str]], binds: list[dict[str, object]], user_xattr: bool) -> None:
    """Open every source while nothing hides it, then mount from the shortest target to the deepest."""
    opened: list[int] = []
    steps: list[tuple[int, str, tuple[str, str, str, str] | None, str, bool, bool]] = []
    for overlay in overlays:
        layers = (
            overlay.get("name", "overlay"),
            _open(overlay["lower"], "open the layer", opened),
            _open(overlay["upper"], "open the layer", opened),
            _open(overlay["work"], "open the layer", opened),
        )
        steps.append((overlay["target"].count("/"), overlay["target"], layers, "", True, True))
    for bind in binds:
        source, target = str(bind["source"]), str(bind["target"])
        name = _open(source, "open", opened)
        is_directory = stat.S_ISDIR(os.stat(name).st_mode)
        steps.append((target.count("/"), target, None, name, bool(bind["writable"]), is_directory))
    mounted: list[str] = []
    for _, target, layer, source, writable, is_directory in sorted(steps, key=lambda step: step[0]):
        _make_target(target, is_directory, mounted)
        try:
            if layer:
                _mount_overlay(*layer, target, user_xattr)
                mounted.append(target)
            else:
                _bind(source, target, writable)
        except OSError as error:
            raise Failed("mount over", target, error) from error
    for descriptor in opened:
        os.close(descriptor)


def enter(spec: dict[str, object], hold: bool = False) -> None:
    """Put this process where `spec` (SPEC.json) says. `hold`: in a user namespace, keep the right to mount, also over an exec. Raises Failed."""
    _, permitted = _capabilities()
    in_user_namespace = _enter(str(spec["user_namespace"]))
    _mount_and_change(spec, in_user_namespace)
    if in_user_namespace:
        admin = 1 << _CAP_SYS_ADMIN
        _drop_to(permitted | admin if hold else permitted & ~admin, hold)


def enter_from_held(spec: dict[str, object]) -> None:
    """The same for a process whose ancestor has entered with `hold`: a mount namespace is enough, and the right that was held ends. Raises Failed."""
    held = prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_IS_SET, _CAP_SYS_ADMIN) == 1
    _enter("never")
    _mount_and_change(spec, in_user_namespace=held)
    if held:
        _drop_to(_capabilities()[1] & ~(1 << _CAP_SYS_ADMIN), over_exec=False)


def _mount_and_change(spec: dict[str, Any], in_user_namespace: bool) -> None:
    try:
        # nothing that is mounted here may show outside
        _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    except OSError as error:
        raise Failed("make mounts private", "/", error) from error
    _mount_all(spec["overlays"], spec["binds"], in_user_namespace or not _first_user_namespace())
    try:
        os.chdir(spec["cwd"])
    except OSError as error:
        raise Failed("change into", spec["cwd"], error) from error


def _drop_to(kept: int, over_exec: bool) -> None:
    try:
        _keep_only(kept, over_exec)
    except OSError as error:
        raise Failed("drop capabilities", "", error) from error


def _run(spec_path: str, argv: list[str]) -> None:
    with open(spec_path, encoding="utf-8") as file:
        spec = json.load(file)
    enter(spec, hold=bool(spec.get("hold")))
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        # Python ignores them and exec would hand that on
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execve(argv[0], argv, os.environ)
    except OSError as error:
        raise Failed("start", argv[0], error) from error


def main() -> int:
    """Returns only when something failed."""
    spec_path, dashes, *argv = sys.argv[1:]
    if dashes != "--" or not argv:
        print("usage: namespace.py SPEC.json -- ARGV…", file=sys.stderr)
        return 2
    # the run directory may be hidden by the time something fails
    beside = os.open(os.path.dirname(os.path.abspath(spec_path)), os.O_PATH | os.O_DIRECTORY)
    try:
        _run(spec_path, argv)
    except Failed as failed:
        print(f"jupyter_jobs: {failed}", file=sys.stderr)
        reason = {"step": failed.step, "path": failed.path, "errno": failed.errno, "message": str(failed)}
        descriptor = os.open(ERROR_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=beside)
        os.write(descriptor, json.dumps(reason).encode())
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
