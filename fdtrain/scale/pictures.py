"""Pictures of a scaling study."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fdtrain.figures.canvas import MARKERS, PALETTE, plain_log_ticks, sheet, write_around
from fdtrain.scale.measured import PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (7.0, 4.2)  # inches
BARS = 16  # ranks that a picture has room for
LINES = 8  # lines in a panel, from which on there are several panels
PANELS = 12
TICKS = 8  # values that an axis names
IDEAL: dict[str, Any] = {"color": "#888888", "linewidth": 1, "linestyle": ":"}
COLOURS = dict(zip(PARTS, (PALETTE[0], PALETTE[6], "#CCCCCC"), strict=True))
Draw = Callable[["Axes", pl.DataFrame, dict[str, Any]], None]  # a line's points, and its style
_OTHERS = ("nodes", "degree", "hidden", "wave")


def draw(frame: pl.DataFrame, ranks: pl.DataFrame, out: Path) -> list[Path]:
    """Draw what the study has points for into ``figures/``; the files."""
    folder = out / "figures"
    made = []
    if frame["ranks"].n_unique() > 1:
        made += [_time(frame, folder / "time.png"), _efficiency(frame, folder / "efficiency.png")]
        made.append(_balance(frame, ranks, folder / "balance.png"))
    if frame["nodes"].n_unique() > 1:
        made.append(_nodes(frame, folder / "nodes.png"))
    if frame["predicted"].count():
        made.append(_predicted(frame, folder / "predicted.png"))
    return made


def _panels(frame: pl.DataFrame, along: str) -> list[tuple[str, list[tuple[str, pl.DataFrame]]]]:
    """The lines along an axis, with what they differ in: in one panel, or, if they are many, in a panel for each
    combination of all but the first of what varies."""
    weak = frame["mode"][0] == "weak" and along == "ranks"
    if weak:
        frame = frame.with_columns((pl.col("nodes") / pl.col("ranks")).cast(pl.Int64).alias("nodes"))
    frame = _rounded(frame)
    others = [name for name in ("ranks", *_OTHERS) if name != along]
    varying = [name for name in others if frame[name].n_unique() > 1]
    parts = [part.sort(along) for _, part in frame.group_by(others, maintain_order=True)]

    def words(part: pl.DataFrame, names: Sequence[str]) -> str:
        return ", ".join(f"{_title(name, weak)} {_shown(part[name][0])}" for name in names)

    first = len(varying) if len(parts) <= LINES else 1
    panels: dict[str, list[tuple[str, pl.DataFrame]]] = {}
    for part in parts:
        panels.setdefault(words(part, varying[first:]), []).append((words(part, varying[:first]), part))
    return [*panels.items()]


def _lines(
    path: Path, frame: pl.DataFrame, along: str, ylabel: str, draw: Draw, notes: Sequence[str] = ()
) -> Path:
    """Draw lines along an axis, in one panel or several that share their axes."""
    panels = _panels(frame, along)
    columns = min(4, math.ceil(math.sqrt(len(panels))))
    rows = math.ceil(min(len(panels), PANELS) / columns)
    size = SIZE if len(panels) == 1 else (2.9 * columns + 1.4, 2.3 * rows + 0.7)
    with sheet(path, size) as figure:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes, (title, lines) in zip(grid.flat, panels, strict=False):
            axes.set_title(title, fontsize=8)
            for number, (label, part) in enumerate(lines):
                draw(axes, part, {"label": label, **_style(number)})
            axes.set_xscale("log")
            _name_values(axes, frame[along])
            axes.grid(visible=True)
        figure.supxlabel(along, fontsize=10)
        figure.supylabel(ylabel, fontsize=10)
        _legend(figure, grid[0, 0])
        left = len(panels) - PANELS
        more = f"{left} more panels are not drawn; their lines are in scaling.csv" if left > 0 else ""
        if told := "; ".join(note for note in (*notes, more) if note):
            figure.suptitle(told, x=0.01, ha="left", fontsize=8, color="#444444")
    return path


def _rounded(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with whole degrees: that of a draw differs a little with the number of nodes."""
    return frame.with_columns(pl.col("degree").round(0))


def _title(name: str, weak: bool) -> str:
    return "nodes per rank" if weak and name == "nodes" else name


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"


