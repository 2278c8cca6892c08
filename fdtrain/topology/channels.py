"""The network that wireless channels make: who hears whom in a mini-batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fdtrain.graph import Graph

if TYPE_CHECKING:
    from fdtrain.tasks.channel_data import ChannelService


class ChannelTopology:
    """E(t): i ~ j when H_ij or H_ji is not 0 in any sample of mini-batch t. It may be disconnected.

    As long as the links stay the same, so does the object that is returned.
    """

    def __init__(self, data: ChannelService) -> None:
        self._data = data
        self._training, self._testing = _Links(), _Links()

    def graph(self, t: int) -> Graph:
        """The graph of the run's mini-batch t (from 0)."""
        if self._training.number != t:
            self._training.see(t, self._data.channels(t))
        return self._training.graph

    def test_graph(self, k: int) -> Graph:
        """The graph of test mini-batch k (from 0)."""
        if self._testing.number != k:
            self._testing.see(k, self._data.test_channels(k))
        return self._testing.graph


class _Links:
    """The last graph and what it was made of."""

    number: int | None = None  # mini-batch
    graph: Graph

    def __init__(self) -> None:
        self._mutual: NDArray[np.bool_] | None = None  # [n, n]

    def see(self, number: int, H: NDArray[np.float64]) -> None:
        """Take the links of mini-batch `number`, H [B, n, n]."""
        heard = (H != 0).any(axis=0)
        mutual = heard | heard.T
        if self._mutual is None or not np.array_equal(mutual, self._mutual):
            self.graph = Graph.from_edges(len(mutual), np.argwhere(np.triu(mutual, 1)))
            self._mutual = mutual
        self.number = number
