"""What a mini-batch asks of a machine: rounds, messages, bytes and arithmetic, known before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.experiment import make_optimizer
from fdtrain.graph import Graph
from fdtrain.layers.gcnn import Gcnn
from fdtrain.models import GcnnModel
from fdtrain.placement import Share, shares
from fdtrain.schedule import Schedule, build
from fdtrain.tasks.node_regression import NodeRegression

# What the time of a mini-batch is linear in.
FEATURES = ("rounds", "messages", "bytes", "visits", "flops", "gathered")


@dataclass(frozen=True)
class Minibatch:
    """A mini-batch of any network: its rounds, and a node's arithmetic."""

    schedule: Schedule
    flops: float  # of a node: products of features and parameters, and the update

    @property
    def row_bytes(self) -> list[int]:
        """Size of the row that a node sends, of every round."""
        return [round_.size(self.schedule.precision) for round_ in self.schedule.rounds]

    def features(self, found: Sequence[Share]) -> dict[str, float]:
        """What the time is linear in, by :data:`FEATURES`: of the rank that has most of it.

        A message is received while another is sent: the larger of the two directions counts. A rank that has no peer
        exchanges nothing.
        """
        schedule = self.schedule
        most = {name: float(max(getattr(share, name) for share in found)) for name in Share._fields}
        return {
            "rounds": float(len(schedule.rounds)),
            "messages": most["peers"] * len(schedule.rounds),
            "bytes": max(most["sent"], most["ghosts"]) * sum(self.row_bytes),
            "visits": most["nodes"] * len(schedule.rounds),
            "flops": most["nodes"] * self.flops,
            "gathered": most["links"] * schedule.numbers,
        }


def minibatch_of(config: Config, *, allow_plugins: bool = False) -> Minibatch:
    """The mini-batch of a configuration, from no more than that.

    Raises:
        InputError: it is not one of a GCNN on reliable channels, with data as many as needed.
    """
    check_scalable(config)
    assert isinstance(config.model, GcnnModel)
    assert isinstance(config.task, NodeRegression)
    section, training = config.model, config.training
    model = Gcnn(section.sizes, section.activations, section.form, section.negative_slope)
    rate = config.optimizer.rate(1, 1)
    optimizer, _ = make_optimizer(config, rate, model.num_parameters, allow_plugins=allow_plugins)
    batch = min(training.batch, config.task.train_samples)
    schedule = build(
        training.scheme,
        outline=model.outline,
        batch=batch,
        wave=min(training.wave, batch),
        travelling=len(optimizer.travels) * model.num_parameters,
        slices=training.slices,
        consensus=training.consensus_rounds,
        by_sample=optimizer.by_sample,
        precision=config.precision.make(),
    )
    return Minibatch(schedule, _flops(model, schedule))


def check_scalable(config: Config) -> None:
    """Refuse what sends more than its schedule plans, or has a network or data of a size of its own.

    Raises:
        InputError: saying which section it is.
    """
    if not isinstance(config.task, NodeRegression) or not isinstance(config.model, GcnnModel):
        raise InputError(f"task.kind: scaling is of node_regression, found {config.task.kind}")
    if config.task.bundle is not None:
        raise InputError("task.bundle: scaling needs synthetic data, of which there is enough; remove it")
    if config.training.mode == "centralized":
        raise InputError("training.mode: scaling is of messages, found centralized; use distributed")
    if config.channel is not None:
        raise InputError("channel: scaling is of reliable channels; remove it")


def sizes_of(config: Config) -> tuple[int, ...]:
    """g_0 … g_L of a configuration that was checked."""
    assert isinstance(config.model, GcnnModel)
    return config.model.sizes


def owner_of(config: Config, graph: Graph, ranks: int) -> NDArray[np.int64]:
    """The rank [V] of every node, as the configuration wants it."""
    return config.execution.partition.owners(graph, ranks, config.seed)


def shares_of(config: Config, graph: Graph, ranks: int) -> list[Share]:
    """What falls to each rank."""
    return shares(graph, owner_of(config, graph, ranks), ranks)


def _flops(model: Gcnn, schedule: Schedule) -> float:
    """Multiplications and additions of a node in a mini-batch.

    A layer's two matrices [g_in, g_out] are multiplied with a sample's row forward, with one back where something goes
    back, and in the gradient's outer product.
    """
    flops = 0.0
    for number, (g_in, g_out) in enumerate(zip(model.sizes, model.sizes[1:], strict=False), start=1):
        products = 1 + schedule.trains + (schedule.trains and number in schedule.outline.returning)
        flops += schedule.batch * products * 4 * g_in * g_out
    return flops + (2 * schedule.travelling if schedule.trains else 0)
