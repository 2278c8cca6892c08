"""How much memory a run takes, item by item, before it runs: a formula in nodes, links, parameters and samples.

What passes and optimizers hold per node is counted on a single node, so that the formula follows what they are made of.
Memory grows with nodes × (parameters + samples) and with links, and with nothing worse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.engine import PORTION, make_pass
from fdtrain.graph import Graph
from fdtrain.job import Job
from fdtrain.passes import Pass
from fdtrain.precision import TYPES
from fdtrain.schedule import Schedule
from fdtrain.turns import LocalLoss, make_turn

Array = NDArray[np.float64]

_NUMBER = 8  # bytes
_PROCESS = 170 * 2**20  # bytes of a rank without nodes
_LIBRARIES = 100 * 2**20  # bytes that rank 0 has in addition
_LINK = 112  # bytes of a link at its receiver: neighbourhood, plan and weights
_LINK_OF_ALL = 80  # bytes of every link at rank 0, which serves the topology
_STEPPED = 2  # rows of p numbers that an optimizer's step holds besides its state: α g, and new θ
_JOINED = 6  # times what the ranks have: as they sent it, joined, as an archive, as a file's content, and read again


@dataclass(frozen=True)
class Share:
    """What a rank has of the network."""

    nodes: int
    links: int  # directed, to its nodes
    ghosts: int  # neighbours that live elsewhere
    sent: int = 0  # rows that it sends to other ranks in a round


@dataclass(frozen=True)
class Item:
    """What some memory is for, in bytes by rank."""

    name: str
    by_rank: tuple[int, ...]


@dataclass(frozen=True)
class Footprint:
    """The memory of all ranks of a run, each at its peak."""

    items: tuple[Item, ...]

    @property
    def total(self) -> int:
        """Bytes of all ranks."""
        return sum(self.by_rank)

    @property
    def by_rank(self) -> tuple[int, ...]:
        """Bytes of every rank."""
        return tuple(sum(sizes) for sizes in zip(*(item.by_rank for item in self.items), strict=True))


def shares_of(graph: Graph, owner: NDArray[np.int64], ranks: int) -> list[Share]:
    """What every rank has of `graph`, by the `owner` [V] of every node."""
    hears, sender = owner[graph.rows], graph.indices
    links, crossing = np.bincount(hears, minlength=ranks), hears != owner[sender]
    sent = np.unique(hears[crossing] * len(owner) + sender[crossing])  # rows, by rank that hears and node
    ghosts = np.bincount(sent // len(owner), minlength=ranks)
    rows = np.bincount(owner[sent % len(owner)], minlength=ranks)
    nodes = np.bincount(owner, minlength=ranks)
    return [Share(*(int(part) for part in each)) for each in zip(nodes, links, ghosts, rows, strict=True)]


def footprint(job: Job, shares: Sequence[Share]) -> Footprint:
    """The memory of `job` on ranks that have these shares of the network."""
    schedules = [schedule for _, schedule in job.programme]
    p, links, first = job.model.num_parameters, sum(share.links for share in shares), shares[0].nodes
    samples = (job.batch if job.streamed else job.train_samples) + job.test_samples
    waves = sum(_of_a_pass(job, *key) for key in job.programme)
    state = _of_the_optimizer(job)
    width = max(schedule.peak_width for schedule in schedules)
    along = sum(s.travelling for s in schedules if s.exchange == "along")  # of each size of mini-batch
    number = TYPES[job.precision.arithmetic].bytes
    per_sample = number * (job.model.inputs + job.model.outputs)
    training = 2 * number * p + state + waves  # of a node, and given back before all of θ is handed in
    whole = max(0, number * p * sum(share.nodes for share in shares) - first * training)

    shorter = job.precision.messages
    bytes_ = max(schedule.peak_bytes for schedule in schedules) if shorter else 0
    kept = max(schedule.travelling for schedule in schedules) if "parameters" in shorter else 0

    def item(name: str, bytes_of: Callable[[Share], int]) -> Item:
        return Item(name, tuple(bytes_of(share) for share in shares))

    def at_first(name: str, size: int) -> Item:
        return Item(name, (size, *[0] * (len(shares) - 1)))

    def messages(share: Share) -> int:
        seen = share.nodes + share.ghosts
        coded = (seen + share.sent) * bytes_ + number * share.nodes * kept
        return number * ((seen + share.sent) * width + seen * along) + coded

    return Footprint(
        (
            item("processes", lambda s: _PROCESS),
            at_first("rank 0's libraries", _LIBRARIES),
            item("samples", lambda s: s.nodes * samples * per_sample),
            item("parameters and gradient", lambda s: number * s.nodes * 2 * p),
            item("optimizer", lambda s: s.nodes * state),
            item("an update", lambda s: number * min(s.nodes, PORTION) * _STEPPED * p),
            item("waves", lambda s: s.nodes * waves),
            item("messages", messages),
            item("graph and plan", lambda s: _LINK * s.links),
            at_first("graph of all nodes", _LINK_OF_ALL * links),
            at_first("parameters of all nodes, in the end", whole),
            at_first("checkpoint", _of_a_checkpoint(job, shares) if job.save_every is not None else 0),
        )
    )


def _of_the_optimizer(job: Job) -> int:
    """Bytes of a node's state, besides its parameters."""
    state = job.optimizer.init(np.zeros((1, job.model.num_parameters), job.precision.arithmetic))
    theta = job.optimizer.theta(state)
    return _bytes_in([state, theta]) - theta.nbytes


