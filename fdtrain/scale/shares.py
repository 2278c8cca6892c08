"""What falls to a rank: its nodes, their edges, and what it sends in a round. Light: every rank imports it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fdtrain.graph import Neighbourhood


class Share(NamedTuple):
    """A rank's part of the network, and of a round."""

    nodes: int
    edges: int  # directed, that end at its nodes: Σ d_i
    cut_edges: int  # those of them that come from other ranks
    ghosts: int  # nodes on other ranks whose rows it receives, each once
    rows: int  # rows that it sends, each once to every rank with a neighbour
    peers: int  # ranks that it exchanges a message with in every round

    @classmethod
    def of(cls, hood: Neighbourhood, rank: int) -> Share:
        """The share of `rank`, which hosts the nodes of `hood`."""
        remote = hood.owners != rank
        own = np.repeat(np.arange(hood.num_nodes), hood.degrees)[remote]
        owners = hood.owners[remote]
        places = owners * max(hood.num_nodes, 1) + own
        return cls(
            nodes=hood.num_nodes,
            edges=len(hood.indices),
            cut_edges=len(owners),
            ghosts=len(np.unique(hood.indices[remote])),
            rows=len(np.unique(places)),
            peers=len(np.unique(owners)),
        )
