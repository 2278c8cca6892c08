"""What a choice of hosts means for the ranks: nodes, links that cross, and what goes from rank to rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fdtrain.graph import Graph, neighbourhoods
from fdtrain.partition import ExchangePlan
from fdtrain.rounds import BYTES_PER_NUMBER
from fdtrain.schedule import Schedule

MAX_LINES = 16  # ranks that are shown one by one


class Share(NamedTuple):
    """What one rank hosts and exchanges."""

    nodes: int
    links: int  # directed edges to its nodes
    crossing: int  # of them, those from nodes on other ranks
    peers: int
    sent: int  # rows to all peers in a round
    ghosts: int  # rows from all peers in a round


def shares(graph: Graph, owner: NDArray[np.int64], ranks: int) -> list[Share]:
    """Every rank's share; `owner` [V] is the rank of each node."""
    found = []
    for rank, hood in enumerate(neighbourhoods(graph, owner, ranks)):
        plan = ExchangePlan.of(hood, rank)
        crossing = int(np.count_nonzero(hood.owners != rank))
        sent = sum(len(peer.rows) for peer in plan.peers)
        found.append(
            Share(plan.nodes, len(plan.columns), crossing, len(plan.peers), sent, plan.seen - plan.nodes)
        )
    return found


def cut_edges(found: Sequence[Share]) -> int:
    """Undirected edges between nodes of different ranks."""
    return sum(share.crossing for share in found) // 2


def render(kind: str, found: Sequence[Share], schedule: Schedule) -> RenderableType:
    """The shares under a partition of this `kind` as a table, with the messages and bytes of a mini-batch's rounds."""
    rounds, size = len(schedule.rounds), schedule.numbers * BYTES_PER_NUMBER
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    for heading in ("rank", "nodes", "links", "crossing", "ghosts", "peers", "messages", "bytes"):
        table.add_column(heading, justify="right", no_wrap=True)

    def add(name: str, share: Share, style: str = "") -> None:
        counts = (share.nodes, share.links, share.crossing, share.ghosts, share.peers)
        cells = [f"{count:,}" for count in (*counts, share.peers * rounds, share.sent * size)]
        table.add_row(name, *cells, style=style)

    for rank, share in enumerate(found[:MAX_LINES]):
        add(f"{rank:,}", share)
    if len(found) > MAX_LINES:
        table.add_row("⋮", *[""] * 7)
    add("all", Share(*(sum(column) for column in zip(*found, strict=True))), "bold")
    links = sum(share.links for share in found) // 2
    imbalance = max(share.nodes for share in found) * len(found) / sum(share.nodes for share in found)
    title = Text.assemble(
        (kind, "bold"),
        f" partition: {cut_edges(found):,} of {links:,} edges are cut, the largest rank has {imbalance:.3f} times the",
        " mean of nodes; sent in a mini-batch",
    )
    return Group(title, Text(), table)
