"""How loops are compiled, and where the compiled code is kept."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import njit

_HERE = Path(__file__).parent


def compiled(*, reassociates: bool = False) -> Callable[[Any], Any]:
    """A decorator: compile the function when it is first called, and keep the code on disk.

    Multiplication and addition may be fused; only with `reassociates` may sums be added in another order, the same for
    every node. Arrays are not counted (``_nrt``): a function may look into those that it is given, and make none.
    """
    freedom = {"contract", "reassoc", "nsz"} if reassociates else {"contract"}

    def decorate(function: Any) -> Any:
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, _folder()
        try:
            kept = numba.config.CACHE_DIR is not None
            return njit(cache=kept, nogil=True, error_model="numpy", _nrt=False, fastmath=freedom)(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate


@cache
def _folder() -> str | None:
    """Where compiled code is kept: numba looks at the file of a function alone, and not at those of the functions that
    it calls, so every version of these files has a folder of its own."""
    content = b"".join(path.read_bytes() for path in sorted(_HERE.glob("*.py")))
    name = f"fdtrain-{hashlib.sha256(content).hexdigest()[:16]}"
    asked = os.environ.get("NUMBA_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for base in [*filter(None, [asked]), str(_HERE / "__pycache__"), home, tempfile.gettempdir()]:
        try:
            os.makedirs(base, exist_ok=True)
        except OSError:
            continue
        if os.access(base, os.W_OK):
            return os.path.join(base, name)
    return None
