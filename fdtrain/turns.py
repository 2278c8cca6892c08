"""What lies between the last round of a wave's forward pass and the first of its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain.graph import Neighbourhood
from fdtrain.ledger import Ledger
from fdtrain.local_greedy import LocalGreedy
from fdtrain.losses import EXPLORE, NOISE, WEIGHT, Loss, Objective
from fdtrain.partition import ExchangePlan
from fdtrain.transport.base import Transport

Array = NDArray[np.float64]
CriticKind = Literal["central", "neighbours"]
Critic = Callable[[Array], Array]  # from every node's report [n, w, 3] to ∂(objective)/∂z [n, w]


class Turn(Protocol):
    """Makes of a model's output what is measured, and where the backward pass begins."""

    def rewire(self, hood: Neighbourhood, plan: ExchangePlan, transport: Transport, ledger: Ledger) -> None:
        """Take a new topology."""

    def width(self, outputs: int) -> int:
        """Numbers per node and sample that :meth:`finish` makes of so many."""

    def finish(self, output: Array, label: Array, phase: str) -> Array:
        """What is measured, [n, w, ·], of a wave's `output` [n, w, g_L]."""

    def back(self, output: Array, label: Array, finished: Array, batch: int, out: Array) -> None:
        """out ← z^L = |V| ∂(objective)/∂(output), [n, w, g_L], of samples of a mini-batch of B = `batch`."""


class LocalLoss:
    """Every node knows its own loss, and its gradient."""

    def __init__(self, loss: Objective) -> None:
        if not isinstance(loss, Loss):
            raise TypeError(f"{type(loss).__name__} has no gradient of its own: it needs a turn")
        self._loss = loss

    def rewire(
        self, hood: Neighbourhood, plan: ExchangePlan, transport: Transport, ledger: Ledger
    ) -> None: ...

    def width(self, outputs: int) -> int:
        return outputs

    def finish(self, output: Array, label: Array, phase: str) -> Array:
        return output

    def back(self, output: Array, label: Array, finished: Array, batch: int, out: Array) -> None:
        self._loss.gradient(output, label, batch, out)


class Deciding:
    """The nodes decide among themselves who is on, by the local greedy solver on (z + noise) ⊙ u (SPEC §6 C). What is
    measured is that, 1 or 0, beside z. Nothing goes back."""

    def rewire(self, hood: Neighbourhood, plan: ExchangePlan, transport: Transport, ledger: Ledger) -> None:
        self._solver, self._ledger = LocalGreedy(hood, plan, transport, ledger), ledger

    def width(self, outputs: int) -> int:
        return 2

    def finish(self, output: Array, label: Array, phase: str) -> Array:
        noisy = output[..., 0] + label[..., NOISE]
        chosen = self._solver.solve(noisy * label[..., WEIGHT], "decide" if phase == "train" else phase)
        return np.stack([chosen, output[..., 0]], axis=2)

    def back(self, output: Array, label: Array, finished: Array, batch: int, out: Array) -> None:
        raise NotImplementedError("who decides without a critic does not learn")


class AskingTheCritic(Deciding):
    """What z does to the utility, nodes are told by a central critic."""

    def __init__(self, critic: Critic) -> None:
        """`critic` is called on all ranks at once, with (z + decision noise, z + exploration, u if chosen, else 0)."""
        self._critic = critic

    def back(self, output: Array, label: Array, finished: Array, batch: int, out: Array) -> None:
        z, utility = output[..., 0], finished[..., 0] * label[..., WEIGHT]
        report = np.stack([z + label[..., NOISE], z + label[..., EXPLORE], utility], axis=2)
        out[..., 0] = self._critic(report)
        n, w, numbers = report.shape
        self._ledger.record("control", {"reports": numbers * w}, 1, n, n)
        self._ledger.record("control", {"sensitivities": w}, 1, n, n)


class BeingTheCritic(Deciding):
    """The model is actor and critic (:class:`fdtrain.layers.twin.Twin`): ℓ_i = Σ (o − t)² with t = (u_i if i was
    chosen, and else 0; the rest to 1), and the objective is −o_0."""

    def back(self, output: Array, label: Array, finished: Array, batch: int, out: Array) -> None:
        utility = finished[..., 0] * label[..., WEIGHT]
        out[..., 0] = -1.0
        out[..., 1] = 2.0 * (output[..., 1] - utility)
        out[..., 2] = 2.0 * (output[..., 2] - (1.0 - utility))


def make_turn(kind: CriticKind | None, critic: Critic) -> Turn | None:
    """Where the passes of a job turn back: None where its loss says so."""
    if kind is None:
        return None
    return AskingTheCritic(critic) if kind == "central" else BeingTheCritic()
