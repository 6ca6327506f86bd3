"""A real disk that is too small: a tmpfs which only the process that mounts it sees."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

# From <sched.h> and <sys/mount.h>.
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE, _REMOUNT = 0x4000 | 0x40000, 0x20


def mountable(folder: Path) -> bool:
    """Whether this machine lets a process mount a file system for itself alone."""
    if shutil.which("unshare") is None:
        return False
    folder.mkdir(exist_ok=True)
    tried = ["unshare", "-rm", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    return subprocess.run(tried, capture_output=True).returncode == 0


def mount(folder: Path, size: int) -> None:
    """Cover a folder with a disk of so many bytes, for this process and its children.

    The process has one thread yet: another could not get mounts of its own.

    Raises:
        OSError: not permitted, see `mountable`.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_MOUNTS | _NEW_USER):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        Path("/proc/self", name).write_text(line)
    _mount(libc, None, Path("/"), None, _PRIVATE, None)
    _mount(libc, b"tmpfs", folder, b"tmpfs", 0, f"size={size}".encode())


def enlarge(folder: Path, size: int) -> None:
    """Give the disk that was mounted so many bytes."""
    libc = ctypes.CDLL(None, use_errno=True)
    _mount(libc, b"tmpfs", folder, b"tmpfs", _REMOUNT, f"size={size}".encode())


def _mount(
    libc: ctypes.CDLL,
    source: bytes | None,
    target: Path,
    kind: bytes | None,
    flags: int,
    data: bytes | None,
) -> None:
    if libc.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), data):
        raise OSError(ctypes.get_errno(), f"mount {target}")
