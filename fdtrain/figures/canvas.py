"""The sheet that every picture is drawn on: one style, whatever the user's matplotlib says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

DPI = 150
EXTREME = 1e200  # a measure beyond it has diverged
ORANGE, BLUE, GREEN = "#D55E00", "#0072B2", "#009E73"  # Okabe and Ito's, told apart by colour-blind readers
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@contextmanager
def sheet(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of `size` inches, written to `path` in the end, whatever the user's matplotlib style."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # labels may be in any script
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def readable(values: Array) -> Array:
    """NaN for what is not finite or beyond what an axis can show, and 0 for what is next to nothing."""
    size = np.abs(values)
    return np.where(size < EXTREME, np.where(size < 1 / EXTREME, 0.0, values), np.nan)


def plain_log_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks 1, 2, 5, 10 … in plain decimals on a logarithmic axis of values that need no powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if low < 1e-4 or high > 1e5 or high / low > 1e4:
        return
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:.10g}")
    axis.set_minor_formatter(NullFormatter())
