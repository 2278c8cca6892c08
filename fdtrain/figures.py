"""Pictures for a report: a run's curves and network, a topology, a schedule. PNG files, drawn without a display.

Matplotlib and networkx are imported when the first picture is drawn: they take longer than a small run.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.rundir import RunDirectory
from fdtrain.schedule import Field, Kind, Schedule
from fdtrain.service import EpochRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

DPI = 150
CURVES, NETWORK = (6.0, 3.6), (6.8, 5.6)  # inches
MAX_DRAWN = 5000  # nodes; more are a blot, and take minutes to lay out
MAX_LABELLED = 40  # nodes
EXACT_LAYOUT = 300  # nodes; above, Kamada and Kawai's layout takes too long
HEAD, TAIL = 16, 8  # rounds of a long schedule that are drawn
ORANGE, BLUE, GREEN = "#D55E00", "#0072B2", "#009E73"  # Okabe and Ito's, told apart by colour-blind readers
TINTS = ("#A6CEE9", "#F5C396", "#A8DCC8", "#EBC3DA", "#F3E9A0")  # of consecutive waves
GREYS: dict[Kind, str] = {"features": "#4D4D4D", "backward": "#969696", "slice": "#D0D0D0"}
LANES: dict[Kind, str] = {"features": "features", "backward": "backward\nterms", "slice": "parameter\nslices"}
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


def draw_run(run: RunDirectory) -> list[Path]:
    """Draw what is in `run` into its ``figures`` folder: loss, disagreement, and the last network.

    A centralized run sends nothing: its loss is drawn against epochs, in ``loss_epochs.png``.

    Returns:
        The files that were written.

    Raises:
        InputError: the run has no finished epoch.
    """
    rows = run.read_metrics() if (run.path / "metrics.csv").exists() else []
    if not rows:
        raise InputError(f"{run.path}: has no finished epoch in metrics.csv, so there is nothing to draw")
    epochs, rounds = [row.epoch for row in rows], [row.rounds for row in rows]
    size, unit = _bytes_unit(max(row.bytes for row in rows))
    loss = {"train": ([row.mse_train for row in rows], ORANGE), "test": ([row.mse_test for row in rows], BLUE)}
    spread = {"": ([row.disagreement for row in rows], GREEN)}
    figures = [
        ("loss_rounds", rounds, "message-passing rounds", "MSE", loss),
        ("loss_bytes", [row.bytes / size for row in rows], f"sent over all links ({unit})", "MSE", loss),
        ("disagreement", epochs, "epoch", "RMS distance of a node's θ from the mean", spread),
    ]
    if not any(rounds):
        figures = [("loss_epochs", epochs, "epoch", "MSE", loss)]
    elif not any(row.bytes for row in rows):
        del figures[1]
    written = []
    for name, x, xlabel, ylabel, curves in figures:
        written.append(run.figures / f"{name}.png")
        with _figure(written[-1], CURVES) as figure:
            _draw_curves(figure.add_subplot(), rows, np.asarray(x, dtype=np.float64), curves)
            figure.axes[0].set(xlabel=xlabel, ylabel=ylabel)
    if (run.path / "network.npz").exists():
        graph, node_loss = run.read_network()
        written.append(run.figures / "network.png")
        with _figure(written[-1], NETWORK) as figure:
            _draw_network(figure, graph, node_loss, "test MSE of the node", "")
    return written


def draw_topology(graph: Graph, path: Path, title: str) -> None:
    """Draw `graph` with its nodes coloured by degree; above :data:`MAX_DRAWN` nodes the picture only says so."""
    with _figure(path, NETWORK) as figure:
        _draw_network(figure, graph, graph.degrees.astype(np.float64), "degree", title, whole=True)


def draw_schedule(schedule: Schedule, path: Path) -> None:
    """Draw which message rides in which round, and how large the messages are.

    A column is a round. A box names the row that rides in it, as the forward or backward message of a layer, and below
    it the wave in parentheses. Of a long schedule only the first and the last rounds are drawn.
    """
    rounds = schedule.rounds
    cut = len(rounds) - TAIL if len(rounds) > HEAD + TAIL + 2 else None
    shown = list(range(len(rounds))) if cut is None else [*range(HEAD), *range(cut, len(rounds))]
    at = {r: float(r if cut is None or r < HEAD else r - cut + HEAD + 2) for r in shown}
    kinds = [kind for kind in LANES if schedule.numbers_of(kind)]
    size = (max(6.0, 1.5 + 0.36 * (at[shown[-1]] + 1)), 2.7 + 0.62 * len(kinds))
    with _figure(path, size) as figure:
        figure.suptitle(_headline(schedule, int(size[0] * 12)), x=0.01, ha="left", fontsize=10)
        lanes, bars = figure.subplots(2, sharex=True, height_ratios=[0.62 * len(kinds), 1.3])
        _draw_lanes(lanes, schedule, kinds, at)
        _draw_sizes(bars, schedule, kinds, at)
        ticks = [r for r in shown if len(shown) <= 12 or r % 2 == 0 or r == shown[-1] and cut is None]
        bars.set(xticks=[at[r] for r in ticks], xlabel="round", xlim=(-0.7, at[shown[-1]] + 0.7))
        bars.set_xticklabels([str(r) for r in ticks], fontsize=8)
        if cut is not None:
            left_out = f"{cut - HEAD:,} rounds left out"
            lanes.text(HEAD + 0.5, (len(kinds) - 1) / 2, left_out, rotation=90, ha="center", va="center", fontsize=8)
            for axes in (lanes, bars):
                axes.axvspan(HEAD - 0.25, HEAD + 1.25, color="white", zorder=3, clip_on=False)
            bars.text(HEAD + 0.5, 0, "…", ha="center", va="bottom", zorder=4)
            lanes.texts[-1].set_zorder(4)


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of `size` inches that is written to `path` in the end, whatever the user's own matplotlib style is."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # labels may be in any script
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


# --- curves


def _draw_curves(axes: Axes, rows: Sequence[EpochRow], x: Array, curves: dict[str, tuple[list[float], str]]) -> None:
    from matplotlib.ticker import MaxNLocator

    values = np.array([values for values, _ in curves.values()])
    finite = np.isfinite(values)
    seen = values[finite]
    for (name, (_, colour)), y, good in zip(curves.items(), values, finite, strict=True):
        style: dict[str, Any] = {"linestyle": "--" if name == "train" else "-", "label": name}
        if len(rows) <= 30:
            style |= {"marker": "o" if name == "train" else "s", "markersize": 3.5}
        axes.plot(x, np.where(good, y, np.nan), color=colour, **style)
    if len(seen) and seen.min() > 0 and seen.max() / seen.min() >= 8:
        axes.set_yscale("log")
    elif len(seen) == 0:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
    axes.set_xlim(0, 1.03 * x[-1])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=bool((x == x.round()).all())))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.grid(visible=True)
    if len(curves) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
    if not finite.all():
        first = rows[int(np.argmin(finite.all(axis=0)))].epoch
        axes.set_title(f"not finite in epoch {first}", loc="left", color="#B00000")


def _bytes_unit(largest: int) -> tuple[float, str]:
    """The decimal unit in which `largest` bytes are read best."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    power = min(max(len(str(largest)) - 1, 0) // 3, len(units) - 1)
    return 1000.0**power, units[power]


