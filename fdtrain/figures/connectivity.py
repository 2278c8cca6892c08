"""How connected a moving network was over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fdtrain.figures.canvas import BLUE, GREEN, ORANGE, sheet
from fdtrain.topology.connectivity import Connectivity

SIZE = (6.0, 4.6)  # inches


def draw_connectivity(rows: Sequence[Connectivity], path: Path) -> None:
    """Draw the largest component and the isolated nodes of every graph, and below them how many graphs it took until
    their union was connected, beside the window that was asked for."""
    from matplotlib.ticker import MaxNLocator

    x = np.array([row.minibatch for row in rows])
    nodes = rows[0].nodes
    needed = np.array([np.nan if row.needed is None else row.needed for row in rows], dtype=np.float64)
    with sheet(path, SIZE) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(x, [row.largest for row in rows], color=BLUE, label="in the largest component")
        above.plot(x, [row.isolated / nodes for row in rows], color=ORANGE, label="alone")
        above.set(ylabel="share of the nodes", ylim=(-0.03, 1.03))
        above.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
        below.step(x, needed, where="post", color=GREEN)
        below.axhline(rows[0].window, color="#777777", linestyle=":", linewidth=1.0)
        below.text(
            x[0], rows[0].window, f"window of {rows[0].window}", color="#555555", size="small", va="bottom"
        )
        below.set(xlabel="mini-batch", ylabel="last graphs whose\nunion is connected")
        top = max(rows[0].window, np.nanmax(needed, initial=1.0))
        below.set_ylim(0, 1.15 * top)
        for axes in (above, below):
            axes.grid(visible=True)
        for axis in (below.xaxis, below.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
        if np.isnan(needed).all():
            below.text(0.5, 0.5, "never connected", transform=below.transAxes, ha="center", va="center")