def _of_a_pass(job: Job, phase: str, schedule: Schedule) -> int:
    """Bytes of a node in the arrays of a pass: what one for two nodes has more than one for one."""
    one, two = (_bytes_in(_pass_for(job, phase, schedule, nodes)) for nodes in (1, 2))
    return two - one


def _pass_for(job: Job, phase: str, schedule: Schedule, nodes: int) -> Any:
    turn = LocalLoss(job.loss) if job.critic is None else make_turn(job.critic, np.zeros_like)
    assert turn is not None
    parts = job.model, job.network, job.loss, turn, job.optimizer
    made = make_pass(*parts, phase, schedule, nodes, job.kernel, job.precision.arithmetic)
    if not isinstance(made, Pass):
        return made
    caches = [
        made.tape.cache(b % 2, w)
        for b, w in {(b % 2, w): (b, w) for b, w in enumerate(schedule.waves)}.values()
    ]
    labels = np.zeros((*made.input.shape[:-1], job.model.outputs))
    return made, caches, labels


def _bytes_in(thing: Any) -> int:
    """Of the arrays that own the memory of all arrays within `thing`, each once."""
    seen: dict[int, Any] = {}  # by identity
    waiting = [thing]
    while waiting:
        found = waiting.pop()
        while isinstance(found, np.ndarray) and isinstance(found.base, np.ndarray):
            found = found.base
        if id(found) in seen:
            continue
        seen[id(found)] = found
        if isinstance(found, Mapping):
            waiting += found.values()
        elif isinstance(found, list | tuple):
            waiting += found
        elif type(found).__module__.startswith("fdtrain."):
            waiting += [getattr(found, name, None) for name in getattr(found, "__slots__", ())]
            waiting += getattr(found, "__dict__", {}).values()
    return sum(array.nbytes for array in seen.values() if isinstance(array, np.ndarray))


def _of_a_checkpoint(job: Job, shares: Sequence[Share]) -> int:
    """What rank 0 joins, encodes, writes and reads again."""
    row = _of_the_optimizer(job) + 3 * _NUMBER * job.model.num_parameters
    return _JOINED * row * sum(share.nodes for share in shares)


def why_unsaved(job: Job, shares: Sequence[Share], available: int) -> str:
    """Why a run that is stopped is not to be saved, in words, although nobody asked for checkpoints; empty: it is."""
    size = _of_a_checkpoint(job, shares)
    if job.save_every is not None or size <= available:
        return ""
    return f"to join it takes {in_gib(size)} of memory; with checkpoint.every it is tried nevertheless"


def available_memory() -> int:
    """Bytes that this machine can give to processes now."""
    import psutil

    return int(psutil.virtual_memory().available)


def in_gib(size: float) -> str:
    """Bytes as text."""
    return f"{size / 2**30:,.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"


def table_of(found: Footprint) -> list[tuple[str, str, str]]:
    """What memory is for, the most that a rank takes for it, and all ranks; without what is nothing, then the sums."""
    lines = [(item.name, max(item.by_rank), sum(item.by_rank)) for item in found.items]
    lines.append(("in all", max(found.by_rank), found.total))
    return [(name, in_gib(most), in_gib(every)) for name, most, every in lines if every]


def warning(found: Footprint, available: int) -> str:
    """In words, that there may not be enough memory; empty where there is."""
    if found.total <= available:
        return ""
    largest = max(found.items, key=lambda item: sum(item.by_rank))
    return (
        f"{len(found.by_rank)} ranks may need {in_gib(found.total)} of memory, most of it for {largest.name} "
        f"({in_gib(sum(largest.by_rank))}), and {in_gib(available)} are available here; use fewer nodes or samples, "
        "smaller waves, or more machines"
    )
