"""What ``--out`` names: looked at before anything is computed for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fdtrain.errors import InputError

MAX_NAME = 255  # bytes of a file's name, on the usual file systems


def check_file(file: Path, suffix: str, option: str = "--out") -> None:
    """Refuse an output file that cannot be written, or whose name is that of something else.

    Raises:
        InputError: it has another suffix, is a directory, or has none to be in.
    """
    if file.suffix != suffix:
        raise InputError(f"{option} {file}: must end in {suffix}")
    if os.path.isdir(file):  # Path.is_dir raises on a name that is too long
        raise InputError(f"{option} {file}: is a directory; name a file")
    if not os.path.isdir(file.parent):
        raise InputError(f"{option} {file}: there is no directory {file.parent}; make it, or name another")
    if len(os.fsencode(file.name)) > MAX_NAME:
        raise InputError(f"{option} {file}: the name is longer than {MAX_NAME} bytes; choose a shorter one")
    if not os.access(file.parent, os.W_OK):
        raise InputError(f"{option} {file}: {file.parent} cannot be written to; name another directory")


def make_folder(path: Path) -> None:
    """Make a directory, and those in which it is.

    Raises:
        OSError: it cannot be made; then none is left behind.
    """
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def writing(what: str | Path) -> Iterator[None]:
    """Say in one line that `what`, a file or an option with its value, cannot be written.

    Raises:
        InputError: what is done in this context raised an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{what}: cannot be written: {error.strerror or error}") from None


def contents(directory: Path) -> list[str]:
    """The names in an output directory; none where it is still to be made.

    Raises:
        InputError: it is a file, cannot be read, or cannot be made.
    """
    if not os.path.lexists(directory):
        _check_makeable(directory)
        return []
    if not os.path.isdir(directory):
        raise InputError(f"--out {directory}: is a file; name a directory")
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise InputError(f"--out {directory}: cannot be read: {error.strerror}") from None


def _check_makeable(directory: Path) -> None:
    """Refuse an output directory that cannot be made, before anything is computed for it."""
    if any(len(os.fsencode(part)) > MAX_NAME for part in directory.parts):
        problem = f"a name in it is longer than {MAX_NAME} bytes"
        raise InputError(f"--out {directory}: cannot be written: {problem}; choose a shorter one")
    above = next(folder for folder in directory.absolute().parents if os.path.lexists(folder))
    if not os.path.isdir(above):
        raise InputError(f"--out {directory}: cannot be written: {above} is a file; name another directory")
    if not os.access(above, os.W_OK):
        raise InputError(
            f"--out {directory}: cannot be written: {above} cannot be written to; name another directory"
        )
