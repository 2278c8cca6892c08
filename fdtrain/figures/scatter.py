"""Combinations next to each other: points of one quantity against another, such as a property of the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.figures.canvas import (
    DPI,
    MARKERS,
    PALETTE,
    in_units,
    limits,
    readable,
    set_scale,
    sheet,
    write_around,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

SCATTER = (7.0, 4.8)  # inches
SIZE = 6.0  # points across a marker
NEST = 4.0  # points by which a marker is larger than one that covers it
FAR = 8.0  # points; a label that far from its point gets a line to it


@dataclass(frozen=True)
class Point:
    """A point with its standard deviations over repetitions; groups differ in colour and marker."""

    label: str
    x: float
    y: float
    spread: tuple[float, float] = (0.0, 0.0)
    group: str = ""


def draw_scatter(
    path: Path, points: Sequence[Point], xlabel: str, ylabel: str, linear: str = "", *, title: str = ""
) -> None:
    """Draw points with error bars and labels; an axis of which values span 8 and more is logarithmic.

    Not so those that `linear` names: ``x``, ``y`` or ``xy``.

    A marker that one of a later group would cover is larger than that, and seen behind it. Points above each
    other that have the same label are labelled once.

    What cannot be on the axes is named below them. `xlabel` and `ylabel` may hold mathematics.

    Raises:
        InputError: there is no point.
    """
    if not points:
        raise InputError(f"{path}: there is no point to draw")
    with sheet(path, SCATTER) as figure:
        axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel)
        at = readable(np.array([(point.x, point.y) for point in points], dtype=np.float64))
        spread = np.nan_to_num(readable(np.abs(np.array([point.spread for point in points], np.float64))))
        shown: NDArray[np.bool_] = np.isfinite(at[:, 0]) & np.isfinite(at[:, 1])
        for side, which in enumerate("xy"):
            if shown.any():
                low, high, log = limits(at[shown, side], np.inf if which in linear else 8)
                shown = shown & ((at[:, side] > 0) | (not log))
                low_bar = float((at - spread)[shown, side].min())
                low = max(min(low, low_bar), low / 2) if log else min(low, low_bar)  # a long bar runs off
                high = max(high, float((at + spread)[shown, side].max()))
                set_scale(axes, which, low, high, log=log, margin=0.1)
                axis = axes.xaxis if which == "x" else axes.yaxis
                unit = "" if log else in_units(axis, high)
                axis.set_label_text((xlabel, ylabel)[side] + unit)
        groups = list(dict.fromkeys(point.group for point in points))
        colours = [PALETTE[groups.index(point.group) % len(PALETTE)] for point in points]
        of = np.array([groups.index(point.group) for point in points])
        sizes = np.full(len(points), SIZE)
        sizes[shown] = _sizes(axes.transData.transform(at[shown]), of[shown])
        for number in range(len(groups)):
            chosen = (of == number) & shown
            _draw_points(axes, at[chosen], spread[chosen], number, sizes[chosen])
        axes.grid(visible=True)
        if len(groups) > 1:
            _write_groups(axes, groups)
        out = [
            f"{point.label}{f', {point.group}' * bool(point.group)} ({point.x:.3g}, {point.y:.3g})"
            for point, seen in zip(points, shown, strict=True)
            if not seen
        ]
        bars = "bars: standard deviation over repetitions" if spread[shown].any() else ""
        write_around(figure, title, [bars, "not on the axes: " + "; ".join(out) if out else ""])
        tags = [
            (point.label, colour if len(groups) > 1 else "black")
            for point, colour, seen in zip(points, colours, shown, strict=True)
            if seen
        ]
        _write_tags(figure, axes, at[shown], spread[shown], tags, sizes[shown])


def _sizes(centre: Array, of: NDArray[np.int_]) -> Array:
    """How large the marker of each point is, which is at `centre` [N, 2], in pixels, and of the group `of` [N]."""
    sizes = np.full(len(centre), SIZE)
    for k in np.argsort(-of, kind="stable"):
        near = np.hypot(*(centre - centre[k]).T) < 0.6 * SIZE * DPI / 72
        sizes[k] = max([SIZE, *(sizes[near & (of > of[k])] + NEST)])
    return sizes


def _draw_points(axes: Axes, at: Array, spread: Array, number: int, sizes: Array) -> None:
    bars = [side if side.any() else None for side in spread.T]
    axes.errorbar(
        at[:, 0],
        at[:, 1],
        xerr=bars[0],
        yerr=bars[1],
        fmt=MARKERS[number % len(MARKERS)],
        color=PALETTE[number % len(PALETTE)],
        markersize=SIZE,
        markeredgecolor="white",
        markeredgewidth=0.6,
        elinewidth=1.0,
        capsize=2.5,
        zorder=3,
    )
    if (covered := sizes > SIZE).any():
        axes.scatter(
            at[covered, 0],
            at[covered, 1],
            s=sizes[covered] ** 2,
            marker=MARKERS[number % len(MARKERS)],
            color=PALETTE[number % len(PALETTE)],
            edgecolor="white",
            linewidth=0.6,
            zorder=2.9,
        )


def _write_groups(axes: Axes, groups: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], linestyle="", marker=MARKERS[k % len(MARKERS)], color=PALETTE[k % len(PALETTE)])
        for k, group in enumerate(groups)
        if group
    ]
    names = [group for group in groups if group]
    box = axes.legend(
        keys,
        [str(number) for number in range(len(names))],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        borderaxespad=0.2,
        borderpad=0.2,
        handletextpad=0.2,
    )
    for text, group in zip(box.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(group if len(group) <= 24 else group[:23] + "…")


def _write_tags(
    figure: Figure, axes: Axes, every: Array, bars: Array, marked: Sequence[tuple[str, str]], across: Array
) -> None:
    """Write each label near its point, whose marker is so many points `across`, with a line where another is nearer."""
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()  # settles where the points are
    pixel = DPI / 72  # pixels per point
    kept = _once_per_column(marked, axes.transData.transform(every), 12 * pixel)
    chosen, tags = list(kept), list(kept.values())
    names = [name if len(name) <= 40 else name[:39] + "…" for name, _ in tags]
    sizes = []
    for name in names:
        probe = figure.text(0, 0, name, fontsize=8, parse_math=False)
        sizes.append(probe.get_window_extent().size)
        probe.remove()
    frame, centre = np.concatenate(axes.bbox.get_points()), axes.transData.transform(every)
    reach = (across[:, None] / 2 + 3.0) * pixel
    blots = [np.hstack([centre - reach, centre + reach])]
    for side in np.eye(2) if bars.any() else ():  # the bars, as far as they can be seen
        ends = [axes.transData.transform(every + sign * bars * side) for sign in (-1, 1)]
        low, high = (np.clip(np.nan_to_num(end, nan=-1e9), frame[:2], frame[2:]) for end in ends)
        blots.append(np.hstack([low - pixel, high + pixel]))
    halves = np.array(sizes).reshape(-1, 2) / 2
    offsets = _place(centre[chosen], halves, np.concatenate(blots), frame)
    gaps = np.hypot(*np.maximum(np.abs(offsets) - halves, 0.0).T) / pixel
    for name, (_, colour), point, offset, gap in zip(
        names, tags, every[chosen], offsets / pixel, gaps, strict=True
    ):
        text = axes.annotate(
            name,
            (point[0], point[1]),
            (offset[0], offset[1]),
            textcoords="offset points",
            fontsize=8,
            color=[0.75 * part for part in to_rgb(colour)],  # darker, as it is text
            ha="center",
            va="center",
            zorder=5,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            if gap > FAR
            else None,
        )
        text.set_in_layout(False)
        text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])


def _once_per_column(
    tags: Sequence[tuple[str, str]], centre: Array, width: float
) -> dict[int, tuple[str, str]]:
    """The tags to be written, by point: of points with one label in a column of that width the topmost's, in black."""
    kept = dict(enumerate(tags))
    for label in {label for label, _ in tags}:
        same = [k for k, (name, _) in enumerate(tags) if name == label]
        if len(same) > 1 and np.ptp(centre[same, 0]) <= width:
            top = max(same, key=lambda k: centre[k, 1])
            kept = {k: tag for k, tag in kept.items() if k not in same or k == top} | {top: (label, "black")}
    return kept


