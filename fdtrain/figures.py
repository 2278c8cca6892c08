"""Pictures for a report, PNG files drawn without a display: a run's curves, a network, a schedule.

Matplotlib is imported when the first picture is drawn: that takes longer than a small run.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.rundir import RunDirectory
from fdtrain.schedule import Field, Form, Kind, Schedule
from fdtrain.service import EpochRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

DPI = 150
CURVES, NETWORK = (6.0, 3.6), (6.8, 5.6)  # inches
MAX_DRAWN = 5000  # nodes; more are a blot, and take minutes to lay out
MAX_LABELLED = 40  # nodes
EXACT_LAYOUT, PIVOTS = 1000, 300  # nodes; above the first, the layout uses distances to some nodes only
EXTREME = 1e200  # a measure beyond it has diverged
HEAD, TAIL = 16, 8  # rounds of a long schedule that are drawn
ORANGE, BLUE, GREEN = "#D55E00", "#0072B2", "#009E73"  # Okabe and Ito's, told apart by colour-blind readers
TINTS = ("#A6CEE9", "#F5C396", "#A8DCC8", "#EBC3DA", "#F3E9A0")  # of consecutive waves
GREYS: dict[Kind, str] = {"features": "#4D4D4D", "backward": "#969696", "slice": "#D0D0D0"}
LANES: dict[Kind, str] = {"features": "features", "backward": "backward terms", "slice": "parameter slices"}
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
    loss = {
        "train": ([row.mse_train for row in rows], ORANGE),
        "test": ([row.mse_test for row in rows], BLUE),
    }
    spread = {"": ([row.disagreement for row in rows], GREEN)}
    figures = [
        ("loss_rounds", rounds, "message-passing rounds", "MSE", loss),
        ("loss_bytes", [row.bytes / size for row in rows], f"sent over all links ({unit})", "MSE", loss),
        ("disagreement", epochs, "epoch", r"disagreement, RMS of $\Vert\theta^i-\bar\theta\Vert$", spread),
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
    """Draw `graph`, nodes coloured by degree; above :data:`MAX_DRAWN` nodes the picture only says so."""
    with _figure(path, NETWORK) as figure:
        _draw_network(figure, graph, graph.degrees.astype(np.float64), "degree", title, whole=True)


def draw_schedule(schedule: Schedule, path: Path) -> None:
    """Draw which message rides in which round, and how large the messages are.

    A column is a round. A box names the row that rides in it, and below it the wave in parentheses.
    Of a long schedule only the first and the last rounds are drawn.
    """
    rounds = schedule.rounds
    cut = len(rounds) - TAIL if len(rounds) > HEAD + TAIL + 2 else None
    shown = list(range(len(rounds))) if cut is None else [*range(HEAD), *range(cut, len(rounds))]
    at = {r: float(r if cut is None or r < HEAD else r - cut + HEAD + 2) for r in shown}
    kinds = [kind for kind in LANES if schedule.numbers_of(kind)]
    column = 0.34 + 0.06 * max(0, len(str(schedule.travelling)) - 4)  # inches
    size = (max(6.0, 1.5 + column * (at[shown[-1]] + 1)), 2.7 + 0.62 * len(kinds))
    with _figure(path, size) as figure:
        figure.suptitle(_headline(schedule, int(size[0] * 13)), x=0.01, ha="left", fontsize=10)
        lanes, bars = figure.subplots(2, sharex=True, height_ratios=[0.62 * len(kinds), 1.3])
        _draw_lanes(lanes, schedule, kinds, at)
        _draw_sizes(bars, schedule, kinds, at)
        ticks = [r for r in shown if len(shown) <= 12 or r % 2 == 0 or (r == shown[-1] and cut is None)]
        bars.set(xticks=[at[r] for r in ticks], xlabel="round", xlim=(-0.7, at[shown[-1]] + 0.7))
        bars.set_xticklabels([str(r) for r in ticks], fontsize=8)
        if cut is not None:
            left_out = f"{cut - HEAD:,} rounds" + ("\nleft out" if len(kinds) == 1 else " left out")
            middle = (len(kinds) - 1) / 2
            lanes.text(
                HEAD + 0.5, middle, left_out, rotation=90, ha="center", va="center", fontsize=8, zorder=4
            )
            for axes in (lanes, bars):
                axes.axvspan(HEAD - 0.25, HEAD + 1.25, color="white", zorder=3, clip_on=False)
            bars.text(HEAD + 0.5, 0, "…", ha="center", va="bottom", zorder=4)


@contextmanager
def _figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure of `size` inches, written to `path` in the end, whatever the user's matplotlib style."""
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # labels may be in any script
        figure = Figure(figsize=size, dpi=DPI, layout="constrained")
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


