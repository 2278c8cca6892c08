"""A trained actor on a conflict graph and weights of the user's: who is on, beside what other methods choose.

θ [V, p] has a row per trained node; the vertices of another graph take theirs from these rows.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fdtrain import config as configuration
from fdtrain.config import Config
from fdtrain.decisions import Actor, Decided, Part, decide
from fdtrain.driver import VerificationError
from fdtrain.errors import InputError
from fdtrain.graph import Graph, neighbourhoods
from fdtrain.layers.twin import Twin
from fdtrain.ledger import Ledger
from fdtrain.losses import SHARE, WEIGHT
from fdtrain.networks import Network
from fdtrain.outputs import writing
from fdtrain.partition import block
from fdtrain.passes import Rows
from fdtrain.problems import make_problem
from fdtrain.programs import Program
from fdtrain.progress import as_text
from fdtrain.tasks.independent_sets import (
    is_independent,
    local_greedy,
    minimum_degree_greedy,
    optimum,
    utility,
)
from fdtrain.team import Team
from fdtrain.topology import read_graph, resolve
from fdtrain.topology.conflicts import conflict_graph
from fdtrain.trained import Parameters, check_fits, config_file, notes_on, on_nodes, read_theta
from fdtrain.weights_file import name_of
from fdtrain.yamlfile import read_mapping

Array = NDArray[np.float64]
Chosen = NDArray[np.bool_]
Interference = Literal["none", "one_hop", "two_hop"]

RUN, LGS, OPTIMUM = "this run", "plain LGS", "optimum"
# Parameters say nothing of the network on which they were trained, whose file may be gone by now.
_ANY_NETWORK = {"kind": "erdos_renyi", "nodes": 2, "p": 1.0}


@dataclass(frozen=True)
class Trained:
    """A run's model."""

    config: Config  # on another network, on which messages are sent, even if those of training were not
    model: Program
    network: Network
    theta: Array  # [V, p]
    notes: tuple[str, ...]  # what a reader of the results has to know


def read_run(path: Path) -> Trained:
    """The model of the run in `path`.

    Raises:
        InputError: it is no run, or one of another task; a file is missing or damaged, or they do not fit each other.
    """
    file = config_file(path)
    content = read_mapping(file)
    task: Any = content.get("task")
    if isinstance(task, dict) and task.get("kind") == "link_scheduling":
        content["topology"] = _ANY_NETWORK
    found = configuration.from_mapping(content, source=str(file), base=path)
    if found.task.kind != "link_scheduling":
        raise InputError(
            f"{path}: is a run of {found.task.kind}, in which nobody decides; name one of link_scheduling"
        )
    theta, problem = read_theta(path), make_problem(found)
    check_fits(path, theta, problem.model)
    model: Program = problem.model
    if isinstance(model, Twin):  # the critic has nothing to say any more
        theta = np.ascontiguousarray(model.split(theta)[0])
        model = model.actor
    distributed = found.training.model_copy(update={"mode": "distributed"})
    config = found.model_copy(update={"training": distributed})
    return Trained(config, model, problem.network, theta, tuple(notes_on(path)))


def read_conflicts(name: str, interference: Interference) -> tuple[Graph, list[str]]:
    """The conflict graph in a file or of a named network, or that of the network's links; and notes.

    Raises:
        InputError: the file cannot be used, or nothing is in conflict.
    """
    graph = read_graph(resolve(name))
    if interference != "none":
        links = conflict_graph(graph, interference)
        if links.num_edges == 0:
            raise InputError(
                f"{name}: no two of its {links.num_nodes} links conflict, so all can be on; name a larger network"
            )
        return links, []
    if (graph.weights == 1).all():
        return graph, []
    return replace(graph, weights=np.ones_like(graph.weights)), [
        f"{name} has edge weights, which do not count: two vertices are in conflict or not"
    ]


@dataclass(frozen=True)
class Request:
    """A trained model, and what it is to decide."""

    trained: Trained
    graph: Graph
    weights: Array  # [B, V]
    parameters: Parameters

    @property
    def nodes(self) -> int:
        """|V| of the conflict graph."""
        return self.graph.num_nodes

    @property
    def config(self) -> Config:
        """That of the run."""
        return self.trained.config


@dataclass(frozen=True)
class Scheduled:
    """Who is on, by every method, and what this run's messages were."""

    weights: Array  # [B, V]
    z: Array  # [B, V]
    sets: dict[str, Chosen | None]  # [B, V] by method, this run's first; None where it found none in time
    ledger: Ledger
    notes: tuple[str, ...]

    def utilities(self, method: str) -> Array | None:
        """The weight of every sample's set, [B]."""
        chosen = self.sets[method]
        return None if chosen is None else utility(self.weights, chosen)


def schedule(request: Request, team: Team, optimum_within: float | None = None) -> Scheduled:
    """On rank 0: let the team decide, by messages; beside it what other methods choose, which see everything.

    Raises:
        InputError: z or z ⊙ u is not finite.
        VerificationError: what was decided is no independent set.
    """
    graph, u = request.graph, request.weights
    plain = local_greedy(graph, u)
    deal = partial(_parts, request, u / utility(u, plain)[:, None], team.size)
    work = partial(decide, Actor(request.trained.model, request.trained.network, len(u)))
    team.order(work)
    decided = work(team, deal)
    chosen, z = _check_decided(request, decided)
    sets: dict[str, Chosen | None] = {
        RUN: chosen, LGS: plain, "degree greedy": minimum_degree_greedy(graph, u)
    }  # fmt: skip
    notes = [*request.trained.notes, *_notes_on(request, z)]
    if optimum_within is not None:
        try:
            sets[OPTIMUM] = optimum(graph, u, time_limit=optimum_within)
        except InputError:  # the weights are fine: it took too long
            sets[OPTIMUM] = None
            notes.append(
                f"the optimum of a sample was not found within {optimum_within:g} s; give it longer, or leave it out"
            )
    return Scheduled(u, z, sets, Ledger.merged([part.ledger for part in decided]), tuple(notes))


