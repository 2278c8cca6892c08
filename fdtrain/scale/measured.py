"""What was measured at a point of a study: taken on its ranks, kept in a file, and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.experiment import build
from fdtrain.placement import Share, cut_edges, shares
from fdtrain.scale.orders import Times, measure
from fdtrain.scale.work import minibatch_of, owner_of
from fdtrain.team import Team

PARTS = ("busy", "sending", "waiting")  # of a rank's time


@dataclass(frozen=True)
class Measured:
    """A point's figures; lists have an entry per timed mini-batch, of all visits."""

    nodes: int
    edges: int  # undirected
    samples: int  # B
    features: dict[str, float]
    crowded: bool  # whether ranks shared a core
    by_rank: list[
        dict[str, Any]
    ]  # of every rank: its share, messages, bytes, seconds, and the parts of these

    @property
    def seconds(self) -> list[float]:
        """Of every mini-batch: of the rank that took longest."""
        return [max(column) for column in zip(*(rank["seconds"] for rank in self.by_rank), strict=True)]

    @property
    def shares(self) -> list[Share]:
        """What falls to each rank."""
        return [Share(*(rank[name] for name in Share._fields)) for rank in self.by_rank]

    @property
    def ranks(self) -> int:
        """K."""
        return len(self.by_rank)

    def rank_medians(self) -> list[dict[str, Any]]:
        """A line per rank: its share, and the medians of its times."""
        timed = ("seconds", *PARTS)
        return [
            {"rank": number} | {k: median(v) if k in timed else v for k, v in rank.items()}
            for number, rank in enumerate(self.by_rank)
        ]

    def summary(self, statistic: str = "median") -> dict[str, Any]:
        """The columns of a point that need no other point; `statistic`: which mini-batch counts, or the shortest."""
        lines, seconds = self.rank_medians(), self.seconds
        counts = min(seconds) if statistic == "shortest" else median(seconds)
        total = sum(line[part] for line in lines for part in PARTS)
        return {
            "edges": self.edges,
            "samples": self.samples,
            "rounds": int(self.features["rounds"]),
            "seconds": counts,
            "seconds_median": median(seconds),
            "seconds_min": min(seconds),
            "seconds_max": max(seconds),
            "node_samples_per_second": self.nodes * self.samples / counts,
            "imbalance": imbalance([line["busy"] for line in lines]),
            "imbalance_nodes": imbalance([line["nodes"] for line in lines]),
            "imbalance_links": imbalance([line["links"] for line in lines]),
            "waiting": sum(line["waiting"] for line in lines) / total,
            "cut_edges": cut_edges(self.shares),
            "ghosts": sum(line["ghosts"] for line in lines),
            "messages": sum(line["messages"] for line in lines),
            "bytes": sum(line["bytes"] for line in lines),
            "crowded": self.crowded,
        }


def imbalance(loads: Sequence[float]) -> float:
    """max / mean: 1 where all have the same."""
    mean = fmean(loads)
    return max(loads) / mean if mean else 1.0


def take(config: Config, team: Team, *, warmup: int, repeats: int, allow_plugins: bool = False) -> Measured:
    """Measure a configuration's first mini-batch on the ranks of `team`; the others follow.

    Raises:
        InputError: it is none whose scaling can be measured.
    """
    minibatch = minibatch_of(config, allow_plugins=allow_plugins)
    experiment = build(config, allow_plugins=allow_plugins)
    if team.size > experiment.nodes:
        raise InputError(f"{team.size} ranks, but the network has only {experiment.nodes} nodes")
    job, host = experiment.job, experiment.host(team.size)
    team.order(partial(measure, job, warmup, repeats))
    times = measure(job, warmup, repeats, team, host)
    assert times is not None
    graph = experiment.topology.graph(0)
    found = shares(graph, owner_of(config, graph, team.size), team.size)
    return Measured(
        nodes=experiment.nodes,
        edges=graph.num_edges,
        samples=minibatch.schedule.batch,
        features=minibatch.features(found),
        crowded=_is_crowded(times),
        by_rank=[_line(*rank) for rank in zip(found, times, strict=True)],
    )


def _line(share: Share, times: Times) -> dict[str, Any]:
    parts = {name: getattr(times, name) for name in ("messages", "bytes", "seconds", *PARTS)}
    return {**share._asdict(), **parts}


def _is_crowded(times: Sequence[Times]) -> bool:
    """Whether the ranks of some host outnumber the cores that they may use together."""
    for host in {rank.host for rank in times}:
        here = [rank for rank in times if rank.host == host]
        if len(here) > len(set[int]().union(*(rank.cores for rank in here))):
            return True
    return False


def write(path: Path, found: Measured, identity: Mapping[str, Any]) -> None:
    """Keep what was measured, with what it is of."""
    content = {"of": dict(identity), **found.__dict__}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(path: Path, identity: Mapping[str, Any]) -> Measured | None:
    """What was kept of the same thing; None where there is nothing, or of something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return None if content.pop("of") != identity else Measured(**content)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def joined(visits: Sequence[Measured]) -> Measured:
    """All visits to a point as one."""
    first = visits[0]
    by_rank = [
        {
            name: [x for one in same for x in one[name]] if isinstance(value, list) else value
            for name, value in same[0].items()
        }
        for same in zip(*(visit.by_rank for visit in visits), strict=True)
    ]
    crowded = any(visit.crowded for visit in visits)
    return Measured(first.nodes, first.edges, first.samples, first.features, crowded, by_rank)


def relative_errors(predicted: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """predicted / measured − 1."""
    return [float(error) for error in np.array(predicted) / np.array(seconds) - 1]
