"""Folders that a job needs only while it runs, and what earlier ones left behind whose processes were all killed.

A folder is named for the process that made it, so that anybody can see whether that one is still there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import zlib
from collections.abc import Iterable
from itertools import count
from pathlib import Path

SHARED = Path("/dev/shm")
_NAME = re.compile(r"fdtrain-(\d+)-([0-9a-f]+)-([0-9a-f]+)(-\d+)?")  # pid, its start, its namespace
_SEGMENTS = ("mpich_shm_", "sm_segment.", "vader_segment.")  # what MPIs call their shared memory


def make(parent: Path) -> Path:
    """A new folder in `parent` for this process.

    Raises:
        OSError: it cannot be made.
    """
    name = _name_of(os.getpid())
    for number in count():
        folder = parent / (f"{name}-{number}" if number else name)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise AssertionError


def of(parent: Path, pid: int) -> Path:
    """The folder in `parent` that the children of process `pid` share.

    Raises:
        OSError: it cannot be made, or there is no such process.
    """
    folder = parent / _name_of(pid)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def remove(folders: Iterable[Path]) -> None:
    """Remove folders, if they are there."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(*parents: Path) -> None:
    """Remove this user's folders in `parents` whose processes have ended."""
    for parent in parents:
        with contextlib.suppress(OSError):
            remove(folder for folder in parent.glob("fdtrain-*") if _is_orphan(folder))


def segments(pids: Iterable[int]) -> set[Path]:
    """The MPI's shared memory that these processes have mapped, where it is not in a folder of its own."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                path = Path(line[line.find("/") :])
                if path.parent == SHARED and path.name.startswith(_SEGMENTS):
                    found.add(path)
    return found


def started(pid: int) -> int:
    """When a process started, in ticks since the machine did.

    Raises:
        OSError: there is no such process.
    """
    return int(_status(pid)[19])


def state(pid: int) -> str:
    """R, S, D, T (stopped), Z, as ``ps`` says; empty where there is no such process."""
    try:
        return _status(pid)[0]
    except OSError:
        return ""


def parent(pid: int) -> int:
    """The parent of a process.

    Raises:
        OSError: there is no such process.
    """
    return int(_status(pid)[1])


def _status(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _name_of(pid: int) -> str:
    return f"fdtrain-{pid}-{started(pid):x}-{_namespace():x}"


def _namespace() -> int:
    """Process numbers mean something only within it, and on one machine since its start; others may share folders."""
    boot = b""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
    return zlib.crc32(b"%d %s" % (os.stat("/proc/self/ns/pid").st_ino, boot))


def _is_orphan(folder: Path) -> bool:
    match = _NAME.fullmatch(folder.name)
    if match is None or int(match[3], 16) != _namespace():
        return False
    try:
        if folder.lstat().st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
            return False
        return started(int(match[1])) != int(match[2], 16)
    except (FileNotFoundError, ProcessLookupError):
        return True
