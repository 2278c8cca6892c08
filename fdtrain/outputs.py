"""What ``--out`` names: looked at before anything is computed for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fdtrain.errors import InputError


def check_file(file: Path, suffix: str, option: str = "--out") -> None:
    """Refuse an output file that cannot be written, or whose name is that of something else.

    Raises:
        InputError: it has another suffix, is a directory, or has none to be in.
    """
    if file.suffix != suffix:
        raise InputError(f"{option} {file}: must end in {suffix}")
    if file.is_dir():
        raise InputError(f"{option} {file}: is a directory; name a file")
    if not file.parent.is_dir():
        raise InputError(f"{option} {file}: there is no directory {file.parent}; make it, or name another")
    if not os.access(file.parent, os.W_OK):
        raise InputError(f"{option} {file}: {file.parent} cannot be written to; name another directory")


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
        InputError: it is a file, or cannot be read.
    """
    if not os.path.lexists(directory):
        return []
    if not os.path.isdir(directory):
        raise InputError(f"--out {directory}: is a file; name a directory")
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise InputError(f"--out {directory}: cannot be read: {error.strerror}") from None
