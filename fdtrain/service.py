"""What rank 0 serves between mini-batches: the topology, every node's own rows, and the collection of metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fdtrain import partition
from fdtrain.errors import DivergenceError
from fdtrain.graph import Graph, Neighbourhood, neighbourhoods
from fdtrain.job import Job
from fdtrain.ledger import Ledger
from fdtrain.shifts import check_shift
from fdtrain.tasks.base import DataService, Samples
from fdtrain.topology.service import TopologyService
from fdtrain.training import Order, Report, Rows

Array = NDArray[np.float64]

METRICS = ("mse_train", "mse_test", "disagreement")  # of an EpochRow


@dataclass(frozen=True)
class EpochRow:
    """A line of ``metrics.csv``. Rounds, link messages and bytes are training's, from the start to this epoch."""

    epoch: int  # from 1
    mse_train: float
    mse_test: float
    disagreement: float
    rounds: int
    messages: int
    bytes: int


@dataclass
class Outcome:
    """What a job leaves behind."""

    rows: list[EpochRow] = field(default_factory=list)
    theta: Array = field(default_factory=lambda: np.empty((0, 0)))  # [V, p]
    gradient: Array = field(default_factory=lambda: np.empty((0, 0)))  # [V, p] of the last mini-batch
    node_loss: Array = field(default_factory=lambda: np.empty(0))  # [V] test MSE of each node
    ledger: Ledger = field(default_factory=Ledger)
    stopped: str | None = None  # why before the last epoch, if it did not fail


@dataclass
class Plateau:
    """Watches a metric that has to fall."""

    metric: str  # a field of EpochRow
    patience: int  # epochs
    min_delta: float  # relative to the best so far
    best: float = math.inf
    since: int = 0  # the epoch of the best

    def reached(self, row: EpochRow) -> str | None:
        """Why to end after this epoch, if the metric has not improved for so long."""
        value: float = getattr(row, self.metric)
        if value < self.best * (1.0 - self.min_delta):
            self.best, self.since = value, row.epoch
        if row.epoch - self.since < self.patience:
            return None
        return (
            f"stopped early after epoch {row.epoch}: {self.metric} has not improved on {self.best:.5g} "
            f"of epoch {self.since} by {self.min_delta:.2g} of it for {self.patience} epochs"
        )