# --- curves


def _draw_curves(
    axes: Axes, rows: Sequence[EpochRow], x: Array, curves: dict[str, tuple[list[float], str]]
) -> None:
    from matplotlib.ticker import MaxNLocator

    values = _readable(np.array([values for values, _ in curves.values()]))
    finite = np.isfinite(values)
    seen = values[finite]
    for (name, (_, colour)), y, good in zip(curves.items(), values, finite, strict=True):
        style: dict[str, Any] = {"linestyle": "--" if name == "train" else "-", "label": name}
        if len(rows) <= 30:
            style |= {"marker": "o" if name == "train" else "s", "markersize": 3.5}
        axes.plot(x, np.where(good, y, np.nan), color=colour, **style)
    if len(seen) and seen.min() > 0 and seen.max() / seen.min() >= 8:
        axes.set_yscale("log")
        _plain_log_ticks(axes.yaxis, float(seen.min()), float(seen.max()))
    elif len(seen) == 0:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", va="center")
    elif len(rows) == 1:
        axes.set_ylim(0, 1.25 * float(seen.max()) or 1.0)
    axes.set_xlim(0, (1.03 if len(rows) > 1 else 1.5) * x[-1])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=bool((x == x.round()).all())))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.grid(visible=True)
    if len(curves) > 1:
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
    if not finite.all():
        first = rows[int(np.argmin(finite.all(axis=0)))].epoch
        axes.set_title(f"diverged in epoch {first:,}", loc="left", color="#B00000")


def _readable(values: Array) -> Array:
    """NaN for what is not finite or beyond what an axis can show, and 0 for what is next to nothing."""
    size = np.abs(values)
    return np.where(size < EXTREME, np.where(size < 1 / EXTREME, 0.0, values), np.nan)


