"""The chart of a run's network: nodes coloured by their loss, or rate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.figures.canvas import readable
from fdtrain.figures.network import MAX_DRAWN, layout
from fdtrain.graph import Graph
from fdtrain.measure import MSE, Measure
from fdtrain.report.charts import plain

Array = NDArray[np.float64]

MAX_EDGES = 12_000  # drawn; more are a blot, and slow
MAX_NODES_WITH_EDGES = 2000
CELLS = 40  # of the picture of a network that is too large to be drawn
GREY = "#9A9A9A"
MAX_WRITTEN = 40  # labels beside their nodes


def places(graph: Graph) -> Array | None:
    """Where the nodes are drawn, [V, 2]; None for a network that is too large for that."""
    if graph.num_nodes > MAX_DRAWN:
        return None
    return graph.positions if graph.positions is not None else layout(graph)


def draw(graph: Graph, node_loss: Array, at: Array | None, measure: Measure = MSE) -> dict[str, Any]:
    """The nodes at `at` [V, 2] with their edges; or, without places, how loss goes with degree."""
    loss = readable(node_loss) if len(node_loss) == graph.num_nodes else np.full(graph.num_nodes, np.nan)
    if at is None:
        return _cells(graph, loss, measure)
    traces = [_edges(graph, at)] if has_edges(graph) else []
    bad = np.isnan(loss)
    if bad.any():
        traces.append(_nodes(graph, loss, at, np.flatnonzero(bad), {"color": GREY}, measure))
    if not bad.all():
        order = np.flatnonzero(~bad)[np.argsort(loss[~bad], kind="stable")]  # the large ones lie on top
        marker = _colours(loss[order], measure)
        traces.append(_nodes(graph, loss, at, order, marker, measure))
    hidden = {"visible": False, "showgrid": False, "zeroline": False}
    return {
        "data": traces,
        "layout": {
            "height": 560,
            "showlegend": False,
            "hovermode": "closest",
            "dragmode": "pan",
            "xaxis": hidden,
            "yaxis": {**hidden, "scaleanchor": "x"},
        },
    }


def has_edges(graph: Graph) -> bool:
    """Whether the edges are few enough to be drawn."""
    return graph.num_nodes <= MAX_NODES_WITH_EDGES and graph.num_edges <= MAX_EDGES


def _edges(graph: Graph, at: Array) -> dict[str, Any]:
    ends = at[graph.edges()]  # [|E|, 2, 2]
    lines = np.full((len(ends), 3, 2), np.nan)
    lines[:, :2] = ends
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _short(lines[..., 0].ravel()),
        "y": _short(lines[..., 1].ravel()),
        "hoverinfo": "skip",
        "line": {"width": 1.0 if len(ends) < 600 else 0.5},
        "meta": {"ink": "edge"},
    }


def _nodes(
    graph: Graph, loss: Array, at: Array, chosen: NDArray[Any], marker: dict[str, Any], measure: Measure
) -> dict[str, Any]:
    labels = graph.labels
    names = [f"node {i}" if labels is None else f"{labels[i]} (node {i})" for i in chosen]
    written = labels is not None and graph.num_nodes <= MAX_WRITTEN
    size = float(np.clip(140 / np.sqrt(graph.num_nodes), 4, 18))
    return {
        "type": "scatter",
        "mode": "markers+text" if written else "markers",
        "x": _short(at[chosen, 0]),
        "y": _short(at[chosen, 1]),
        "text": [plain(labels[i]) for i in chosen] if labels is not None and written else [],
        "textposition": "top center",
        "cliponaxis": False,
        "hovertext": [plain(name) for name in names],
        "customdata": [
            [int(graph.degrees[i]), "not finite" if np.isnan(loss[i]) else f"{loss[i]:.6g}"] for i in chosen
        ],
        "hovertemplate": "%{hovertext}<br>degree %{customdata[0]}"
        f"<br>test {measure.of_node} %{{customdata[1]}}<extra></extra>",
        "marker": {"size": size, **marker},
        "meta": {"ink": "outline"},
    }


def _colours(loss: Array, measure: Measure) -> dict[str, Any]:
    """Colours on a logarithmic scale where the losses span much."""
    low, high = float(loss.min()), float(loss.max())
    wide = measure.logarithmic and low > 0 and high / low >= 30
    shown = np.log10(loss) if wide else loss
    ends = (float(shown.min()), float(shown.max()))
    ticks = np.linspace(*ends, 5) if ends[0] < ends[1] else np.array([ends[0]])
    return {
        "color": _short(shown, 6),
        "colorscale": "Viridis",
        "colorbar": {
            "title": {
                "text": measure.with_unit(f"test {measure.of_node}") + " (log)" * wide,
                "side": "right",
            },
            "thickness": 12,
            "outlinewidth": 0,
            "tickvals": ticks.tolist(),
            "ticktext": [f"{10**tick if wide else tick:.3g}" for tick in ticks],
        },
    }


def _cells(graph: Graph, loss: Array, measure: Measure) -> dict[str, Any]:
    """Numbers of nodes by degree and loss."""
    good = np.isfinite(loss)
    degrees = np.log2(np.maximum(graph.degrees[good], 1).astype(np.float64))
    counts, across, up = np.histogram2d(degrees, loss[good], bins=CELLS)
    shades = [0, *range(1, int(np.log10(max(counts.max(), 1))) + 1)]
    ticks = np.arange(np.floor(across[0]), np.ceil(across[-1]) + 1)
    return {
        "data": [
            {
                "type": "heatmap",
                "x": _short((across[1:] + across[:-1]) / 2),
                "y": _short((up[1:] + up[:-1]) / 2, 6),
                "z": [[float(f"{np.log10(n):.4g}") if n else None for n in row] for row in counts.T],
                "customdata": counts.T.astype(int).tolist(),
                "colorscale": "Viridis",
                "colorbar": {
                    "title": {"text": "nodes", "side": "right"},
                    "thickness": 12,
                    "outlinewidth": 0,
                    "tickvals": shades,
                    "ticktext": [f"{10**shade:,}" for shade in shades],
                },
                "hovertemplate": f"%{{customdata:,}} nodes, test {measure.of_node} about %{{y:.4g}}<extra></extra>",
            }
        ],
        "layout": {
            "height": 440,
            "xaxis": {
                "title": {"text": "degree of the node"},
                "tickvals": ticks.tolist(),
                "ticktext": [f"{2**tick:,.0f}" for tick in ticks],
            },
            "yaxis": {"title": {"text": measure.with_unit(f"test {measure.of_node} of the node")}},
        },
    }


def _short(values: Array, digits: int = 5) -> list[float | None]:
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values]