def _style(number: int) -> dict[str, Any]:
    return {
        "color": PALETTE[number % len(PALETTE)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 5,
        "linewidth": 1.4,
    }


def _name_values(axes: Axes, values: pl.Series) -> None:
    """Ticks at the values themselves, unless they are too many."""
    named = sorted(values.unique())
    if len(named) <= TICKS:
        axes.set_xticks(named, [f"{value:,}" for value in named])
        axes.set_xticks([], minor=True)


def _legend(figure: Any, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if any(labels):
        figure.legend(handles, labels, loc="outside right upper", fontsize=8)


def _time(frame: pl.DataFrame, path: Path) -> Path:
    weak = frame["mode"][0] == "weak"

    def draw(axes: Axes, part: pl.DataFrame, style: dict[str, Any]) -> None:
        x, y = part["ranks"].to_numpy(), 1e3 * part["seconds"].to_numpy()
        axes.plot(x, np.full(len(x), y[0]) if weak else y[0] * x[0] / x, **IDEAL)
        ends = [part["seconds"] - part["seconds_min"], part["seconds_max"] - part["seconds"]]
        axes.errorbar(x, y, 1e3 * np.stack(ends), capsize=3, **style)
        axes.set_yscale("log")
        plain_log_ticks(axes.yaxis, 1e3 * _least(frame, "seconds_min"), 1e3 * _most(frame, "seconds_max"))

    note = f"{frame['statistic'][0]} of the timed mini-batches; bars: shortest and longest; dotted: ideal"
    return _lines(path, frame, "ranks", "ms per mini-batch", draw, [note])


def _efficiency(frame: pl.DataFrame, path: Path) -> Path:
    top = max(105.0, 105.0 * _most(frame, "efficiency"))

    def draw(axes: Axes, part: pl.DataFrame, style: dict[str, Any]) -> None:
        known = part.drop_nulls("efficiency")
        axes.axhline(100, **IDEAL)
        axes.plot(known["ranks"], 100 * known["efficiency"].to_numpy(), **style)
        axes.set_ylim(0, top)

    return _lines(path, frame, "ranks", "parallel efficiency (%)", draw)


def _nodes(frame: pl.DataFrame, path: Path) -> Path:
    top = 1.05e6 / _least(frame, "node_samples_per_second")

    def draw(axes: Axes, part: pl.DataFrame, style: dict[str, Any]) -> None:
        axes.plot(part["nodes"], 1e6 / part["node_samples_per_second"].to_numpy(), **style)
        axes.set_ylim(0, top)

    return _lines(path, frame, "nodes", "µs per node and sample", draw)


def _least(frame: pl.DataFrame, column: str) -> float:
    return float(np.nanmin(frame[column].to_numpy().astype(float)))


def _most(frame: pl.DataFrame, column: str) -> float:
    return float(np.nanmax(frame[column].fill_null(0.0).to_numpy().astype(float)))


def _balance(frame: pl.DataFrame, ranks: pl.DataFrame, path: Path) -> Path:
    """A bar per rank: busy, sending, waiting; the points with most ranks and nodes, as many as there is room for."""
    shown: list[tuple[str, pl.DataFrame]] = []
    by = ["ranks", "all_nodes", "degree", "hidden", "wave"]
    several = (
        _rounded(ranks)
        .filter(pl.col("ranks") > 1)
        .sort(["ranks", "all_nodes"], descending=True, maintain_order=True)
    )
    varying = [name for name in by if several[name].n_unique() > 1] or ["ranks"]
    left = BARS
    for _, part in several.group_by(by, maintain_order=True):
        if shown and len(part) > left:
            continue
        words = (f"{name.removeprefix('all_')} {_shown(part[name][0])}" for name in varying)
        shown.append(("\n".join(words), part.head(BARS)))
        left -= len(part)
    with sheet(path, (max(SIZE[0], 1.5 + 1.1 * len(shown)), SIZE[1])) as figure:
        axes = figure.add_subplot()
        place, middles = 0.0, []
        for number, (_, part) in enumerate(shown):
            x = place + np.arange(len(part))
            whole = np.sum([part[name].to_numpy() for name in PARTS], axis=0)
            bottom = np.zeros(len(part))
            for name in PARTS:
                height = 100 * part[name].to_numpy() / whole.max()
                axes.bar(x, height, 0.85, bottom, color=COLOURS[name], label=name if number == 0 else None)
                bottom = bottom + height
            middles.append(float(x.mean()))
            place = float(x[-1]) + 2
        axes.set_xticks(middles, [title for title, _ in shown], fontsize=8)
        axes.tick_params(axis="x", length=0)
        axes.set(ylabel="% of the longest rank's mini-batch")
        _legend(figure, axes)
        write_around(figure, "", ["a bar per rank; medians of its timed mini-batches"])
    return path


def _predicted(frame: pl.DataFrame, path: Path) -> Path:
    known = frame.drop_nulls("predicted")
    with sheet(path, (5.6, 4.6)) as figure:
        axes = figure.add_subplot()
        measured = 1e3 * known["seconds"].to_numpy()
        ends = np.array([measured.min(), measured.max()]) * (0.7, 1.4)
        axes.plot(ends, ends, **IDEAL)
        for number, (name, label) in enumerate(
            (("predicted", "fitted"), ("left_out", "left out of the fit"))
        ):
            style: dict[str, Any] = {"color": PALETTE[number], "marker": MARKERS[number], "linestyle": ""}
            hollow = {"markerfacecolor": "none", "markersize": 8} if number else {"markersize": 5}
            axes.plot(measured, 1e3 * known[name].to_numpy(), label=label, **style, **hollow)
        axes.set(xscale="log", yscale="log", xlabel="measured, ms per mini-batch", ylabel="predicted, ms")
        for axis in (axes.xaxis, axes.yaxis):
            plain_log_ticks(axis, *ends)
        axes.grid(visible=True)
        axes.legend(fontsize=8, loc="upper left")
    return path