def _plain_log_ticks(axis: Axis, low: float, high: float) -> None:
    """Ticks 1, 2, 5, 10 … in plain decimals on a logarithmic axis of values that need no powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    if low < 1e-4 or high > 1e5 or high / low > 1e4:
        return
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:.10g}")
    axis.set_minor_formatter(NullFormatter())


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
    from matplotlib.colors import LogNorm
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
    tested = len(values) == nodes  # otherwise the run ended before its first test
    values = _readable(values) if tested else np.full(nodes, np.nan)
    bad = np.isnan(values)
    if bad.any():
        who = "all" if bad.all() else f"{bad.sum():,}"
        heading += f"; {who} diverged (grey)" if tested else f"; no {meaning} yet"
    at = graph.positions if graph.positions is not None else layout(graph)
    ink = float(np.clip(100 / max(graph.num_edges, 1), 0.2, 1.0))
    lines = LineCollection(list(at[graph.edges()]), colors="#777777", linewidths=0.35 + 0.55 * ink, zorder=1)
    lines.set_alpha(0.4 + 0.45 * ink)
    axes.add_collection(lines)
    area = float(np.clip(9000 / nodes, 9, 170))
    outline: dict[str, Any] = {
        "s": area,
        "edgecolors": "#222222",
        "linewidths": 0.5 if nodes <= 300 else 0.25,
    }
    axes.scatter(at[bad, 0], at[bad, 1], c="#DDDDDD", zorder=2, **outline)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.06)
    if not bad.all():
        order = np.flatnonzero(~bad)[np.argsort(values[~bad], kind="stable")]  # the large ones lie on top
        norm = _colour_norm(values[order], whole)
        points = axes.scatter(
            at[order, 0], at[order, 1], c=values[order], norm=norm, cmap="viridis", zorder=3, **outline
        )
        bar = figure.colorbar(points, ax=axes, shrink=0.75, aspect=28, pad=0.02, label=meaning)
        bar.outline.set_linewidth(0.5)
        low, high = float(values[order[0]]), float(values[order[-1]])
        if low == high:
            bar.set_ticks([low], labels=[f"{low:.3g}"])
        elif isinstance(norm, LogNorm):
            _plain_log_ticks(bar.ax.yaxis, low, high)
        elif whole:
            bar.ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title(textwrap.fill(heading, 75), loc="left", parse_math=False)
    if graph.labels is not None and nodes <= MAX_LABELLED:
        _write_labels(figure, axes, at, graph, float(np.sqrt(area)) / 2)


def _colour_norm(values: Array, whole: bool) -> Normalize:
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low >= (30 if not whole else 8):
        return LogNorm(low, high)
    if low == high:
        margin = 1.0 if whole else 0.05 * abs(low) or 1.0
        return Normalize(low - margin, high + margin)
    return Normalize(low, high)


def _write_labels(figure: Figure, axes: Axes, at: Array, graph: Graph, radius: float) -> None:
    """Write each label at its node, on the side where it covers least of nodes, other labels and edges."""
    from matplotlib.patheffects import withStroke

    figure.draw_without_rendering()  # settles where the nodes are
    points = axes.transData.transform(at)
    pixel, gap = DPI / 72, radius + 1.5  # pixels per point; points
    taken = [np.array([*point - gap * pixel, *point + gap * pixel]) for point in points]
    ends = points[graph.edges()]  # [|E|, 2, 2]
    steps = np.linspace(0, 1, 60)[:, None, None]
    ink = ((1 - steps) * ends[:, 0] + steps * ends[:, 1]).reshape(-1, 2)
    for node, label in enumerate(graph.labels or ()):
        name = label if len(label) <= 24 else label[:23] + "…"
        half = np.array([0.31 * 8 * len(name), 4.5]) * pixel
        choices = []
        for rank, (dx, dy) in enumerate(
            ((0, -1), (0, 1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
        ):
            reach = gap * (0.75 if dx and dy else 1.0)
            centre = points[node] + np.array([dx, dy]) * (reach * pixel + half)
            box = np.concatenate([centre - half, centre + half])
            covered = np.sum(np.all((ink > box[:2]) & (ink < box[2:]), axis=1))
            cover = sum(_overlap(box, other) for other in taken) + 20.0 * float(covered)
            choices.append((cover, rank, box, (dx * reach, dy * reach), dx, dy))
        _, _, box, offset, dx, dy = min(choices, key=lambda choice: choice[:2])
        taken.append(box)
        text = axes.annotate(
            name,
            (float(at[node, 0]), float(at[node, 1])),
            offset,
            textcoords="offset points",
            fontsize=8,
            zorder=5,
            ha=("center", "left", "right")[dx],
            va=("center", "bottom", "top")[dy],
            parse_math=False,
        )
        text.set_path_effects([withStroke(linewidth=2.0, foreground="white")])


def _overlap(one: Array, other: Array) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.prod(np.maximum(sides, 0.0)))


def layout(graph: Graph) -> Array:
    """Where to draw the nodes, [V, 2]: the same for the same graph. Components side by side."""
    from scipy.sparse.csgraph import connected_components

    pattern = graph.adjacency()
    pattern.data = np.ones_like(pattern.data)
    _, component = connected_components(pattern, directed=False)
    members = [
        np.flatnonzero(component == number) for number in np.argsort(-np.bincount(component), kind="stable")
    ]
    at = np.empty((graph.num_nodes, 2))
    x = y = shelf = row = 0.0
    for nodes in members:
        placed = _layout_component(pattern[nodes][:, nodes])
        width, height = np.ptp(placed, axis=0) + 0.8
        row = max(row, float(width), 1.3 * float(np.sqrt(graph.num_nodes)))
        if x > 0 and x + width > row:
            x, y, shelf = 0.0, y - shelf, 0.0
        at[nodes] = placed - placed.min(axis=0) + [x, y - height]
        x, shelf = x + float(width), max(shelf, float(height))
    return at


def _layout_component(pattern: Any) -> Array:
    """A connected graph in the plane, the long side lying: distances on paper like distances in hops.

    Stress majorization from a start by classical scaling (Brandes and Pich 2009), with the distances to all
    nodes or to :data:`PIVOTS` random ones. It shows grids, rings and clusters as such, in seconds.
    """
    from scipy.sparse.csgraph import shortest_path

    nodes = pattern.shape[0]
    if nodes == 1:
        return np.zeros((1, 2))
    draws = np.random.default_rng(0)
    pivots = np.arange(nodes) if nodes <= EXACT_LAYOUT else np.sort(draws.permutation(nodes)[:PIVOTS])
    hops = np.ascontiguousarray(shortest_path(pattern, unweighted=True, indices=pivots).T)  # [V, pivots]
    near = np.square(hops[:, :: max(1, len(pivots) // 50)])
    near = near - near.mean(axis=0) - near.mean(axis=1)[:, None] + near.mean()
    left, scale, _ = np.linalg.svd(near, full_matrices=False)
    at = left[:, :2] * scale[:2]
    at *= 0.7 * hops.mean() / max(float(np.linalg.norm(at, axis=1).mean()), 1e-300)
    at += draws.uniform(-0.3, 0.3, at.shape)  # nodes with the same distances part
    weight = np.where(hops > 0, 1 / np.square(np.maximum(hops, 1)), 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    for _ in range(60):
        apart = at[:, :, None] - at[pivots].T  # [V, 2, pivots]
        pull = weight * (hops / (np.hypot(apart[:, 0], apart[:, 1]) + 1e-9) - 1)
        at = at + np.einsum("vcp,vp->vc", apart, pull)
    at -= at.mean(axis=0)
    turn: Array = np.linalg.svd(at, full_matrices=False)[2]
    flat: Array = at @ turn.T
    flat *= 0.9 * np.sqrt(nodes) / max(float(np.ptp(flat[:, 0])), 1e-300)
    return flat


# --- schedules


def _headline(schedule: Schedule, characters: int) -> str:
    sizes = "–".join(map(str, schedule.sizes))
    batch = f"B = {schedule.batch:,}, w = {schedule.wave:,}"
    first = f"{schedule.scheme}, {schedule.form} form, sizes {sizes}, {batch}"
    second = (
        f"{len(schedule.rounds):,} rounds per mini-batch; message: {schedule.average_width:,.1f} numbers on "
        f"average, {schedule.peak_width:,} at most"
    )
    return textwrap.fill(first, characters) + "\n" + textwrap.fill(second, characters)


def _symbol(field: Field, form: Form) -> str:
    if field.kind == "slice":
        return f"{field.start}\n:{field.start + field.width}"
    return f"${_row(field.kind, form, str(field.layer - (field.kind == 'features')))}$\n({field.wave})"


def _row(kind: Kind, form: Form, layer: str) -> str:
    """SPEC's symbol of the row that is sent."""
    if kind == "features":
        return f"x^{{{layer}}}" + (r"\Theta_1" if form == "sender" else "")
    return ("p" if form == "receiver" else "q") + f"^{{{layer}}}"