# --- networks


def _draw_network(
    figure: Figure, graph: Graph, values: Array, meaning: str, title: str, *, whole: bool = False
) -> None:
    """Draw `graph`, nodes coloured by `values` [V] (integers where `whole`)."""
    from matplotlib.collections import LineCollection
    from matplotlib.ticker import MaxNLocator

    nodes, axes = graph.num_nodes, figure.add_subplot()
    counts = f"{nodes:,} node{'s' * (nodes != 1)}, {graph.num_edges:,} edge{'s' * (graph.num_edges != 1)}"
    heading = f"{title}: {counts}" if title else counts
    axes.set_axis_off()
    if nodes > MAX_DRAWN:
        note = f"{counts}:\nnot drawn, as there are more than {MAX_DRAWN:,} nodes"
        axes.text(0.5, 0.5, note, ha="center", va="center", transform=axes.transAxes)
        axes.set_title(textwrap.shorten(title, 70, placeholder=" …"), loc="left", parse_math=False)
        return
    if len(values) != nodes:  # the run ended before its first test
        values = np.full(nodes, np.nan)
    bad = ~np.isfinite(values)
    if bad.any():
        heading += f"; {'all' if bad.all() else f'{bad.sum():,}'} without a finite {meaning.split(' of ')[0]} (grey)"
    at = graph.positions if graph.positions is not None else layout(graph)
    strength = float(np.clip(200 / max(graph.num_edges, 1), 0.25, 1.0))
    axes.add_collection(LineCollection(list(at[graph.edges()]), colors="#888888", linewidths=0.3 + 0.7 * strength,
                                       alpha=0.35 + 0.5 * strength, zorder=1))
    area = float(np.clip(9000 / nodes, 9, 170))
    outline: dict[str, Any] = {"s": area, "edgecolors": "#222222", "linewidths": 0.5 if nodes <= 300 else 0.25}
    axes.scatter(*at[bad].T, c="#DDDDDD", zorder=2, **outline)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.06)
    if not bad.all():
        order = np.flatnonzero(~bad)[np.argsort(values[~bad], kind="stable")]  # the large ones lie on top
        norm = _colour_norm(values[order], whole)
        points = axes.scatter(*at[order].T, c=values[order], norm=norm, cmap="viridis", zorder=3, **outline)
        bar = figure.colorbar(points, ax=axes, shrink=0.75, aspect=28, pad=0.02, label=meaning)
        bar.outline.set_linewidth(0.5)  # type: ignore[operator]
        if whole:
            bar.ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title(textwrap.fill(heading, 75), loc="left", parse_math=False)
    if graph.labels is not None and nodes <= MAX_LABELLED:
        _write_labels(figure, axes, at, graph.labels, float(np.sqrt(area)) / 2)


