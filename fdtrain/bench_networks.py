"""What networks cost: a new topology with its exchange plans, and the messages between ranks under every partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fdtrain.bench_orders import Drawn, draws
from fdtrain.config import Config
from fdtrain.driver import VerificationError
from fdtrain.errors import InputError
from fdtrain.execution import Partition
from fdtrain.experiment import Experiment, run_job
from fdtrain.graph import Graph, Neighbourhood, neighbourhoods
from fdtrain.ledger import Ledger
from fdtrain.partitioners import PARTITIONERS
from fdtrain.placement import cut_edges, shares
from fdtrain.problems import make_topology
from fdtrain.progress import as_text
from fdtrain.service import Topology
from fdtrain.team import Team
from fdtrain.topology import Redraw, TopologyService


@dataclass(frozen=True)
class Drawing:
    """The topology of a configuration alone, of which every mini-batch has a new one."""

    config: Config
    topology: Topology
    every: int  # mini-batches
    nodes: int

    @classmethod
    def of(cls, config: Config) -> Drawing:
        """The same as of a run, but redrawn where it would stay.

        Raises:
            InputError: every draw is the same.
        """
        if config.topology.redraw is None and config.topology.is_random:
            section = config.topology.model_copy(update={"redraw": Redraw(every=1)})
            config = config.model_copy(update={"topology": section})
        topology, redraw = make_topology(config), config.topology.redraw
        if isinstance(topology, TopologyService) and redraw is None:
            raise InputError(
                f"bench topology: kind {config.topology.kind} is the same at every draw; use a random kind"
            )
        every = 1 if redraw is None else redraw.every
        return cls(config, topology, every, topology.graph(0).num_nodes)

    def graph(self, number: int) -> Graph:
        """The graph after so many redraws."""
        return self.topology.graph(number * self.every)


class Dealer:
    """Rank 0's part of :func:`fdtrain.bench_orders.draws`."""

    def __init__(self, drawing: Drawing, ranks: int) -> None:
        self._drawing, self._ranks = drawing, ranks
        first, begin = drawing.graph(0), perf_counter()
        section = drawing.config.execution.partition
        self._owner = section.owners(first, ranks, drawing.config.seed)
        self.partitioning = perf_counter() - begin  # seconds

    def graph(self, number: int) -> Graph:
        """A new graph."""
        return self._drawing.graph(number)

    def cut(self, graph: Graph) -> Sequence[Neighbourhood]:
        """What every rank is told of it."""
        return neighbourhoods(graph, self._owner, self._ranks)


def topology(drawing: Drawing, team: Team, repeats: int) -> str:
    """On rank 0: how long the team takes for a new topology, from drawing to the exchange plans."""
    dealer = Dealer(drawing, team.size)
    team.order(partial(draws, repeats))
    seconds = draws(repeats, team, dealer)
    whole = [sum(drawn) for drawn in seconds]
    parts = ", ".join(
        f"{name} {median(getattr(drawn, name) for drawn in seconds):.3f} s" for name in Drawn._fields
    )
    last = dealer.graph(repeats)
    return (
        f"a new {drawing.config.topology.kind} topology of {last.num_nodes:,} nodes and {last.num_edges:,} edges on "
        f"{team.size} ranks: {median(whole):.3f} s (median of {len(whole)}, {min(whole):.3f} to {max(whole):.3f}): "
        f"{parts}; once in a run, {drawing.config.execution.partition.kind} partition {dealer.partitioning:.3f} s"
    )


def partitions(experiment: Experiment, team: Team) -> str:
    """On rank 0: let the team train one mini-batch, and test once, under every partition, and compare what was sent.

    Raises:
        VerificationError: parameters or logical messages depend on the partition.
    """
    table = Table(box=None, header_style="", padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("partition", "nodes\nper rank", "cut\nedges", "ghosts", "peers"):
        table.add_column(heading, justify="left" if heading == "partition" else "right", no_wrap=True)
    for heading in ("physical\nmessages", "physical\nbytes", "bytes /\nrandom", "seconds to\npartition"):
        table.add_column(heading, justify="right", no_wrap=True)
    tried = [_try(experiment, kind, team) for kind in PARTITIONERS]
    first, by_kind = tried[0], {one.kind: one for one in tried}
    for one in tried:
        if one.theta.tobytes() != first.theta.tobytes() or one.logical != first.logical:
            raise VerificationError(f"bench partitions: {one.kind} has other results than {first.kind}")
        table.add_row(one.kind, *one.cells(by_kind["random"].ledger.physical_bytes))
    counts = first.ledger.total.values()
    messages, size = (
        sum(getattr(count, f"link_{what}") for count in counts) for what in ("messages", "bytes")
    )
    graph = experiment.topology.graph(0)
    return "\n".join(
        [
            f"{experiment.config.topology.kind}, {graph.num_nodes:,} nodes, {graph.num_edges:,} edges, {team.size} "
            f"ranks: a mini-batch of {experiment.job.batch} samples at wave {experiment.job.wave}, and a test",
            f"logical messages {messages:,}, bytes {size:,}, and all parameters to the bit: the same under each",
            "",
            as_text([table], 150),
        ]
    )


@dataclass(frozen=True)
class Tried:
    """A mini-batch under one partition."""

    kind: str
    seconds: float  # to partition
    sizes: tuple[int, int]  # nodes on the smallest and the largest rank
    cut: int
    ghosts: int
    peers: int
    ledger: Ledger
    theta: NDArray[np.float64]

    @property
    def logical(self) -> tuple[object, object]:
        """The counts of logical messages."""
        return self.ledger.total, self.ledger.fields

    def cells(self, compared: int) -> list[str]:
        """The columns of the table; `compared` are the physical bytes of another."""
        low, high = self.sizes
        nodes = f"{low:,}" if low == high else f"{low:,}–{high:,}"
        counts = (
            self.cut,
            self.ghosts,
            self.peers,
            self.ledger.physical_messages,
            self.ledger.physical_bytes,
        )
        ratio = f"{self.ledger.physical_bytes / compared:.3f}" if compared else "–"
        return [nodes, *(f"{count:,}" for count in counts), ratio, f"{self.seconds:.3f}"]


def _try(experiment: Experiment, kind: str, team: Team) -> Tried:
    settings = experiment.config
    section = settings.execution.partition.model_copy(update={"kind": kind})
    execution = settings.execution.model_copy(update={"partition": Partition(**section.model_dump())})
    made = replace(experiment, config=settings.model_copy(update={"execution": execution}))
    graph, begin = made.topology.graph(0), perf_counter()
    owner = execution.partition.owners(graph, team.size, settings.seed)
    seconds = perf_counter() - begin
    found = shares(graph, owner, team.size)
    host = made.host(team.size, job=replace(made.job, limit=1, epochs=1, test_minibatches=1))
    run_job(host.job, team, host)
    sizes = [share.nodes for share in found]
    ghosts, peers = (sum(getattr(share, what) for share in found) for what in ("ghosts", "peers"))
    return Tried(
        kind,
        seconds,
        (min(sizes), max(sizes)),
        cut_edges(found),
        ghosts,
        peers,
        host.outcome.ledger,
        host.outcome.theta,
    )
