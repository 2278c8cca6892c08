"""Large arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def zeros(*shape: int) -> Array:
    """Zeros, written: NumPy asks the system for huge pages where it does not ask for zeros, and passes over a large
    network go through all of its memory again and again."""
    made = np.empty(shape)
    made.fill(0.0)
    return made
