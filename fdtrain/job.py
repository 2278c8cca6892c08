"""What the ranks are told to do: the experiment without its data, its topology and its configuration file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fdtrain.channel.links import Links
from fdtrain.channel.spec import Channel
from fdtrain.engine import Kernel
from fdtrain.losses import Objective
from fdtrain.measure import MSE, Measure
from fdtrain.mixing import Mixing
from fdtrain.networks import Network
from fdtrain.optim.base import Optimizer
from fdtrain.programs import Program
from fdtrain.schedule import Schedule, build
from fdtrain.schemes import SCHEMES, Slices
from fdtrain.transport.base import Kind
from fdtrain.turns import CriticKind


@dataclass(frozen=True)
class Job:
    """A training run as every rank sees it. Rank 0 sends it around; it holds nothing that a node may not know."""

    model: Program
    network: Network
    loss: Objective
    optimizer: Optimizer[Any]
    mixing: Mixing
    epochs: int
    batch: int  # B
    wave: int  # w
    scheme: str
    slices: Slices
    consensus_rounds: int  # K
    train_samples: int  # N
    test_samples: int  # of a test mini-batch
    redraw_every: int | None = None  # mini-batches; None: static
    streamed: bool = False  # rows come mini-batch by mini-batch
    limit: int | None = None  # stop after so many mini-batches
    test_minibatches: int = 1
    measure: Measure = MSE
    log_every: int | None = None  # mini-batches after which their measure is reported; None: every epoch
    critic: CriticKind | None = None  # where nodes decide who is on: who tells them what that is worth
    channel: Channel | None = None  # on which messages of training may be lost; None: they all arrive
    save_every: int | None = (
        None  # mini-batches after which rank 0 hears all that is needed to go on from there
    )
    kernel: Kernel = "auto"
    transport: Kind | Literal["auto"] = "auto"
    unsaved: str = ""  # why nothing is saved where a run is stopped, in words; empty: everything is
    done: int = 0  # mini-batches after which the run goes on, because an earlier one saved what is needed

    @property
    def minibatches(self) -> int:
        """Mini-batches per epoch; the last may be smaller than B."""
        return -(-self.train_samples // self.batch)

    def schedule(self, batch: int) -> Schedule:
        """The schedule of a mini-batch of `batch` samples."""
        return self._schedules[batch]

    @cached_property
    def test_schedule(self) -> Schedule:
        """The schedule of the test samples."""
        return self._build("inference", self.test_samples)

    @property
    def programme(self) -> list[tuple[str, Schedule]]:
        """Everything that runs on a topology: a phase of the ledger, and a schedule."""
        return [*(("train", schedule) for schedule in self._schedules.values()), ("test", self.test_schedule)]

    def beside(self, schedule: Schedule) -> list[str]:
        """What a mini-batch sends besides the rounds of its `schedule`, in words."""
        found = []
        if self.network.own_graphs and schedule.trains:
            found.append(
                f"and one before them, of {schedule.batch:,} numbers, in which every sample's degrees travel"
            )
        if self.critic is not None:
            found.append(
                "and those of the local greedy solver after every wave's features: one in which weights"
            )
            found.append("travel, and as many as the nodes need to decide; w numbers each")
        if self.critic == "central" and schedule.trains:
            found.append("and, with the critic, 3 numbers of every node and sample, and one back")
        return found

    @cached_property
    def _schedules(self) -> dict[int, Schedule]:
        sizes = {min(self.batch, self.train_samples), self.train_samples % self.batch or self.batch}
        return {size: self._build(self.scheme, size) for size in sorted(sizes, reverse=True)}

    def links(self, nodes: int) -> Links | None:
        """What the messages of so many nodes of a rank arrive on, where some do not."""
        return None if self.channel is None else Links(self.channel, nodes, self._rows, along=self._along)

    @property
    def _rows(self) -> int:
        """Numbers per node that the optimizer mixes."""
        return len(self.optimizer.travels) * self.model.num_parameters

    @property
    def _along(self) -> bool:
        return SCHEMES[self.scheme].exchange == "along"

    def _build(self, scheme: str, batch: int) -> Schedule:
        return build(
            scheme,
            outline=self.model.outline,
            batch=batch,
            wave=min(self.wave, batch),
            travelling=self._rows
            if self.channel is None
            else self.channel.travelling(self._rows, along=self._along),
            slices=self.slices,
            grain=1 if self.channel is None else self.channel.grain,
            consensus=self.consensus_rounds,
            by_sample=self.network.own_graphs or self.optimizer.by_sample,
        )

    def rewires_at(self, t: int) -> bool:
        """Whether the topology service has a new graph for mini-batch t."""
        return t == 0 or (self.redraw_every is not None and t % self.redraw_every == 0)

    def saves_after(self, t: int) -> bool:
        """Whether rank 0 is to hear everything after t mini-batches."""
        return self.save_every is not None and t % self.save_every == 0

    def place(self, t: int) -> tuple[int, int]:
        """The epoch (from 0) to which the last of t mini-batches belongs, and how many of its mini-batches are done."""
        epoch = max(t - 1, 0) // self.minibatches
        return epoch, t - epoch * self.minibatches

    def batches(self, order: NDArray[np.int64], first: int = 0) -> Iterator[NDArray[np.int64]]:
        """Cut an epoch's order [N] into mini-batches, and begin with number `first`."""
        for start in range(first * self.batch, len(order), self.batch):
            yield order[start : start + self.batch]