class Host:
    """Rank 0's service for one job; the only one who sees all nodes."""

    def __init__(
        self,
        job: Job,
        topology: TopologyService,
        data: DataService,
        theta: Array,
        ranks: int,
        on_epoch: Callable[[EpochRow], None] | None = None,
        plateau: Plateau | None = None,
    ) -> None:
        """`theta` [V, p] are the initial parameters; `on_epoch` is called after every epoch, `plateau` ends the job."""
        self.job, self.topology, self.data = job, topology, data
        self.outcome = Outcome(theta=theta)
        self.owner = partition.block(len(theta), ranks)
        self._ids = [np.flatnonzero(self.owner == rank) for rank in range(ranks)]
        self._on_epoch, self._plateau = on_epoch, plateau
        self._failure: DivergenceError | None = None

    def parameters(self) -> Sequence[tuple[NDArray[np.int64], Array]]:
        return [(ids, self.outcome.theta[ids]) for ids in self._ids]

    def neighbourhoods(self, t: int) -> Sequence[Neighbourhood]:
        return neighbourhoods(self.graph(t), self.owner, len(self._ids))

    def graph(self, t: int) -> Graph:
        """The graph of mini-batch t, checked for the job's shift."""
        graph = self.topology.graph(t)
        check_shift(self.job.shift, np.asarray(graph.adjacency().sum(axis=1)), np.arange(graph.num_nodes))
        return graph

    def dataset(self) -> Sequence[tuple[Rows, Rows]]:
        train, test = self.data.dataset(self.topology.graph(0))
        return list(zip(self._cut(train), self._cut(test), strict=True))

    def minibatch(self, t: int, chosen: Order) -> Sequence[Rows]:
        return self._cut(self.data.minibatch(t, chosen, self.topology.graph(t)))

    def test(self, t: int) -> Sequence[Rows]:
        return self._cut(self.data.test(self.topology.graph(t)))

    def begin(self, epoch: int) -> Order | None:
        return None if self._failure or self.outcome.stopped else self.data.order(epoch)

    def end(self, epoch: int, reports: Sequence[Report]) -> None:
        job, outcome = self.job, self.outcome
        outcome.theta = self._assemble([report.theta for report in reports])
        outcome.gradient = self._assemble([report.gradient for report in reports])
        outcome.ledger = Ledger.merged(report.ledger for report in reports)
        test_loss = self._assemble([report.test_loss for report in reports])
        train_loss = self._assemble([report.train_loss for report in reports]).sum(axis=0)
        outputs = job.model.sizes[-1]
        outcome.node_loss = test_loss / (job.test_samples * outputs)
        batches = [min(job.batch, job.train_samples - k * job.batch) for k in range(len(train_loss))]
        train = outcome.ledger.total["train"]
        row = EpochRow(
            epoch + 1,
            float(np.mean(train_loss / (np.array(batches) * len(outcome.theta) * outputs))),
            float(outcome.node_loss.mean()),
            disagreement(outcome.theta),
            train.rounds,
            train.link_messages,
            train.link_bytes,
        )
        seen = [report.diverged for report in reports if report.diverged is not None]
        if seen:
            first = min(seen)
            self._failure = DivergenceError(
                f"training diverged: epoch {epoch + 1}, mini-batch {first.minibatch}: node {first.node}, "
                f"layer {first.layer} has parameters that are not finite; lower optimizer.lr or the mixing's beta, "
                "or check the scale of the data"
            )
        self.enter(row)

    def enter(self, row: EpochRow) -> None:
        """Take in an epoch's metrics."""
        self.outcome.rows.append(row)
        infinite = [metric for metric in METRICS if not math.isfinite(getattr(row, metric))]
        if infinite and self._failure is None:
            self._failure = self._explain(row, infinite[0])
        if self._plateau is not None and self._failure is None and row.epoch < self.job.epochs:
            self.outcome.stopped = self._plateau.reached(row)
        if self._on_epoch is not None:
            self._on_epoch(row)

    def _explain(self, row: EpochRow, metric: str) -> DivergenceError:
        """Parameters are finite, but so large that a metric is not."""
        sizes = np.abs(self.outcome.theta)
        node, number = np.unravel_index(np.argmax(sizes), sizes.shape)
        where = f"node {node}, " if row.rounds else ""
        layer, size = self.job.model.layer_of(int(number)), sizes[node, number]
        return DivergenceError(
            f"training diverged: epoch {row.epoch}: {where}layer {layer} has a parameter of size {size:.2g}, and "
            f"{metric} is {getattr(row, metric)}; lower optimizer.lr or the mixing's beta, "
            "or check the scale of the data"
        )

    def check(self) -> None:
        """Raise what ended the job early, if anything did.

        Raises:
            DivergenceError: naming the epoch, the node and the layer.
        """
        if self._failure is not None:
            raise self._failure

    def _cut(self, samples: Samples) -> list[Rows]:
        return [
            Rows(*(np.ascontiguousarray(array[:, ids].swapaxes(0, 1)) for array in samples))
            for ids in self._ids
        ]

    def _assemble(self, parts: Sequence[Array]) -> Array:
        whole = np.empty((len(self.owner), *parts[0].shape[1:]))
        for ids, part in zip(self._ids, parts, strict=True):
            whole[ids] = part
        return whole


def disagreement(theta: Array) -> float:
    """Root mean square over the nodes of ‖θ^i − θ̄‖, from `theta` [V, p]."""
    with np.errstate(all="ignore"):  # where training diverges
        return float(np.sqrt(np.mean(np.sum(np.square(theta - theta.mean(axis=0)), axis=1))))
