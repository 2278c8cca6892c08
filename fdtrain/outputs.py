"""What ``--out`` names: looked at before anything is computed for it."""

from __future__ import annotations

import os
from pathlib import Path

from fdtrain.errors import InputError


def check_folder(file: Path) -> None:
    """Refuse an output file that has no directory to be in.

    Raises:
        InputError: there is none.
    """
    if not file.parent.is_dir():
        raise InputError(f"--out {file}: there is no directory {file.parent}; make it, or name another")


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
