"""Networks, their nodes coloured by some measure, and where their nodes are placed."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.figures.canvas import DPI, plain_log_ticks, readable, sheet
from fdtrain.graph import Graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

NETWORK = (6.8, 5.6)  # inches
MAX_DRAWN = 5000  # nodes; more are a blot, and take minutes to lay out
MAX_LABELLED = 40  # nodes
EXACT_LAYOUT, PIVOTS = 1000, 300  # nodes; above the first, the layout uses distances to some nodes only


def draw_topology(graph: Graph, path: Path, title: str) -> None:
    """Draw `graph`, nodes coloured by degree; above :data:`MAX_DRAWN` nodes the picture only says so."""
    with sheet(path, NETWORK) as figure:
        draw_network(figure, graph, graph.degrees.astype(np.float64), "degree", title, whole=True)


def draw_network(
    figure: Figure,
    graph: Graph,
    values: Array,
    meaning: str,
    title: str,
    *,
    whole: bool = False,
    log: bool = True,
) -> None:
    """Draw `graph`, nodes coloured by `values` [V] (integers where `whole`); `log`: on a logarithmic scale if wide."""
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
    tested = len(values) == nodes  # or else it ended before, or its tests are on other graphs
    values = readable(values) if tested else np.full(nodes, np.nan)
    bad = np.isnan(values)
    if bad.any():
        who = "all" if bad.all() else f"{bad.sum():,}"
        heading += f"; {who} diverged (grey)" if tested else f"; no {meaning}"
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
        norm = _colour_norm(values[order], whole, log)
        points = axes.scatter(
            at[order, 0], at[order, 1], c=values[order], norm=norm, cmap="viridis", zorder=3, **outline
        )
        bar = figure.colorbar(points, ax=axes, shrink=0.75, aspect=28, pad=0.02, label=meaning)
        bar.outline.set_linewidth(0.5)
        low, high = float(values[order[0]]), float(values[order[-1]])
        if low == high:
            bar.set_ticks([low], labels=[f"{low:.3g}"])
        elif isinstance(norm, LogNorm):
            plain_log_ticks(bar.ax.yaxis, low, high)
        elif whole:
            bar.ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title(textwrap.fill(heading, 75), loc="left", parse_math=False)
    if graph.labels is not None and nodes <= MAX_LABELLED:
        _write_labels(figure, axes, at, graph, float(np.sqrt(area)) / 2)


def _colour_norm(values: Array, whole: bool, log: bool) -> Normalize:
    from matplotlib.colors import LogNorm, Normalize

    low, high = float(values.min()), float(values.max())
    if log and low > 0 and high / low >= (30 if not whole else 8):
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