def _place(points: Array, halves: Array, blots: Array, frame: Array) -> Array:
    """Where labels of these half sizes stand, relative to their points [L, 2], in pixels.

    Every label in turn takes the place where it covers least of points, bars and the others, some times over.
    """
    turns = np.arange(16) * (np.pi / 8)
    ways = np.tile(np.stack([np.cos(turns), np.sin(turns)], axis=1), (6, 1))
    gaps = np.repeat([7.0, 11.0, 16.0, 23.0, 32.0, 45.0], 16) * (DPI / 72)
    offsets = ways * gaps[:, None] + np.clip(1.5 * ways, -1, 1) * halves[:, None]  # [L, places, 2]
    centres = points[:, None] + offsets
    boxes = np.concatenate([centres - halves[:, None], centres + halves[:, None]], axis=2)
    area = 4 * halves.prod(axis=1)[:, None]
    fixed = 1.5 * gaps + 10 * (area - _covered(boxes, frame[None])) + _covered(boxes, blots)
    best = fixed.argmin(axis=1)
    for _ in range(6):
        for label in range(len(points)):
            taken = np.delete(boxes[np.arange(len(points)), best], label, axis=0)
            best[label] = (fixed[label] + 3 * _covered(boxes[label], taken)).argmin()
    chosen: Array = offsets[np.arange(len(points)), best]
    return chosen


def _covered(boxes: Array, others: Array) -> Array:
    """The area of each of `boxes` [..., 4] that `others` [N, 4] cover, counted as often as they do."""
    low = np.maximum(boxes[..., None, :2], others[:, :2])
    high = np.minimum(boxes[..., None, 2:], others[:, 2:])
    covered: Array = np.maximum(high - low, 0.0).prod(axis=-1).sum(axis=-1)
    return covered
