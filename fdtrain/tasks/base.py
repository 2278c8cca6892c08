"""What a task gives to training: samples, labels and the order in which they come. The driver's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain.drawing import Recipe
from fdtrain.graph import Graph

Array = NDArray[np.float64]
Order = NDArray[np.int64]


class Samples(NamedTuple):
    """Samples of all nodes."""

    x: Array  # [N, V, g_0] features
    y: Array  # [N, V, ·] labels
    channels: Array | None = None  # [N, V, V] H_ij of every sample, where they have links of their own


class DataService(Protocol):
    """Serves every node's rows. It runs on rank 0, which cuts what it returns into the ranks' own rows."""

    train_samples: int  # N
    test_samples: int  # of a test mini-batch
    streamed: bool  # rows are served mini-batch by mini-batch, and not once for all

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        """All training and test samples on the static graph, where they are not streamed."""

    def recipe(self, graph: Graph) -> Recipe | None:
        """How ranks draw the same samples for themselves, where they can."""

    def order(self, epoch: int) -> Order:
        """The order of the training samples in this epoch (from 0), [N]."""

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        """The samples of mini-batch t (from 0), where they are streamed; `chosen` [B] is its part of the order."""

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        """The test samples' mini-batch k, where samples are streamed, and its graph; `graph` is the present one."""

    def baselines(self, t: int) -> Mapping[str, float]:
        """What other methods reach on mini-batch t, by name, where it is to be told."""

    def test_baselines(self, k: int) -> Mapping[str, float]:
        """What they reach on the test samples' mini-batch k; empty where there are none."""
