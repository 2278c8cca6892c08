"""The sheet that every picture is drawn on: one style, whatever the user's matplotlib says."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

DPI = 150
EXTREME = 1e200  # a measure beyond it has diverged
ORANGE, BLUE, GREEN = "#D55E00", "#0072B2", "#009E73"  # Okabe and Ito's, told apart by colour-blind readers
PALETTE = (
    BLUE,
    ORANGE,
    GREEN,
    "#CC79A7",
    "#222222",
    "#56B4E9",
    "#E69F00",
    "#B8A800",
)  # theirs, yellow darker
MARKERS = "os^DvPX<>ph"  # 11 of them and 8 colours tell 88 series apart
STEPS = (1, 2, 2.5, 5, 10)  # of ticks
UNITS = {6: "millions", 9: "billions", 12: "trillions"}
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


def limits(values: Array, ratio: float) -> tuple[float, float, bool]:
    """Lowest and highest value, and whether a logarithmic axis serves them, on which only positive ones count."""
    positive = values[values > 0]
    log = values.min() >= 0 and len(positive) > 0 and np.log(positive.max() / positive.min()) >= np.log(ratio)
    shown = positive if log else values
    return float(shown.min()), float(shown.max()), bool(log)


def plain_log_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks 1, 2, 5, 10 … in plain decimals on a logarithmic axis of values that need no powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if low < 1e-4 or high > 1e5 or high / low > 1e4:
        return
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:.10g}")
    axis.set_minor_formatter(NullFormatter())


def set_scale(axes: Axes, which: str, low: float, high: float, *, log: bool, margin: float) -> None:
    """Limits of the axis `which` ("x", "y"), with a part of what is between them as a margin, and ticks."""
    from matplotlib.ticker import MaxNLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        axes.set(**{f"{which}scale": "log"})
        plain_log_ticks(axis, low, high)
        room = 10 ** (margin * float(np.log10(high) - np.log10(low))) if high > low else 2.0
        ends = (low / room, high * room)
    else:
        axis.set_major_locator(MaxNLocator(5, steps=STEPS))
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        room = margin * (high - low) if high > low else 0.25 * abs(high) or 1.0
        ends = (low - room, high + room)
    axes.set(**{f"{which}lim": ends})


def in_units(axis: Axis, high: float) -> str:
    """Tick labels of a linear axis in millions and so on; what has to stand behind the axis' name, perhaps nothing."""
    power = int(np.log10(max(high, 1.0)) // 3) * 3
    power = power if power >= 6 else 0
    axis.set_major_formatter(lambda value, _: f"{value / 10.0**power:,.10g}")
    return f" ({UNITS.get(power, f'1e{power}')})" if power else ""


def write_around(figure: Figure, title: str, notes: Sequence[str]) -> None:
    """A title above and small notes below, literally, in lines that fit the width."""
    inches = figure.get_size_inches()[0]
    if title:
        figure.suptitle(
            textwrap.fill(title, int(13 * inches)), x=0.01, ha="left", fontsize=10, parse_math=False
        )
    below = "\n".join(textwrap.fill(note, int(16 * inches)) for note in notes if note)
    if below:
        figure.supxlabel(below, x=0.01, ha="left", fontsize=8, color="#444444", parse_math=False)