def _draw_lanes(axes: Axes, schedule: Schedule, kinds: Sequence[Kind], at: dict[int, float]) -> None:
    from matplotlib.patches import Rectangle

    for r, x in at.items():
        for field in schedule.rounds[r].fields:
            y = kinds.index(field.kind)
            colour = "#EEEEEE" if field.kind == "slice" else TINTS[field.wave % len(TINTS)]
            axes.add_patch(Rectangle((x - 0.46, y - 0.42), 0.92, 0.84, facecolor=colour, edgecolor="none"))
            axes.text(x, y, _symbol(field, schedule.form), ha="center", va="center", fontsize=7)
    keys = [
        "slice of θ\n(from:to)"
        if kind == "slice"
        else f"{LANES[kind]}\n${_row(kind, schedule.form, 'l')}$ (wave)"
        for kind in kinds
    ]
    axes.set(ylim=(len(kinds) - 0.5, -0.5), yticks=range(len(kinds)), yticklabels=keys)
    axes.tick_params(bottom=False, left=False, labelbottom=False)
    axes.spines[["left", "bottom"]].set_visible(False)


def _draw_sizes(axes: Axes, schedule: Schedule, kinds: Sequence[Kind], at: dict[int, float]) -> None:
    from matplotlib.ticker import MaxNLocator

    x, base = list(at.values()), np.zeros(len(at), dtype=np.int64)
    for kind in kinds:
        part = [sum(f.width for f in schedule.rounds[r].fields if f.kind == kind) for r in at]
        axes.bar(x, part, 0.92, bottom=base, color=GREYS[kind], label=LANES[kind])
        base = base + part
    upright = len(at) <= 8 or max(len(f"{total:,}") for total in base) <= 5
    above: dict[str, Any] = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    for place, total in zip(x, base, strict=True):
        axes.annotate(f"{total:,}", (place, total), fontsize=7, rotation=0 if upright else 90, **above)
    axes.set_ylim(0, max(schedule.peak_width, 1) * (1.2 if upright else 1.5))
    axes.set_ylabel("message size\n(numbers)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.1, fontsize=8)