def _parts(request: Request, share: Array, ranks: int) -> list[Part]:
    """What the ranks are handed, each of its own vertices."""
    graph, u = request.graph, request.weights
    theta = on_nodes(request.trained.theta, request.nodes, request.parameters)
    x = np.ones((request.nodes, len(u), 1))
    y = np.zeros((request.nodes, len(u), 4))
    y[..., WEIGHT], y[..., SHARE] = u.T, share.T
    hoods = neighbourhoods(graph, block(request.nodes, ranks), ranks)
    return [Part(theta[hood.ids], hood, Rows(x[hood.ids], y[hood.ids])) for hood in hoods]


def _check_decided(request: Request, decided: list[Decided]) -> tuple[Chosen, Array]:
    """The chosen vertices and z of all ranks, [B, V]: blocks of vertices, in order."""
    chosen = np.concatenate([part.chosen for part in decided]).T
    z = np.concatenate([part.z for part in decided]).T
    with np.errstate(all="ignore"):
        weighed = z * request.weights
    for what, values, remedy in (
        ("z", z, "the run's parameters are too large"),
        ("z · weight", weighed, "scale the weights down"),
    ):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise InputError(
                f"{what} is not finite at node {name_of(request.graph, bad[0][1])!r:.60}; {remedy}"
            )
    if not is_independent(request.graph, chosen):
        raise VerificationError("verification failed: vertices in conflict were chosen together")
    return chosen, z


def _notes_on(request: Request, z: Array) -> list[str]:
    found, trained = [], len(request.trained.theta)
    if request.parameters == "each" and request.nodes != trained:
        found.append(f"{trained} nodes were trained: vertex i has the parameters of node i mod {trained}")
    if np.ptp(z) == 0:
        found.append(
            f"z = {z[0, 0] + 0.0:g} at all vertices: the model tells none from another"
            + ("; all weights tie, and lower numbers win" if z[0, 0] == 0 else "")
        )
    return found


def render(request: Request, found: Scheduled, heading: str) -> str:
    """The results as text: what every method's set is worth, and what this run's messages cost."""
    samples = len(found.weights)
    values = _table("", "utility", "ratio to LGS", "chosen")
    plain = found.utilities(LGS)
    assert plain is not None
    means = {
        name: None if (worth := found.utilities(name)) is None else float(worth.mean()) for name in found.sets
    }
    spec = _spec(max(mean for mean in means.values() if mean is not None))
    for name, chosen in found.sets.items():
        worth = found.utilities(name)
        if chosen is None or worth is None:
            values.add_row(name, "–", "–", "–")
            continue
        size = chosen.sum() / samples
        shown = f"{size:,.0f}" if samples == 1 else f"{size:,.1f}"
        values.add_row(name, format(means[name], spec), f"{(worth / plain).mean():.4f}", shown)
    cost = _table("", "rounds", "messages", "bytes")
    kinds = [("setup", "degrees"), ("test", "features"), ("test", "weights"), ("test", "states")]
    counts = [found.ledger.fields[kind] for kind in kinds]
    for (_, kind), count in zip(kinds, counts, strict=True):
        cost.add_row(kind, f"{count.rounds:,}", f"{count.link_messages:,}", f"{count.link_bytes:,}")
    totals = np.array([(count.rounds, count.link_messages, count.link_bytes) for count in counts]).sum(axis=0)
    cost.add_row("in all", *(f"{total:,}" for total in totals))
    of = f", means over {samples:,} samples" if samples > 1 else ""
    edges = f"{request.nodes:,} vertices, {request.graph.num_edges:,} edges"
    together = ", of all samples together" if samples > 1 else ""
    sent = f"Messages over all edges{together}:"
    return as_text([heading, f"Conflict graph: {edges}{of}", "", values, "", sent, cost], 120)


def _spec(largest: float) -> str:
    """A format with five digits of the largest value."""
    if not 1e-3 <= largest < 1e9:
        return ".4e"
    return f",.{max(0, 4 - math.floor(math.log10(largest)))}f"


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="", padding=(0, 2, 0, 0), pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    return table


def write_csv(file: Path, request: Request, found: Scheduled) -> None:
    """A line per vertex, of every sample; floats with 17 significant digits.

    Raises:
        InputError: it cannot be written.
    """
    chosen = found.sets[RUN]
    assert chosen is not None
    samples, nodes = found.weights.shape
    several = ["sample"] if samples > 1 else []
    with writing(file), file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*several, "node", "weight", "z", "chosen"])
        for b in range(samples):
            for i in range(nodes):
                numbers = (f"{found.weights[b, i]:.17g}", f"{found.z[b, i]:.17g}", int(chosen[b, i]))
                writer.writerow([*([b] if several else []), name_of(request.graph, i), *numbers])
