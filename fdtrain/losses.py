"""What is minimised, as far as a node sees it: functions of what it made of a sample."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Objective(Protocol):
    """What nodes are measured by: ℓ_i, a function of what node i made of a sample and of its label y_i."""

    def per_node(self, output: Array, label: Array) -> Array:
        """Σ over samples and outputs of ℓ_i, [n], from arrays [n, B, g_L]."""

    def measure(self, total: Array, samples: int) -> Array:
        """A node's measure, [V, …], from its ``per_node`` over so many samples."""

    def combine(self, measures: Array) -> float:
        """The network's measure, from those of all nodes [V]."""

    def on(self, nodes: int) -> Objective:
        """The same in a network of so many nodes."""


@runtime_checkable
class Loss(Objective, Protocol):
    """One of which a node knows the gradient, since it is a function of its own output ŷ_i."""

    def gradient(self, output: Array, label: Array, batch: int, out: Array) -> None:
        """out ← z^L = |V| ∂(objective)/∂ŷ of samples of a mini-batch of B = `batch`, [n, w, g_L].

        So the mean over the nodes of what comes of it, the local gradients, is the objective's gradient.
        """


@dataclass(frozen=True)
class SquaredError:
    """ℓ_i = Σ over outputs of (y_i − ŷ_i)², SPEC §1. The objective is the mean of ℓ_i over nodes, summed over samples;
    the measure is the mean over samples, nodes and outputs: the MSE."""

    outputs: int = 1  # g_L

    def gradient(self, output: Array, label: Array, batch: int, out: Array) -> None:
        np.subtract(output, label, out)
        np.multiply(out, 2.0, out)

    def per_node(self, output: Array, label: Array) -> Array:
        nodes, samples, outputs = output.shape
        squares = np.square(output - label).reshape(nodes, samples * outputs)  # not −1: there may be no node
        total: Array = squares.sum(axis=1)
        return total

    def measure(self, total: Array, samples: int) -> Array:
        mean: Array = total / (samples * self.outputs)
        return mean

    def combine(self, measures: Array) -> float:
        return float(np.mean(measures))

    def on(self, nodes: int) -> SquaredError:
        return self


class _Sum:
    """ℓ_i is minus what node i contributes, and the network's measure the sum of the contributions."""

    def measure(self, total: Array, samples: int) -> Array:
        mean: Array = -total / samples
        return mean

    def combine(self, measures: Array) -> float:
        return float(np.sum(measures))


@dataclass(frozen=True)
class NegativeSumRate(_Sum):
    """ℓ_i = −rate_i, rate_i = log2(1 + s_i/(σ² + r_i)), from ŷ_i = (s_i, r_i): the power that receiver i gets from its
    own transmitter, and from all others (SPEC §6 B). There are no labels.

    The objective is the mean over samples of the sum over nodes; the measure is the rate itself, in bit/s/Hz, summed
    over the nodes for the network.
    """

    noise: float  # σ², W
    nodes: int  # |V|

    def gradient(self, output: Array, label: Array, batch: int, out: Array) -> None:
        own, others = output[..., 0], output[..., 1]
        floor = self.noise + others
        scale = -self.nodes / (batch * np.log(2.0))
        np.divide(scale, floor + own, out[..., 0])
        np.multiply(out[..., 0], -own / floor, out[..., 1])

    def per_node(self, output: Array, label: Array) -> Array:
        nodes, samples, _ = output.shape
        rates = np.log1p(output[..., 0] / (self.noise + output[..., 1])) / np.log(2.0)
        total: Array = -np.ascontiguousarray(rates).reshape(nodes, samples).sum(axis=1)
        return total

    def on(self, nodes: int) -> NegativeSumRate:
        return replace(self, nodes=nodes)


@dataclass(frozen=True)
class Utility(_Sum):
    """ℓ_i = −share_i if node i was chosen, as output 0 has it, and else 0: what its weight is of the weights that are
    chosen without training, which comes with the label (SPEC §6 C). The measure is the utility ratio, summed over the
    nodes for the network. Which nodes are chosen has no gradient: a critic stands for it (:mod:`fdtrain.turns`).
    """

    def per_node(self, output: Array, label: Array) -> Array:
        nodes, samples, _ = output.shape
        total: Array = -(output[..., 0] * label[..., SHARE]).reshape(nodes, samples).sum(axis=1)
        return total

    def on(self, nodes: int) -> Utility:
        return self


# Columns of a node's label in link scheduling: its weight u_i, its share of the weight that the local greedy solver
# chooses by weights alone, and the noise that it adds to z_i: where it decides, and where the critic is asked.
WEIGHT, SHARE, NOISE, EXPLORE = range(4)
