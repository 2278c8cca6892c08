"""Large arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def zeros(*shape: int, dtype: Any = np.float64) -> Array:
    """Zeros, written: NumPy asks the system for huge pages for memory that it does not get zeroed, and passes over large
    networks go through all of it again and again."""
    made = np.empty(shape, dtype)
    made.fill(0.0)
    return made
