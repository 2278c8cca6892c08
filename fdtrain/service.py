"""What rank 0 serves between mini-batches: the topology, every node's own rows, and the collection of metrics."""

from __future__ import annotations

import hashlib
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain import disagreement, partition, scans
from fdtrain.drawing import Recipe
from fdtrain.errors import DivergenceError, InputError, RunFailedError, StoppedError
from fdtrain.graph import Graph, Neighbourhood, neighbourhoods
from fdtrain.job import Job
from fdtrain.ledger import Ledger
from fdtrain.measure import MSE, Measure
from fdtrain.memory import Keeper, Memory
from fdtrain.minibatches import MinibatchRow
from fdtrain.passes import Rows
from fdtrain.reports import Diverged, Kind, Log, Peak, Report, Saved, State, Wanted
from fdtrain.scans import Largest
from fdtrain.snapshot import Snapshot, cut, join
from fdtrain.tasks.base import DataService, Order, Samples
from fdtrain.topology.ahead import Ahead
from fdtrain.topology.connectivity import Recorder

Array = NDArray[np.float64]


@dataclass(frozen=True)
class EpochRow:
    """A line of ``metrics.csv``. Rounds, link messages and bytes are training's, from the start to this epoch."""

    epoch: int  # from 1
    train: float  # the measure
    test: float
    disagreement: float
    rounds: int
    messages: int
    bytes: int
    measure: Measure = MSE

    def columns(self) -> dict[str, int | float]:
        """The values by the names of their columns, such as ``mse_train``, in their order."""
        values = {field.name: getattr(self, field.name) for field in fields(self)[:-1]}
        return {self.measure.column(name): value for name, value in values.items()}


@dataclass
class Outcome:
    """What a job leaves behind."""

    rows: list[EpochRow] = field(default_factory=list)
    theta: Array = field(default_factory=lambda: np.empty((0, 0)))  # [V, p] final, once all is done
    gradient: Array = field(
        default_factory=lambda: np.empty((0, 0))
    )  # [V, p] of the last mini-batch, likewise
    node_loss: Array = field(default_factory=lambda: np.empty(0))  # [V] each node's, of the test samples
    ledger: Ledger = field(default_factory=Ledger)
    test_baselines: Mapping[str, float] = field(default_factory=dict)  # of other methods
    stopped: str | None = None  # why before the last epoch, if it did not fail
    peaks: list[Peak] = field(default_factory=list)  # of every rank's memory


@dataclass
class Plateau:
    """Watches a metric that has to improve: to fall, or to rise where the measure does."""

    metric: str  # train, test or a column of metrics.csv
    patience: int  # epochs
    min_delta: float  # relative to the size of the best so far
    best: float | None = None
    since: int = 0  # the epoch of the best

    def reached(self, row: EpochRow) -> str | None:
        """Why to end after this epoch, if the metric has not improved for so long."""
        metric = row.measure.column(self.metric)
        value = row.columns()[metric]
        if self.best is None:
            self.best = row.measure.worst
        if row.measure.improves(value, self.best, self.min_delta):
            self.best, self.since = value, row.epoch
        if row.epoch - self.since < self.patience:
            return None
        return (
            f"stopped early after epoch {row.epoch}: {metric} has not improved on {self.best:.5g} "
            f"of epoch {self.since} by {self.min_delta:.2g} of it for {self.patience} epochs"
        )


class Topology(Protocol):
    """E(t)."""

    def graph(self, t: int) -> Graph:
        """The graph of mini-batch t; the same object as long as it stays the same."""


class Critic(Protocol):
    """Predicts who is chosen, and so what z does to the utility (SPEC §6 C)."""

    state: Any  # numbers, texts and arrays

    def sensitivity(self, graph: Graph, z: Array) -> Array:
        """|V| ∂(objective)/∂z at z [V, w], of every sample by itself."""

    def learn(self, graph: Graph, z: Array, utility: Array) -> None:
        """Take the samples of a mini-batch: z [V, B], and u_i of those who were chosen by it, else 0 [V, B]."""


