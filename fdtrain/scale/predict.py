"""Time per mini-batch and epoch under every scheme, on a machine that need not be at hand."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from rich.table import Table

from fdtrain.config import Config
from fdtrain.cost import Case, configure
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.outputs import writing
from fdtrain.placement import Share
from fdtrain.problems import make_topology
from fdtrain.progress import as_text
from fdtrain.scale import radio
from fdtrain.scale.fit import predicted_seconds
from fdtrain.scale.machines import Computer, Machine, Radio
from fdtrain.scale.work import Minibatch, check_scalable, minibatch_of, shares_of, sizes_of
from fdtrain.schemes import SCHEMES
from fdtrain.tasks.node_regression import NodeRegression


@dataclass(frozen=True)
class Line:
    """A scheme on a machine."""

    scheme: str
    ranks: int  # of a computer; of a radio network one device per node
    rounds: int  # of a mini-batch
    row_bytes: int  # that a node sends to its neighbours in a mini-batch
    communication: float  # seconds of a mini-batch
    arithmetic: float
    minibatches: int  # of an epoch

    @property
    def seconds(self) -> float:
        """Of a mini-batch."""
        return self.communication + self.arithmetic

    @property
    def epoch(self) -> float:
        """Seconds of an epoch."""
        return self.seconds * self.minibatches


@dataclass(frozen=True)
class Prediction:
    """All schemes on a machine, and what the network has to do with it."""

    machine: Machine
    nodes: int
    edges: int
    max_degree: int
    slots: int | None  # of a radio network's round
    lines: list[Line]


def predict(
    config: Config, machine: Machine, ranks: Sequence[int] = (), *, allow_plugins: bool = False
) -> Prediction:
    """Predict for the network of mini-batch 0; on a computer for every number of `ranks`, or for its own.

    Schemes that the optimizer does not fit are those of D-SGD, or of naive SGD.

    Raises:
        InputError: ranks that the network has no nodes for, or that a radio network does not have, or a configuration
            of which no more than its schedule is known.
    """
    check_scalable(config)
    if isinstance(machine, Radio) and ranks:
        raise InputError(
            f"--ranks: machine {machine.name} is a radio network, one device per node; leave it out"
        )
    graph = make_topology(config).graph(0)
    counts = list(ranks) or [machine.ranks if isinstance(machine, Computer) else graph.num_nodes]
    if max(counts) > graph.num_nodes:
        raise InputError(
            f"--ranks: {max(counts):,}, but the network has {graph.num_nodes:,} nodes; use at most so many"
        )
    plans = [(scheme, _minibatch(config, scheme, allow_plugins=allow_plugins)) for scheme in SCHEMES]
    assert isinstance(config.task, NodeRegression)
    of_epoch = -(-config.task.train_samples // config.training.batch)
    count = radio.slots(graph, machine.slots) if isinstance(machine, Radio) else None
    if isinstance(machine, Radio):
        lines = [
            _line(scheme, graph.num_nodes, plan, _on_air(machine, plan, graph, count or 0), of_epoch)
            for scheme, plan in plans
        ]
    else:
        lines = [
            _line(scheme, number, plan, parts, of_epoch)
            for number in counts
            for scheme, plan, parts in _on_ranks(machine, plans, shares_of(config, graph, number))
        ]
    return Prediction(
        machine, graph.num_nodes, graph.num_edges, int(graph.degrees.max(initial=0)), count, lines
    )


def _minibatch(config: Config, scheme: str, *, allow_plugins: bool) -> Minibatch:
    """The configuration's mini-batch under another scheme."""
    training = config.training
    if scheme == training.scheme:
        return minibatch_of(config, allow_plugins=allow_plugins)
    consensus = training.consensus_rounds if SCHEMES[scheme].exchange in ("after_batch", "after_wave") else 0
    assert isinstance(config.task, NodeRegression)
    batch = min(training.batch, config.task.train_samples)
    depth = len(sizes_of(config)) - 1
    case = Case(scheme, depth, batch, min(training.wave, batch), consensus)
    return minibatch_of(configure(config, case), allow_plugins=allow_plugins)


def _line(scheme: str, ranks: int, plan: Minibatch, parts: tuple[float, float], of_epoch: int) -> Line:
    return Line(scheme, ranks, len(plan.schedule.rounds), sum(plan.row_bytes), *parts, of_epoch)


def _on_air(machine: Radio, plan: Minibatch, graph: Graph, count: int) -> tuple[float, float]:
    communication = radio.communication_seconds(machine, plan.row_bytes, count)
    return communication, radio.arithmetic_seconds(machine, plan, graph)


def _on_ranks(
    machine: Computer, plans: Sequence[tuple[str, Minibatch]], shares: Sequence[Share]
) -> Iterator[tuple[str, Minibatch, tuple[float, float]]]:
    for scheme, plan in plans:
        features = plan.features(shares)
        arithmetic = {name: features[name] for name in ("visits", "flops", "gathered")}
        whole, own = predicted_seconds(machine, features), predicted_seconds(machine, arithmetic)
        yield scheme, plan, (whole - own, own)


def render(found: Prediction) -> str:
    """The table as text."""
    machine = found.machine
    title = [
        f"{machine.name}: {found.nodes:,} nodes, {found.edges:,} edges, largest degree {found.max_degree:,}"
    ]
    if isinstance(machine, Radio):
        title.append(
            f"radio: every node a device, {found.slots:,} slots per round ({machine.slots}), "
            f"{machine.bandwidth / 1e6:g} Mbit/s, {machine.latency * 1e3:g} ms per packet"
        )
    table = Table(box=None, header_style="", padding=(0, 1, 0, 0), pad_edge=False)
    is_radio = isinstance(machine, Radio)
    table.add_column("scheme", no_wrap=True)
    for heading in ([] if is_radio else ["ranks"]) + [
        "rounds", "bytes\nper node", "s per\nmini-batch", "messages", "arithmetic", "s per\nepoch",
    ]:  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for line in found.lines:
        share = line.communication / line.seconds if line.seconds else 0.0
        table.add_row(
            line.scheme,
            *([] if is_radio else [f"{line.ranks:,}"]),
            f"{line.rounds:,}",
            f"{line.row_bytes:,}",
            f"{line.seconds:.4g}",
            f"{100 * share:.0f} %",
            f"{100 - 100 * share:.0f} %",
            f"{line.epoch:.4g}",
        )
    return "\n".join([*title, "", as_text([table], 150)])


def write_csv(file: Path, found: Prediction) -> None:
    """A line per scheme, and number of ranks."""
    names = [field.name for field in fields(Line)]
    with writing(file), file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["machine", "nodes", "edges", "slots", *names, "seconds", "epoch"])
        for line in found.lines:
            values = [getattr(line, name) for name in (*names, "seconds", "epoch")]
            writer.writerow([found.machine.name, found.nodes, found.edges, found.slots, *values])
