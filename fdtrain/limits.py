"""How long the processes of a job wait for one another: from the environment, alike for all of them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from fdtrain.errors import InputError

DEADLINE, GRACE = "FDTRAIN_DEADLINE", "FDTRAIN_GRACE"


def deadline(environ: Mapping[str, str] = os.environ) -> float:
    """Seconds until something that does not come is an error.

    Raises:
        InputError: the variable is no such number.
    """
    return _seconds(environ, DEADLINE, "300")


def grace(environ: Mapping[str, str] = os.environ) -> float:
    """Seconds in which ranks that were asked to stop may do so.

    Raises:
        InputError: the variable is no such number.
    """
    return _seconds(environ, GRACE, "60")


def _seconds(environ: Mapping[str, str], name: str, default: str) -> float:
    text = environ.get(name, default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise InputError(f"{name}: must be a number of seconds > 0, found '{text}'")
    return seconds
