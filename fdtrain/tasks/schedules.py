"""Weights and noise for link scheduling, and the held-out conflict graphs (SPEC §6 C)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.losses import EXPLORE, NOISE, SHARE, WEIGHT
from fdtrain.service import Topology
from fdtrain.tasks.base import Order, Samples
from fdtrain.tasks.independent_sets import local_greedy, minimum_degree_greedy, optimum, utility
from fdtrain.tasks.link_scheduling import LinkScheduling

Array = NDArray[np.float64]


class WeightData:
    """Every sample has weights u ~ U(0, 1) of its own, every node's from a generator of its own. The only feature is
    the constant 1: what nodes know of the graph they learn from each other."""

    streamed = True

    def __init__(self, task: LinkScheduling, held_out: Topology, batch: int, seed: int) -> None:
        """`held_out` has the graphs for testing, drawn by task.test_seed."""
        self.train_samples, self.test_samples = task.graphs * batch, task.test_samples
        self._task, self._held_out, self._seed = task, held_out, seed
        self._tested: dict[int, tuple[Graph, Samples]] = {}

    def recipe(self, graph: Graph) -> None: ...

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        raise NotImplementedError("weights are streamed")

    def order(self, epoch: int) -> Order:
        return np.arange(self.train_samples)

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        return self._draw(graph, len(chosen), self._seed, "weights", t)

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        return self._held_out_part(k)

    def baselines(self, t: int) -> Mapping[str, float]:
        return {}

    def test_baselines(self, k: int) -> Mapping[str, float]:
        graph, samples = self._held_out_part(k)
        u, share = samples.y[..., WEIGHT], samples.y[..., SHARE]
        ratios = {"degree_greedy": float(utility(share, minimum_degree_greedy(graph, u)).mean())}
        if self._task.optimum_within:
            try:
                best = optimum(graph, u, time_limit=self._task.optimum_within)
                ratios["optimum"] = float(utility(share, best).mean())
            except InputError:  # the time did not suffice
                ratios["optimum"] = math.nan
        return ratios

    def held_out(self) -> dict[str, NDArray[Any]]:
        """Every held-out graph: ``edges`` [M, 3], its number and the two ends, and ``weights`` [graphs, samples, V]."""
        edges, weights = [], []
        for k in range(self._task.test_graphs):
            graph, samples = self._held_out_part(k)
            edges.append(np.insert(graph.edges(), 0, k, axis=1))
            weights.append(samples.y[..., WEIGHT])
        return {"edges": np.concatenate(edges), "weights": np.stack(weights)}

    def _held_out_part(self, k: int) -> tuple[Graph, Samples]:
        """Held-out graph k and its samples, which are used after every epoch."""
        if k not in self._tested:
            graph = self._held_out.graph(k)
            samples = self._draw(graph, self.test_samples, self._task.test_seed, "weights/test", k)
            samples.y[..., [NOISE, EXPLORE]] = 0.0
            samples.x[..., 1:] = 0.0
            self._tested[k] = graph, samples
        return self._tested[k]

    def _draw(self, graph: Graph, samples: int, seed: int, purpose: str, step: int) -> Samples:
        nodes, task = graph.num_nodes, self._task
        drawn = np.empty((nodes, 3, samples))
        for node in range(nodes):
            drawn[node] = rng.generator(seed, purpose, step, node).random((3, samples))
        u, noise, explore = (np.ascontiguousarray(part.T) for part in drawn.swapaxes(0, 1))
        y = np.empty((samples, nodes, 4))
        y[..., WEIGHT] = u
        y[..., SHARE] = u / utility(u, local_greedy(graph, u))[:, None]
        y[..., NOISE] = task.decision_noise * (2.0 * noise - 1.0)
        y[..., EXPLORE] = task.exploration * (2.0 * explore[np.arange(samples) % task.explorations] - 1.0)
        x = np.ones((samples, nodes, 1))
        return Samples(
            x if task.critic.kind == "central" else np.concatenate([x, y[..., NOISE, None]], axis=2), y
        )
