"""Small problems for the oracle of unreliable channels: models, random networks, and mini-batches of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fdtrain import reference as ref
from fdtrain.layers.gcnn import gcnn_outline
from fdtrain.schedule import build

Array = np.ndarray
ROWS = {"d_amsgrad": 2, "gradient_tracking": 2}  # that travel; 1 of all others


@dataclass
class Problem:
    """A model, different θ at every node, and mini-batches with a network of their own each."""

    form: str = "receiver"
    sizes: tuple[int, ...] = (2, 3, 2)
    activations: tuple[str, ...] = ("tanh", "sigmoid")
    nodes: int = 5
    batch: int = 5
    wave: int = 2
    moving: bool = True  # whether every mini-batch has links of its own
    seed: int = 0
    theta: Array = field(init=False)

    def __post_init__(self) -> None:
        self.model = ref.Model(self.sizes, self.activations, self.form)
        shape = self.nodes, self.model.num_parameters
        self.theta = np.random.default_rng(self.seed).uniform(-1, 1, shape)

    def network(self, t: int) -> tuple[Array, Array]:
        """S, which is not symmetric, and W of mini-batch t."""
        rng = np.random.default_rng([self.seed, 1, t if self.moving else 0])
        pattern = np.triu(rng.random((self.nodes, self.nodes)) < 0.6, 1)
        pattern |= pattern.T
        S = np.where(pattern, rng.normal(size=pattern.shape), 0.0) + np.diag(rng.normal(size=self.nodes))
        return S, ref.mixing_matrix(pattern.astype(float), "metropolis").toarray()

    def samples(self, t: int) -> tuple[Array, Array]:
        """x and y of mini-batch t."""
        rng = np.random.default_rng([self.seed, 2, t])
        shape = self.batch, self.nodes
        return rng.normal(size=(*shape, self.sizes[0])), rng.normal(size=(*shape, self.sizes[-1]))

    def schedule(
        self, kind: str, scheme: str, steps: int = 1, slices: Any = "idle"
    ) -> tuple[tuple[int, ...], list[list[ref.Sent]]]:
        """Waves and rounds as the oracle takes them."""
        made = build(
            scheme,
            outline=gcnn_outline(self.sizes, self.form),  # type: ignore[arg-type]
            batch=self.batch,
            wave=self.wave,
            travelling=ROWS.get(kind, 1) * self.model.num_parameters,
            consensus=steps,
            slices=slices,
        )
        rounds = [
            [ref.Sent(f.kind, f.layer, f.wave, f.start, f.width, f.step) for f in round_.fields]
            for round_ in made.rounds
        ]
        return made.waves, rounds

    def recursion(self, kind: str, **how: Any) -> ref.Recursion:
        """With an ε that keeps the steps of D-AMSGrad, which begins at m/√ε, of the size of θ."""
        return ref.Recursion(kind, epsilon=0.05, **how)

    def training(self, kind: str, channel: ref.Channel, max_norm: float | None = None) -> ref.LossyTraining:
        """Before the first mini-batch."""
        return ref.LossyTraining(self.model, self.recursion(kind), self.theta, channel, max_norm)

    def train(
        self, kind: str, scheme: str, channel: ref.Channel, minibatches: int, *, lr: float = 0.05, **how: Any
    ) -> Iterator[tuple[ref.LossyTraining, Array]]:
        """The training after every mini-batch, and its gradients."""
        training = self.training(kind, channel)
        waves, rounds = self.schedule(kind, scheme, **how)
        for t in range(minibatches):
            yield training, training.minibatch(*self.samples(t), *self.network(t), waves, rounds, lr)


def during(start: int, until: int | None = None) -> ref.Interval:
    """Mini-batches from `start` on, before `until`."""
    return ref.Interval(start, until)
