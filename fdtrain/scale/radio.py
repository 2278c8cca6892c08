"""A radio network: every node a device, one channel, half-duplex broadcasts in slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fdtrain.graph import Graph
from fdtrain.scale.machines import Radio
from fdtrain.scale.work import Minibatch

Index = NDArray[np.int64]


def slots(graph: Graph, kind: str) -> int:
    """How many slots a round has in which every node with a neighbour broadcasts once.

    ``bound``: max (1 + d_i), since node i hears its neighbours one after another and sends once; no round is shorter.
    ``colouring``: nodes within two hops have slots of their own, in which nothing collides; found greedily, so that
    there may be a shorter one.
    """
    degrees = graph.degrees
    if not degrees.any():
        return 0
    if kind == "bound":
        return int(degrees.max()) + 1
    return int(colouring(graph).max()) + 1


def colouring(graph: Graph) -> Index:
    """A colour for every node [V], another one than those of all nodes within two hops; largest degrees first."""
    order = np.argsort(-graph.degrees, kind="stable")
    colours: Index = _colour(graph.indptr, graph.indices, order)
    return colours


def _greedy(indptr: Index, indices: Index, order: Index) -> Index:  # pragma: no cover - compiled
    colours = np.full(len(order), -1, dtype=np.int64)
    taken = np.full(len(order) + 1, -1, dtype=np.int64)  # by colour: the last node for which it was taken
    for node in order:
        for j in indices[indptr[node] : indptr[node + 1]]:
            if colours[j] >= 0:
                taken[colours[j]] = node
            for k in indices[indptr[j] : indptr[j + 1]]:
                if colours[k] >= 0:
                    taken[colours[k]] = node
        colour = 0
        while taken[colour] == node:
            colour += 1
        colours[node] = colour
    return colours


_colour: Any = njit(_greedy)


def airtime(machine: Radio, size: int) -> float:
    """Seconds in which a row of `size` bytes is on the air, in as many packets as it takes."""
    packets = -(-size // machine.payload)
    return packets * (machine.latency + 8 * machine.header / machine.bandwidth) + 8 * size / machine.bandwidth


def communication_seconds(machine: Radio, row_bytes: Sequence[int], count: int) -> float:
    """Seconds of the rounds of a mini-batch, in which a node sends rows of these sizes, with `count` slots each."""
    own = sum(airtime(machine, size) for size in row_bytes)
    return max(count * own, own / machine.duty_cycle if count else 0.0)


def arithmetic_seconds(machine: Radio, minibatch: Minibatch, graph: Graph) -> float:
    """Seconds in which the node with the most neighbours computes: its products, and a sum over its neighbours."""
    gathered = 2 * int(graph.degrees.max()) * minibatch.schedule.numbers
    return (minibatch.flops + gathered) / machine.flops