def _colour_norm(values: Array, whole: bool) -> Normalize:
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low >= (30 if not whole else 8):
        return LogNorm(low, high)
    if low == high:
        margin = 1.0 if whole else 0.05 * abs(low) or 1.0
        return Normalize(low - margin, high + margin)
    return Normalize(low, high)


def _write_labels(figure: Figure, axes: Axes, at: Array, labels: Sequence[str], radius: float) -> None:
    """Write each label at its node, on the side where it covers least."""
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.0, foreground="white")]
    figure.draw_without_rendering()  # settles where the nodes are
    points = axes.transData.transform(at)
    reach = (radius + 1.5) * DPI / 72
    taken = [np.array([*point - reach, *point + reach]) for point in points]
    for point, xy, label in zip(points, at, labels, strict=True):
        name = textwrap.shorten(label, 24, placeholder="…") or label[:24]
        width, height = 0.62 * 8 * len(name) * DPI / 72, 9 * DPI / 72
        best: tuple[float, Array, tuple[float, float], tuple[str, str]] | None = None
        for dx, dy in ((0, -1), (0, 1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)):
            centre = point + [dx * (reach + width / 2), dy * (reach + height / 2)]
            box = np.array([*centre - [width / 2, height / 2], *centre + [width / 2, height / 2]])
            cover = sum(_overlap(box, other) for other in taken)
            sides = ({0: "center", 1: "left", -1: "right"}[dx], {0: "center", 1: "bottom", -1: "top"}[dy])
            if best is None or cover < best[0]:
                best = (cover, box, (dx * (radius + 1.5), dy * (radius + 1.5)), sides)
        assert best is not None
        taken.append(best[1])
        axes.annotate(name, (float(xy[0]), float(xy[1])), best[2], textcoords="offset points", ha=best[3][0],
                      va=best[3][1], fontsize=8, zorder=5, path_effects=halo, parse_math=False)


def _overlap(one: Array, other: Array) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.prod(np.maximum(sides, 0.0)))


def layout(graph: Graph) -> Array:
    """Where to draw the nodes, [V, 2]: the same for the same graph. Components stand side by side, largest first."""
    from scipy.sparse.csgraph import connected_components

    pattern = graph.adjacency()
    pattern.data = np.ones_like(pattern.data)
    _, component = connected_components(pattern, directed=False)
    sizes = np.bincount(component)
    at = np.empty((graph.num_nodes, 2))
    x = y = shelf = 0.0
    row = 1.15 * max(float(np.sqrt(sizes.max())), float(np.sqrt(sizes.sum())))
    for number in np.argsort(-sizes, kind="stable"):
        members, side = np.flatnonzero(component == number), float(np.sqrt(sizes[number]))
        if x > 0 and x + side > row:
            x, y, shelf = 0.0, y - shelf, 0.0
        at[members] = _layout_component(pattern[members][:, members]) * side * 0.85 + [x, y - side]
        x, shelf = x + side, max(shelf, side)
    return at