class Host:
    """Rank 0's service for one job; the only one who sees all nodes."""

    def __init__(
        self,
        job: Job,
        topology: Topology,
        data: DataService,
        theta: Array,
        ranks: int,
        on_epoch: Callable[[EpochRow], None] | None = None,
        plateau: Plateau | None = None,
        critic: Critic | None = None,
        owner: NDArray[np.int64] | None = None,
    ) -> None:
        """`theta` [V, p] are the initial parameters; `on_epoch` is called after every epoch, `plateau` ends the job;
        `critic` is the one that nodes ask, if they do, as it is at the start; `owner` [V] the rank of every node, by
        default in blocks."""
        self.critic = critic
        self._waves: list[Array] = []  # reports of the mini-batch so far
        self._batch = 0  # its samples
        self.job, self.topology, self.data = job, topology, data
        self.outcome = Outcome()
        self.kinds: tuple[Kind, ...] = ("theta",)  # what all nodes hand in when all is done
        self._initial = theta
        self.measure = job.measure
        self.on_minibatches: Callable[[Sequence[MinibatchRow]], None] | None = None
        self.connectivity: Recorder | None = None  # sees the graph of every mini-batch
        self.owner = partition.block(len(theta), ranks) if owner is None else owner
        self._ids = [np.flatnonzero(self.owner == rank) for rank in range(ranks)]
        self._on_epoch, self._plateau = on_epoch, plateau
        self._failure: DivergenceError | RunFailedError | None = None
        self._dealt: Graph | None = None  # the graph that was served last
        self._hoods: list[Neighbourhood] = []
        self._memory = Memory()
        self.keeper: Keeper | None = None
        self._saved: Sequence[Saved] = ()

    def parameters(self) -> Sequence[tuple[NDArray[np.int64], Array]]:
        alike = self._initial.strides[0] == 0  # one row, seen as many
        return [(ids, self._initial[:1] if alike else self._initial[ids]) for ids in self._ids]

    def neighbourhoods(self, t: int) -> Sequence[Neighbourhood | None]:
        return self._deal(self.graph(t))

    def graph(self, t: int) -> Graph:
        """The graph of mini-batch t, checked for the job's weights."""
        graph = self.topology.graph(t)
        self.job.network.check(graph)
        if self.job.channel is not None:
            self.job.channel.check(self.job.mixing, graph)
        if self.connectivity is not None:
            self.connectivity.see(t, graph)
        return graph

    def close(self) -> None:
        """Nothing more will be asked of the topology: end what draws ahead."""
        if isinstance(self.topology, Ahead):
            self.topology.close()

    def _deal(self, graph: Graph) -> Sequence[Neighbourhood | None]:
        if graph is self._dealt:
            return [None] * len(self._ids)
        self._dealt, self._hoods = graph, neighbourhoods(graph, self.owner, len(self._ids))
        return self._hoods

    def dataset(self) -> Sequence[tuple[Rows, Rows] | Recipe]:
        graph = self.topology.graph(0)
        recipe = self.data.recipe(graph)
        if recipe is not None:
            hosts = hashlib.sha256(self.owner.tobytes()).hexdigest()
            return [replace(recipe, hosts=hosts)] * len(self._ids)
        train, test = self.data.dataset(graph)
        return list(zip(self._cut(train), self._cut(test), strict=True))

    def minibatch(self, t: int, chosen: Order) -> Sequence[Rows]:
        samples = self.data.minibatch(t, chosen, self.topology.graph(t))
        self._batch = len(chosen)
        if self.job.log_every is not None:
            self._memory.baselines[t] = self.data.baselines(t)
        return self._cut(samples)

    def criticise(self, reports: Sequence[Array]) -> Sequence[Array]:
        """The critic learns after the last wave of a mini-batch: all its samples are asked of the same one."""
        assert self.critic is not None
        assert self._dealt is not None
        report = self._assemble(reports)
        sensitivity = self.critic.sensitivity(self._dealt, report[..., 1])
        self._waves.append(report)
        if sum(wave.shape[1] for wave in self._waves) == self._batch:
            noisy, _, utility = np.moveaxis(np.concatenate(self._waves, axis=1), 2, 0)
            self.critic.learn(self._dealt, noisy, utility)
            self._waves = []
        return [sensitivity[ids] for ids in self._ids]

    def test(self, t: int, k: int) -> Sequence[tuple[Neighbourhood | None, Rows]]:
        graph, samples = self.data.test(self.topology.graph(t), k)
        self.compare_on_test(k)
        return list(zip(self._deal(graph), self._cut(samples), strict=True))

    def compare_on_test(self, k: int) -> None:
        """Let other methods do test mini-batch k, the first time that it is used."""
        if k not in self._memory.tested:
            self._memory.tested[k] = self.data.test_baselines(k)
            self.outcome.test_baselines = self._memory.test_baselines()

    def begin(self, epoch: int) -> Order | None:
        return None if self._failure or self.outcome.stopped else self.data.order(epoch)

    def log(self, logs: Sequence[Log]) -> bool:
        self._enter_losses([log.train_loss for log in logs])
        self._notice([log.diverged for log in logs])
        return self._failure is None

    def _enter_losses(self, parts: Sequence[Array]) -> None:
        """Σ_b ℓ_i [n, mini-batches] of every rank."""
        job, losses, rows = self.job, self._assemble(parts), []
        for loss in losses.T:
            k = len(self._memory.measures)
            samples = min(job.batch, job.train_samples - k * job.batch)
            up = self._up(self._memory.minibatches)
            measure = job.loss.combine(job.loss.measure(loss[up], samples))
            self._memory.measures.append(measure)
            baselines = self._memory.baselines.pop(self._memory.minibatches, {})
            self._memory.minibatches += 1
            rows.append(MinibatchRow(self._memory.minibatches, measure, baselines, self.measure))
        if rows and job.log_every is not None:
            self.enter_minibatches(rows)

    def _up(self, t: int) -> NDArray[np.bool_]:
        """Which nodes [V] are not down in mini-batch t: only they are measured."""
        nodes = np.arange(len(self.owner))
        up = np.ones(len(nodes), dtype=np.bool_)
        return up if self.job.channel is None else ~self.job.channel.crashed(t, nodes)

    def _notice(self, diverged: Sequence[Diverged | None]) -> None:
        seen = [found for found in diverged if found is not None]
        if seen and self._failure is None:
            first = min(seen)
            epoch = first.minibatch // self.job.minibatches + 1
            self._failure = DivergenceError(
                f"training diverged: epoch {epoch}, mini-batch {first.minibatch}: node {first.node}, "
                f"{first.part} has parameters that are not finite; lower optimizer.lr or the mixing's beta, "
                f"or check the scale of the data{self.job.precision.remedy}"
            )

    def average(self, parts: Sequence[disagreement.Sums]) -> Array:
        return disagreement.mean_of(parts, len(self.owner))

    def end(self, epoch: int, reports: Sequence[Report]) -> None:
        job, outcome = self.job, self.outcome
        outcome.ledger = Ledger.merged([report.ledger for report in reports])
        test_loss = self._assemble([report.test_loss for report in reports])
        outcome.node_loss = job.loss.measure(test_loss, job.test_samples * job.test_minibatches)
        self._enter_losses([report.train_loss for report in reports])
        train = outcome.ledger.total["train"]
        row = EpochRow(
            epoch + 1,
            float(np.mean(self._memory.measures)),
            job.loss.combine(outcome.node_loss),
            disagreement.root_mean_square(self._assemble([report.distances for report in reports])),
            train.rounds,
            train.link_messages,
            train.link_bytes,
            self.measure,
        )
        self._memory.measures = []
        self._notice([report.diverged for report in reports])
        self.enter(row, scans.largest_of([report.largest for report in reports]))

    def enter(self, row: EpochRow, largest: Largest) -> None:
        """Take in an epoch's metrics; `largest` of all parameters says where it diverged, if it did."""
        self.outcome.rows.append(row)
        infinite = [metric for metric, value in row.columns().items() if not math.isfinite(value)]
        if infinite and self._failure is None:
            self._failure = self._explain(row, infinite[0], largest)
        if self._plateau is not None and self._failure is None and row.epoch < self.job.epochs:
            self.outcome.stopped = self._plateau.reached(row)
        if self._on_epoch is not None:
            self._on_epoch(row)

    def enter_minibatches(self, rows: Sequence[MinibatchRow]) -> bool:
        """Take in the metrics of the mini-batches that follow those of before, while an epoch goes on; whether it is to
        go on."""
        if self.on_minibatches is not None:
            self.on_minibatches(rows)
        return self._failure is None

    def save(self, t: int, states: Sequence[State], stop: int) -> None:
        snapshots = [state.snapshot for state in states if state.snapshot is not None]
        problem = next((state.problem for state in states if state.problem), None)
        if any(state.diverged for state in states):  # the run ends with this epoch
            problem = "training diverged"
        if problem is None:
            try:
                ledger = Ledger.merged([state.ledger for state in states])
                self.keep(t, {"snapshot": join(snapshots, self._ids).as_dict(), "ledger": ledger.as_dict()})
            except InputError as error:
                problem = str(error)
        if problem is not None and self.keeper is not None:
            self.keeper.refuse(t, problem)
        if stop:
            self.stop(t, stop)

    def keep(self, t: int, content: Mapping[str, Any]) -> None:
        """Write a checkpoint after t mini-batches: `content`, of training, and what this service remembers."""
        if self.keeper is not None and self._failure is None:
            watch, critic = self._plateau, self.critic
            host = {
                "memory": self._memory.as_dict(),
                "plateau": None if watch is None else [watch.best, watch.since],
                "critic": None if critic is None else critic.state,
                "connectivity": None if self.connectivity is None else self.connectivity.state,
            }
            self.keeper.write(t, {**content, "host": host})

    def stop(self, t: int, number: int) -> None:
        """End the job after t mini-batches, because of signal `number`."""
        if self._failure is None:
            name, epoch = signal.Signals(number).name, self.job.place(t)[0] + 1
            self._failure = StoppedError(f"stopped by {name} after mini-batch {t:,} (epoch {epoch})", number)

    def take_up(self, content: Mapping[str, Any], rows: Sequence[EpochRow]) -> None:
        """Go on from what :meth:`keep` has written, with the metrics of the epochs before."""
        host, watch = content["host"], self._plateau
        self._memory = Memory.from_dict(host["memory"])
        self.outcome.rows.extend(rows)
        self.outcome.test_baselines = self._memory.test_baselines()
        if watch is not None:
            watch.best, watch.since = host["plateau"]
        if self.critic is not None:
            self.critic.state = host["critic"]
        if self.connectivity is not None:
            self.connectivity.state = host["connectivity"]
        if "snapshot" in content:
            parts = cut(Snapshot.from_dict(content["snapshot"]), self._ids)
            ledgers = [Ledger.from_dict(content["ledger"]), *[None] * (len(parts) - 1)]
            self._saved = [Saved(part, ledger) for part, ledger in zip(parts, ledgers, strict=True)]

    def saved(self) -> Sequence[Saved]:
        return self._saved

    def wanted(self) -> Wanted:
        return Wanted(self.kinds, max(len(ids) for ids in self._ids))

    def take(self, kind: Kind, first: int, parts: Sequence[Array]) -> None:
        if first == 0:
            setattr(self.outcome, kind, np.empty((len(self.owner), parts[0].shape[1])))
        whole: Array = getattr(self.outcome, kind)
        for ids, part in zip(self._ids, parts, strict=True):
            whole[ids[first : first + len(part)]] = part

    def note_peaks(self, peaks: Sequence[Peak]) -> None:
        self.outcome.peaks = list(peaks)

    def _explain(self, row: EpochRow, metric: str, largest: Largest) -> DivergenceError:
        """Parameters are finite, but so large that a metric is not."""
        size, node, number = largest
        where = f"node {node}, " if row.rounds else ""
        part = self.job.model.part_of(number)
        return DivergenceError(
            f"training diverged: epoch {row.epoch}: {where}{part} has a parameter of size {size:.2g}, and "
            f"{metric} is {row.columns()[metric]}; lower optimizer.lr or the mixing's beta, "
            f"or check the scale of the data{self.job.precision.remedy}"
        )

    def fail(self, error: RunFailedError) -> None:
        """Let all ranks leave, and :meth:`check` raise the first error."""
        self._failure = self._failure or error

    def check(self) -> None:
        """Raise what ended the job early, if anything did.

        Raises:
            DivergenceError: naming the epoch, the node and the layer.
            StoppedError: a signal asked for it.
        """
        if self._failure is not None:
            raise self._failure

    def _cut(self, samples: Samples) -> list[Rows]:
        """Every rank's own rows; of channels, those to and from the neighbours that were served last."""
        x, y = samples.x.swapaxes(0, 1), samples.y.swapaxes(0, 1)
        rows = [Rows(_rows_of(x, ids), _rows_of(y, ids)) for ids in self._ids]
        if samples.channels is None:
            return rows
        H = np.ascontiguousarray(np.moveaxis(samples.channels, 0, 2))  # [V, V, B]
        pairs = [(np.repeat(hood.ids, hood.degrees), hood.indices) for hood in self._hoods]
        channels = [np.stack([H[i, j], H[j, i]]) for i, j in pairs]
        return [part._replace(channels=own) for part, own in zip(rows, channels, strict=True)]

    def _assemble(self, parts: Sequence[Array]) -> Array:
        whole = np.empty((len(self.owner), *parts[0].shape[1:]))
        for ids, part in zip(self._ids, parts, strict=True):
            whole[ids] = part
        return whole


def _rows_of(values: Array, ids: NDArray[np.int64]) -> Array:
    """The rows `ids` of `values` [V, …], contiguous: copied once where the nodes are neighbours by number."""
    if len(ids) and ids[-1] - ids[0] == len(ids) - 1:
        return np.ascontiguousarray(values[ids[0] : ids[-1] + 1])
    return np.ascontiguousarray(values[ids])