def _layout_component(pattern: Any) -> Array:
    """A connected graph's nodes in the unit square: classical scaling from pivots, refined by networkx."""
    from scipy.sparse.csgraph import shortest_path

    nodes = pattern.shape[0]
    if nodes == 1:
        return np.full((1, 2), 0.5)
    pivots = np.unique(np.linspace(0, nodes - 1, 50).astype(np.int64))
    distance = np.square(shortest_path(pattern, unweighted=True, indices=pivots).T)  # [V, pivots]
    centred = distance - distance.mean(axis=0) - distance.mean(axis=1)[:, None] + distance.mean()
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    start = np.zeros((nodes, 2))
    start[:, : min(2, len(scale))] = left[:, :2] * scale[:2]
    start = start / max(float(np.abs(start).max()), 1e-300)
    start += np.random.default_rng(0).uniform(-0.01, 0.01, start.shape)  # nodes that coincide
    networkx = import_module("networkx")
    network, begin = networkx.from_scipy_sparse_array(pattern), dict(enumerate(start))
    if nodes <= EXACT_LAYOUT:
        placed = networkx.kamada_kawai_layout(network, pos=begin)
    else:
        iterations = int(np.clip(50_000 / nodes, 10, 50))
        placed = networkx.spring_layout(network, pos=begin, seed=0, iterations=iterations)
    at = np.array([placed[node] for node in range(nodes)])
    at -= at.min(axis=0)
    return at / max(float(at.max()), 1e-300)


# --- schedules


def _headline(schedule: Schedule, characters: int) -> str:
    sizes = "–".join(map(str, schedule.sizes))
    first = f"{schedule.scheme}, {schedule.form} form, sizes {sizes}, B = {schedule.batch:,}, w = {schedule.wave:,}"
    second = (f"{len(schedule.rounds):,} rounds per mini-batch; message: {schedule.average_width:,.1f} numbers on "
              f"average, {schedule.peak_width:,} at most")
    return textwrap.fill(first, characters) + "\n" + textwrap.fill(second, characters)


def _symbol(field: Field, schedule: Schedule) -> str:
    if field.kind == "slice":
        return f"{field.start}:{field.start + field.width}"
    if field.kind == "features":
        name = rf"x^{{{field.layer - 1}}}" + (r"\Theta" if schedule.form == "sender" else "")
    else:
        name = ("p" if schedule.form == "receiver" else "q") + rf"^{{{field.layer}}}"
    return f"${name}$\n({field.wave})"


def _draw_lanes(axes: Axes, schedule: Schedule, kinds: Sequence[Kind], at: dict[int, float]) -> None:
    from matplotlib.patches import Rectangle

    for r, x in at.items():
        for field in schedule.rounds[r].fields:
            y = kinds.index(field.kind)
            colour = "#EEEEEE" if field.kind == "slice" else TINTS[field.wave % len(TINTS)]
            axes.add_patch(Rectangle((x - 0.46, y - 0.42), 0.92, 0.84, facecolor=colour, edgecolor="none"))
            rotation = 90 if field.kind == "slice" else 0
            axes.text(x, y, _symbol(field, schedule), ha="center", va="center", fontsize=7, rotation=rotation)
    axes.set(ylim=(len(kinds) - 0.5, -0.5), yticks=range(len(kinds)), yticklabels=[LANES[kind] for kind in kinds])
    axes.tick_params(bottom=False, left=False, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def _draw_sizes(axes: Axes, schedule: Schedule, kinds: Sequence[Kind], at: dict[int, float]) -> None:
    x, base = list(at.values()), np.zeros(len(at), dtype=np.int64)
    for kind in kinds:
        part = [sum(f.width for f in schedule.rounds[r].fields if f.kind == kind) for r in at]
        axes.bar(x, part, 0.92, bottom=base, color=GREYS[kind], label=LANES[kind].replace("\n", " "))
        base = base + part
    upright = max(len(f"{total:,}") for total in base) <= 5
    for place, total in zip(x, base, strict=True):
        axes.annotate(f"{total:,}", (place, total), (0, 2), textcoords="offset points", ha="center", va="bottom",
                      fontsize=7, rotation=0 if upright else 90)
    axes.set_ylim(0, max(schedule.peak_width, 1) * (1.2 if upright else 1.5))
    axes.set_ylabel("numbers")
    formatter: Callable[[float, int], str] = lambda value, _: f"{value:,.10g}"  # noqa: E731
    axes.yaxis.set_major_formatter(formatter)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.1, fontsize=8)
