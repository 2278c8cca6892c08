"""Link scheduling with a central critic, by messages, against the oracle on global matrices (SPEC §6 C, §7)."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fdtrain as command
from commands import needs_mpi
from commands import theta as stored_theta
from numpy.typing import NDArray
from teams import error, refused, run, trace, verified

import fdtrain
from fdtrain import cli, reference, resources
from fdtrain import config as configuration
from fdtrain.driver import ASLEEP, Quiet, lead
from fdtrain.errors import DivergenceError, InputError
from fdtrain.experiment import Experiment, build
from fdtrain.graph import Graph
from fdtrain.local_greedy import LocalGreedy
from fdtrain.losses import EXPLORE, NOISE, SHARE, WEIGHT
from fdtrain.service import Host
from fdtrain.tasks.base import Order, Samples
from fdtrain.tasks.critic import CentralCritic
from fdtrain.tasks.link_scheduling import Critic
from fdtrain.team import in_threads
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import BundleSource

Array = NDArray[np.float64]
Content = dict[str, Any]
V, B, WAVE, RATE, CRITIC_RATE, L2 = 10, 5, 2, 5e-3, 1e-2, 5e-4  # waves of 2, 2 and 1
LEAKY = ["leaky_relu", "leaky_relu", "leaky_relu"]
CRITIC = {"hidden": 6, "layers": 3, "samples": B, "lr": CRITIC_RATE, "l2": L2}
BASE: Content = {
    "seed": 5,
    "topology": {"kind": "erdos_renyi", "nodes": V, "mean_degree": [1.0, 4.0]},
    "model": {"sizes": [1, 4, 3, 1]},
    "task": {"kind": "link_scheduling", "graphs": 3, "test_graphs": 2, "test_samples": 3, "critic": CRITIC},
    "training": {"epochs": 2, "batch": B, "wave": WAVE, "log_every": 2},
    "optimizer": {"kind": "naive_adam", "lr": RATE, "updates": "sample"},
}


def content(**sections: Content) -> Content:
    """BASE with these settings; an optimizer or a topology with a kind replaces the other one."""
    made = dict(BASE)
    for name, values in sections.items():
        given = values if name != "task" else values | {"critic": CRITIC | values.get("critic", {})}
        made[name] = given if "kind" in values else made[name] | given
    return made


def experiment(**sections: Content) -> Experiment:
    return build(configuration.from_mapping(content(**sections)))


def scattered(made: Experiment, seed: int = 0) -> Experiment:
    """Every node starts from parameters of its own."""
    draws = np.random.default_rng(seed).normal(scale=0.4, size=made.theta.shape)
    return replace(made, theta=made.theta + draws)


def model_of(made: Experiment) -> reference.Model:
    model: Any = made.job.model
    return reference.Model(model.sizes, model.activations, model.form, model.negative_slope)


def critic_of(made: Experiment) -> reference.Critic:
    section: Critic = made.config.task.critic  # type: ignore[union-attr]
    return reference.Critic(section.sizes, section.negative_slope, section.l2)


def phi_of(made: Experiment) -> Array:
    critic = made.critic()
    assert isinstance(critic, CentralCritic)
    return critic.phi.copy()


def minibatch(made: Experiment, t: int) -> tuple[Graph, Samples]:
    graph, size = made.topology.graph(t), made.job.batch
    return graph, made.data.minibatch(t, np.arange(t * size, (t + 1) * size), graph)


def ratio(graph: Graph, u: Array, chosen: Array) -> float:
    """The mean over the samples of the utility, relative to that of greedy choice by weight; u, chosen [B, V]."""
    without = reference.greedy(graph.adjacency(), u)
    return float(np.mean((u * chosen).sum(axis=1) / (u * without).sum(axis=1)))


# --- gradients ---

SCHEMES = {
    "per_sample, by sample": ("naive_adam", "sample", "per_sample"),
    "per_sample": ("naive_sgd", "batch", "per_sample"),
    "per_batch": ("d_sgd", None, "per_batch"),
    "piggyback": ("naive_adam", "batch", "piggyback"),
    "piggyback_do": ("d_sgd", None, "piggyback_do"),
}


def sections(name: str, K: int, wave: int, form: str, **model: Any) -> dict[str, Content]:
    kind, updates, scheme = SCHEMES[name]
    training = {"scheme": scheme, "wave": wave} | (
        {} if scheme == "piggyback_do" else {"consensus_rounds": K}
    )
    optimizer = {"kind": kind, "lr": RATE} | ({} if updates is None else {"updates": updates})
    return {"training": training, "optimizer": optimizer, "model": {"form": form, **model}}


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("name", SCHEMES)
def test_local_gradients(name: str, form: str) -> None:
    """SPEC §7, 1: every wave, K = 1 and 2, with a last layer that is cut off at 0 or not."""
    largest = 0.0
    for case, (wave, last) in enumerate(
        [(1, "leaky_relu"), (2, "leaky_relu"), (B, "leaky_relu"), (2, "relu")]
    ):
        settings = sections(name, 1 + case % 2, wave, form, activation=[*LEAKY[:2], last])
        made = scattered(experiment(**settings, task={"graphs": 1}), case)
        made = replace(made, job=replace(made.job, epochs=1))
        host = run(made, 2)
        graph, (x, y, _) = minibatch(made, 0)
        model, S = model_of(made), reference.conflict_shift(graph.adjacency())
        z = model.forward(S, x, made.theta)[..., 0]
        dz = critic_of(made).sensitivity(S, z + y[..., EXPLORE], phi_of(made))
        wanted = model.summed_pullback(S, x, dz[..., None], made.theta)
        assert np.linalg.norm(wanted, axis=1).min() > 0 or last == "relu"
        assert np.linalg.norm(wanted) > 1e-3
        largest = max(largest, error(host.outcome.gradient, wanted))
        chosen = reference.greedy(graph.adjacency(), (z + y[..., NOISE]) * y[..., WEIGHT])
        assert host.outcome.rows[0].train == pytest.approx(ratio(graph, y[..., WEIGHT], chosen), rel=1e-13)
    assert largest <= 1e-11, largest


# --- trajectories ---


class Followed:
    """The experiment's mini-batches by the oracle's :class:`Scheduling`, with the draws of its own services."""

    def __init__(self, made: Experiment, *, by_sample: bool) -> None:
        job, kind = made.job, made.config.optimizer.kind
        steps = reference.Recursion(kind, consensus_rounds=job.consensus_rounds)
        training = reference.Scheduling(
            model_of(made), critic_of(made), steps, reference.Recursion("adam"), by_sample
        )
        central = kind in ("sgd", "adam")
        state = training.start(made.theta[0] if central else made.theta, phi_of(made))
        self.train, self.decided = list[float](), Counter[str]()
        for t in range(job.epochs * job.minibatches):
            graph, (_, y, _) = minibatch(made, t)
            A, u, noise = graph.adjacency(), y[..., WEIGHT], y[..., NOISE]
            W = None if central else reference.mixing_matrix(A, "metropolis", 0.0)
            state, seen = training.advance(
                state, A, W, u, noise, y[..., EXPLORE], actor_lr=RATE, critic_lr=CRITIC_RATE
            )
            self.train.append(ratio(graph, u, seen.chosen))
            self._count(A, (seen.z + noise) * u, job.wave)
        self.theta, self.phi = state.actor.theta, state.critic.theta

    def _count(self, A: Any, weights: Array, wave: int) -> None:
        for first in range(0, len(weights), wave):
            part = weights[first : first + wave]
            rounds, radio, link = reference.greedy_rounds(A, part)
            width = 8 * len(part)
            self.decided.update(
                rounds=rounds, radio_messages=radio, radio_bytes=width * radio, link_messages=link,
                link_bytes=width * link,
            )  # fmt: skip


TRAJECTORIES: dict[str, tuple[str, int, int, str]] = {  # scheme, K, wave, form
    "as published": ("per_sample, by sample", 1, 2, "receiver"),
    "by sample, two rounds": ("per_sample, by sample", 2, B, "sender"),
    "by sample, one after another": ("per_sample, by sample", 2, 1, "receiver"),
    "by batch": ("per_sample", 2, 2, "sender"),
    "piggyback": ("piggyback", 1, 2, "receiver"),
}


def left(host: Host) -> dict[str, Any]:
    """All that a run leaves behind, the central critic's parameters too."""
    return trace(host.outcome) | ({} if host.critic is None else {"phi": host.critic.phi.tobytes()})  # type: ignore[attr-defined]


def same_bits(made: Callable[[], Experiment], ranks: tuple[int, ...] = (2, 3, V)) -> Host:
    alone = run(made(), 1)
    wanted = left(alone)
    for count in ranks:
        packed = left(run(made(), count))
        for key, value in wanted.items():
            assert packed[key] == value, f"{key} on {count} ranks"
    return alone


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_trajectories_and_packing(name: str) -> None:
    """SPEC §7, 3 and 6: six mini-batches, θ and φ, what was decided at what cost; the same bits in every packing."""
    scheme, K, wave, form = TRAJECTORIES[name]

    def make() -> Experiment:
        return scattered(experiment(**sections(scheme, K, wave, form, activation=LEAKY)))

    made, host = make(), same_bits(make)
    wanted = Followed(made, by_sample="by sample" in scheme)
    assert error(host.outcome.theta, wanted.theta) <= 1e-12
    assert error(host.critic.phi, wanted.phi) <= 1e-12  # type: ignore[union-attr]
    assert error(wanted.theta, made.theta) > 1e-4
    assert error(wanted.phi, phi_of(made)) > 1e-3
    epochs = np.reshape(wanted.train, (2, 3)).mean(axis=1)
    np.testing.assert_allclose([row.train for row in host.outcome.rows], epochs, rtol=1e-13)
    ledger = host.outcome.ledger
    assert Counter(vars(ledger.total["decide"])) == wanted.decided
    waves = 6 * -(-B // wave)
    assert ledger.fields["decide", "weights"].rounds == waves


def test_every_packing_of_other_schemes() -> None:
    """Waves as wide as parameters are few: what the solver says must not get in the way of what rides with it."""
    dense = {"kind": "erdos_renyi", "nodes": V, "mean_degree": 5.0}
    for name in ("per_batch", "piggyback_do"):
        for wave in (1, B):
            settings = sections(name, 1, wave, "receiver", sizes=[1, 2, 1], activation=LEAKY[:2])
            same_bits(lambda settings=settings: scattered(experiment(**settings, topology=dense)))  # type: ignore[misc]
    even = sections("piggyback_do", 1, B, "sender")
    even["training"]["slices"] = "even"
    same_bits(lambda: scattered(experiment(**even, topology=dense)))


def test_held_out_graphs_are_scheduled_by_the_nodes_without_noise() -> None:
    made = scattered(experiment(model={"activation": LEAKY}))
    host, model = run(made, 3), model_of(made)
    found, sent = [], Counter[str]()
    for k in range(2):
        graph, (x, y, _) = made.data.test(made.topology.graph(0), k)
        assert not y[..., [NOISE, EXPLORE]].any()
        A, u = graph.adjacency(), y[..., WEIGHT]
        z = model.forward(reference.conflict_shift(A), x, host.outcome.theta)[..., 0]
        found.append(ratio(graph, u, reference.greedy(A, z * u)))
        for part in (z[:2] * u[:2], z[2:] * u[2:]):
            rounds, radio, link = reference.greedy_rounds(A, part)
            sent.update(rounds=rounds, radio_messages=radio, link_messages=link)
    assert host.outcome.rows[-1].test == pytest.approx(np.mean(found), rel=1e-13)
    fields = host.outcome.ledger.fields
    assert fields["test", "weights"].rounds == 2 * 2 * 2  # epochs, graphs, waves
    assert fields["test", "weights"].rounds + fields["test", "states"].rounds >= sent["rounds"]
    assert fields["test", "states"].link_messages > 0


class Slow:
    """Mini-batches in which one end of a path decides as late as can be, while the rest has long gone on."""

    streamed, train_samples, test_samples = True, 3 * B, B

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        raise NotImplementedError

    def order(self, epoch: int) -> Order:
        return np.arange(self.train_samples)

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        y = np.ones((B, self._nodes, 4))
        y[..., NOISE] = 100.0 * np.arange(1, self._nodes + 1)
        y[..., EXPLORE] = 0.01 * np.random.default_rng(t).normal(size=y.shape[:2])
        y[::2, :, NOISE] *= -1
        return Samples(np.ones((B, self._nodes, 1)), y)

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        return graph, self.minibatch(k, np.arange(B), graph)

    def baselines(self, t: int) -> dict[str, float]:
        return {}

    test_baselines = baselines


@pytest.mark.parametrize("name", SCHEMES)
def test_ranks_that_are_done_early_go_on(name: str) -> None:
    """A path of 16, and four pairs on ranks of their own."""
    edges = [[i, i + 1] for i in range(15)] + [[i, i + 1] for i in range(16, 24, 2)]
    settings = sections(name, 1, 2, "receiver", activation=LEAKY)
    made = experiment(**settings, topology={"kind": "path", "nodes": 24}, task={"test_samples": B})
    topology = TopologyService(BundleSource(connected=False), 0, Graph.from_edges(24, edges))
    host = same_bits(lambda: scattered(replace(made, topology=topology, data=Slow(24))), (2, 3, 24))
    assert host.outcome.ledger.total["decide"].rounds == 2 * 3 * 3 * 16


# --- every sample an update ---


def test_updates_by_sample_by_hand() -> None:
    """θ ← θ − α_t Σ_j W_ij g_j(b), b = 1 … B, all g at the θ of the mini-batch's start; t counts samples."""
    optimizer = {"kind": "naive_sgd", "lr": 0.02, "updates": "sample", "clip_norm": 0.1}
    schedule = {"lr_schedule": {"kind": "exponential", "decay": 0.5}}
    made = scattered(experiment(optimizer=optimizer | schedule, model={"activation": LEAKY}))
    host = run(made, 2)
    model, critic, theta = model_of(made), critic_of(made), made.theta
    steps, clipped = reference.Recursion("adam"), 0
    state = steps.start(phi_of(made))
    for t in range(6):
        graph, (x, y, _) = minibatch(made, t)
        A = graph.adjacency()
        S, W = reference.conflict_shift(A), reference.mixing_matrix(A, "metropolis", 0.0)
        z = model.forward(S, x, theta)[..., 0]
        dz = critic.sensitivity(S, z + y[..., EXPLORE], state.theta)
        gradients = model.pullback(S, x, dz[..., None], theta)
        for gradient in gradients:
            norms = np.linalg.norm(gradient, axis=1, keepdims=True)
            clipped += int((norms > 0.1).sum())
            theta = theta - 0.02 * 0.5 ** (t // 3) * (W @ (gradient * np.minimum(1.0, 0.1 / norms)))
        noisy, u = z + y[..., NOISE], y[..., WEIGHT]
        target = reference.target(u, reference.greedy(A, noisy * u))
        state = steps.advance(
            state, None, critic.loss_and_gradient(S, noisy, target, state.theta)[1], CRITIC_RATE
        )
    assert 0 < clipped < 6 * B * V
    assert error(host.outcome.theta, theta) <= 1e-12


# --- the critic ---

SIZES: list[tuple[int, int]] = [(1, 1), (7, 2), (5, 3), (16, 5)]  # hidden, layers


@pytest.mark.parametrize(("hidden", "layers"), SIZES)
def test_the_central_critic_is_the_oracles(hidden: int, layers: int) -> None:
    """Isolated vertices, 23 samples, which are no multiple of what is computed at once, and some of them equal."""
    rng, count = np.random.default_rng(layers), 23
    critic = CentralCritic(Critic(hidden=hidden, layers=layers, samples=count, lr=0.01, l2=1e-3), seed=layers)
    oracle = reference.Critic((2, *[hidden] * (layers - 1), 2), 0.2, 1e-3)
    steps = reference.Recursion("adam")
    state = steps.start(critic.phi.copy())
    for number in range(4):
        edges = np.argwhere(np.triu(rng.random((9, 9)) < (0.15, 0.4)[number % 2], 1))
        graph = Graph.from_edges(9, edges)
        S = reference.conflict_shift(graph.adjacency())
        z = rng.normal(size=(9, count)) * rng.choice([0.01, 1.0, 30.0], size=count)
        z[:, 5:12] = z[:, 3:4]
        found = critic.sensitivity(graph, z)
        assert error(found.T, oracle.sensitivity(S, z.T, state.theta)) <= 1e-12
        u, chosen = rng.random((9, count)), rng.random((9, count)) < 0.4
        critic.learn(graph, z, u * chosen)
        _, gradient = oracle.loss_and_gradient(S, z.T, reference.target(u.T, chosen.T), state.theta)
        state = steps.advance(state, None, gradient, 0.01)
        assert error(critic.phi, state.theta) <= 1e-12
    assert (graph.degrees == 0).any() or number != 2


def test_a_critic_starts_by_its_seed_alone() -> None:
    section = Critic(hidden=8, layers=3)
    first, again, other = (CentralCritic(section, seed).phi for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).min() > 0
    layers = np.split(first, np.cumsum([32, 128])), [(2, 8), (8, 8), (8, 2)]
    for weights, (g_in, g_out) in zip(*layers, strict=True):
        bound = np.sqrt(6 / (g_in + g_out))
        assert 0.8 * bound < np.abs(weights).max() <= bound


def test_a_critic_learns_from_the_first_samples_of_a_mini_batch() -> None:
    """m of B, whatever the waves; the exploration of sample b is that of b + m."""
    few = {"task": {"critic": {"samples": 2}, "explorations": 2}}
    made = scattered(experiment(**few, model={"activation": LEAKY}, training={"wave": 3}))
    host, model, critic = run(made, 2), model_of(made), critic_of(made)
    state = reference.Recursion("adam").start(phi_of(made))
    graph, (x, y, _) = minibatch(made, 0)
    np.testing.assert_array_equal(y[2:4, :, EXPLORE], y[:2, :, EXPLORE])
    np.testing.assert_array_equal(y[4, :, EXPLORE], y[0, :, EXPLORE])
    assert np.abs(y[0, :, EXPLORE] - y[1, :, EXPLORE]).min() > 0
    assert np.abs(y[2, :, NOISE] - y[0, :, NOISE]).min() > 0
    A = graph.adjacency()
    z = model.forward(reference.conflict_shift(A), x, made.theta)[:2, :, 0] + y[:2, :, NOISE]
    u = y[:2, :, WEIGHT]
    target = reference.target(u, reference.greedy(A, z * u))
    _, gradient = critic.loss_and_gradient(reference.conflict_shift(A), z, target, state.theta)
    state = reference.Recursion("adam").advance(state, None, gradient, CRITIC_RATE)
    one = replace(made, job=replace(made.job, limit=1, epochs=1))
    assert error(run(one, 2).critic.phi, state.theta) <= 1e-12  # type: ignore[union-attr]
    assert error(host.critic.phi, state.theta) > 1e-3  # type: ignore[union-attr]


def test_what_the_critic_costs_is_no_training() -> None:
    """Three numbers of every node and sample go to rank 0, and one comes back; metrics do not count them."""
    for ranks in (1, 3):
        host = run(experiment(), ranks)
        ledger, job = host.outcome.ledger, host.job
        waves = 6 * 3
        for field, numbers in (("reports", 3), ("sensitivities", 1)):
            count = ledger.fields["control", field]
            assert (count.rounds, count.link_messages, count.radio_messages) == (waves, waves * V, waves * V)
            assert count.link_bytes == count.radio_bytes == 8 * numbers * 6 * B * V
        assert ledger.total["control"].rounds == 2 * waves
        graphs = [host.topology.graph(t) for t in range(6)]
        schedule = job.schedule(B)
        row, train = host.outcome.rows[-1], ledger.total["train"]
        assert (row.rounds, row.messages, row.bytes) == (train.rounds, train.link_messages, train.link_bytes)
        assert row.rounds == 6 * len(schedule.rounds)
        assert row.messages == sum(2 * graph.num_edges for graph in graphs) * len(schedule.rounds)
        assert row.bytes == sum(2 * graph.num_edges for graph in graphs) * 8 * schedule.numbers
        assert {field for phase, field in ledger.fields if phase == "train"} == {
            "features",
            "backward",
            "consensus",
        }


# --- the draws ---


def test_draws_are_in_their_ranges_and_every_nodes_own() -> None:
    made = experiment(
        task={"decision_noise": 0.5, "exploration": 0.25, "explorations": 400}, training={"batch": 400}
    )
    _, (x, y, _) = minibatch(made, 1)
    assert y.shape == (400, V, 4)
    assert (x == 1).all()
    for column, low, high in ((WEIGHT, 0, 1), (NOISE, -0.5, 0.5), (EXPLORE, -0.25, 0.25)):
        drawn, width = y[..., column], high - low
        assert low <= drawn.min() < low + 0.01 * width
        assert high >= drawn.max() > high - 0.01 * width
        assert len(np.unique(drawn)) == drawn.size
        np.testing.assert_allclose(drawn.mean(axis=0), (low + high) / 2, atol=0.1 * width)
    correlations = np.corrcoef(y[..., [WEIGHT, NOISE, EXPLORE]].reshape(400, 3 * V).T)
    assert np.abs(correlations - np.eye(3 * V)).max() < 0.25
    more = experiment(topology={"nodes": V + 3}, training={"batch": 400}, task={"explorations": 400})
    np.testing.assert_array_equal(minibatch(more, 1)[1].y[:, :V, WEIGHT], y[..., WEIGHT])
    assert (minibatch(made, 2)[1].y[..., WEIGHT] != y[..., WEIGHT]).all()


def held_out(made: Experiment) -> list[tuple[Graph, Array]]:
    found = [made.data.test(made.topology.graph(0), k) for k in range(made.job.test_minibatches)]
    return [(graph, samples.y) for graph, samples in found]


def test_held_out_graphs_belong_to_no_run() -> None:
    task = {"graphs": 20, "test_graphs": 20, "test_seed": 5}
    first = held_out(experiment(task=task))
    assert len({graph.indices.tobytes() for graph, _ in first}) == 20
    for seed, settings in ((5, {"seed": 9}), (8, {}), (5, {})):
        other = experiment(task=task, topology=settings)
        other = build(other.config.model_copy(update={"seed": seed}))
        for (graph, y), (wanted, of_first) in zip(held_out(other), first, strict=True):
            assert graph == wanted
            np.testing.assert_array_equal(y, of_first)
        trained = [other.topology.graph(t).indices.tobytes() for t in range(20)]
        assert not {graph.indices.tobytes() for graph, _ in first} & {*trained}
        weights = [minibatch(other, t)[1].y[0, :, WEIGHT].tobytes() for t in range(20)]
        assert not {y[0, :, WEIGHT].tobytes() for _, y in first} & {*weights}
    again = held_out(experiment(task=task | {"test_seed": 6}))
    assert all(one != other for (one, _), (other, _) in zip(again, first, strict=True))


def test_shares_are_of_greedy_choice_by_weight() -> None:
    made = experiment()
    graph, (_, y, _) = minibatch(made, 3)
    u = y[..., WEIGHT]
    total = (u * reference.greedy(graph.adjacency(), u)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(y[..., SHARE], u / total, rtol=1e-14)


# --- from end to end ---


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_run_writes_what_it_did(tmp_path: Path) -> None:
    fdtrain.run(content(), out=tmp_path / "run")
    told, epochs = table(tmp_path / "run" / "minibatches.csv"), table(tmp_path / "run" / "metrics.csv")
    assert [*told[0]][:2] == ["minibatch", "ratio_train"]
    assert [int(line["minibatch"]) for line in told] == [1, 2, 3, 4, 5, 6]
    wanted = Followed(experiment(), by_sample=True)
    np.testing.assert_allclose([float(line["ratio_train"]) for line in told], wanted.train, rtol=1e-12)
    assert [*epochs[0]][:3] == ["epoch", "ratio_train", "ratio_test"]
    lines = {(line["phase"], line["field"]): line for line in table(tmp_path / "run" / "ledger.csv")}
    assert int(lines["decide", "all"]["rounds"]) == wanted.decided["rounds"]
    assert int(lines["decide", "all"]["link_bytes"]) == wanted.decided["link_bytes"]
    assert int(lines["control", "reports"]["link_bytes"]) == 3 * int(
        lines["control", "sensitivities"]["link_bytes"]
    )
    assert int(epochs[-1]["bytes"]) == int(lines["train", "all"]["link_bytes"])


@needs_mpi
def test_mpi_gives_the_bytes_of_one_process(tmp_path: Path) -> None:
    file, out, alone = tmp_path / "config.yaml", tmp_path / "2", tmp_path / "1"
    file.write_text(json.dumps(content()))
    fdtrain.run(content(), out=alone, verify=False)
    result = command("run", str(file), "--ranks", "2", "--out", str(out), "--no-figures", "--no-verify")
    assert result.returncode == 0, result.stderr
    for name in ("metrics.csv", "minibatches.csv", "baselines.csv"):
        assert (out / name).read_bytes() == (alone / name).read_bytes(), name
    assert stored_theta(out).tobytes() == stored_theta(alone).tobytes()


@pytest.mark.parametrize("updates", ["sample", "batch"])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_centralized(kind: str, updates: str) -> None:
    optimizer = {"kind": kind, "lr": RATE, "updates": updates}
    settings = {"training": {"mode": "centralized"}, "optimizer": optimizer}
    result, made = fdtrain.run(content(**settings)), experiment(**settings)
    wanted = Followed(made, by_sample=updates == "sample")
    assert error(result.theta, np.tile(wanted.theta, (V, 1))) <= 1e-12
    assert error(wanted.theta, made.theta[0]) > 1e-5
    epochs = np.reshape(wanted.train, (2, 3)).mean(axis=1)
    np.testing.assert_allclose([row.train for row in result.rows], epochs, rtol=1e-12)
    model, tested = model_of(made), []
    for graph, y in held_out(made):
        A, u = graph.adjacency(), y[..., WEIGHT]
        z = model.forward(reference.conflict_shift(A), np.ones((*u.shape, 1)), result.theta)[..., 0]
        tested.append(ratio(graph, u, reference.greedy(A, z * u)))
    assert result.rows[-1].test == pytest.approx(np.mean(tested), rel=1e-12)
    assert result.rows[-1].messages == result.ledger.total["train"].rounds == 0


NETWORKS: dict[str, Content] = {
    "a named network": {"kind": "conflict", "network": {"kind": "file", "path": "nsfnet"}},
    "a path": {"kind": "path", "nodes": 7},
    "drawn once": {"kind": "barabasi_albert", "nodes": 9, "m": 2},
    "redrawn every second mini-batch, while an epoch has three": BASE["topology"] | {"redraw": {"every": 2}},
    "redrawn once an epoch": {"kind": "barabasi_albert", "nodes": 9, "m": 2, "redraw": {"every": 3}},
    "redrawn later": {"kind": "barabasi_albert", "nodes": 9, "m": 2, "redraw": {"every": 9}},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_that_stay(name: str) -> None:
    """Also after epochs that were tested on other graphs."""
    made = experiment(topology=NETWORKS[name])
    assert (made.job.redraw_every is None) == ("redrawn" not in name)
    result = fdtrain.run(made.config, ranks=2)
    assert all(comparison.passed for comparison in result.comparisons)
    wanted = Followed(made, by_sample=True)
    assert error(result.theta, wanted.theta) <= 1e-10


@pytest.mark.parametrize("kind", ["ring", "complete"])
def test_regular_networks_teach_the_first_layer_nothing(kind: str) -> None:
    """S 1 = 0 where all nodes have as many neighbours; what rounding leaves of ∂Θ1 is no error."""
    result = fdtrain.run(content(topology={"kind": kind, "nodes": 8}))
    assert all(comparison.passed for comparison in result.comparisons)


def test_a_configuration_runs_again(tmp_path: Path) -> None:
    """What is written into a run's directory is the same configuration."""
    for topology in (*NETWORKS.values(), BASE["topology"], BASE["topology"] | {"redraw": None}):
        made = configuration.from_mapping(content(topology=topology))
        (tmp_path / "config.yaml").write_text(made.to_yaml(), encoding="utf-8")
        assert configuration.load(tmp_path / "config.yaml") == made, topology


def test_early_stop() -> None:
    stop = {"metric": "ratio_test", "patience": 1, "min_delta": 0.9}
    result = fdtrain.run(content(training={"epochs": 9, "early_stop": stop}))
    assert len(result.rows) == 2


@pytest.mark.parametrize("mode", ["distributed", "centralized"])
def test_divergence_is_told(mode: str) -> None:
    optimizer: Content = {"kind": "naive_sgd" if mode == "distributed" else "sgd", "lr": 1e300}
    with pytest.raises(DivergenceError, match=r"training diverged: epoch 1.*layer [1-3]"):
        fdtrain.run(content(optimizer=optimizer, training={"mode": mode, "log_every": 1}), verify=False)


# --- the verifier ---

VERIFIED: dict[str, dict[str, Content]] = {
    "as published": {},
    "sender form, two rounds": {"model": {"form": "sender"}, "training": {"consensus_rounds": 2}},
    "naive SGD by sample, clipped": {
        "optimizer": {"kind": "naive_sgd", "lr": 0.01, "updates": "sample", "clip_norm": 0.05}
    },
    "naive Adam": {"optimizer": {"kind": "naive_adam", "epsilon_form": "inside"}},
    "naive Adam, piggyback": {
        "optimizer": {"kind": "naive_adam"},
        "training": {"scheme": "piggyback", "consensus_rounds": 2},
    },
    "D-SGD": {"optimizer": {"kind": "d_sgd"}, "training": {"scheme": "piggyback_do", "wave": 1}},
    "D-Adam": {"optimizer": {"kind": "d_adam"}, "training": {"scheme": "piggyback"}},
    "D-AMSGrad": {"optimizer": {"kind": "d_amsgrad"}, "training": {"scheme": "per_batch", "wave": B}},
    "gradient tracking": {"optimizer": {"kind": "gradient_tracking"}, "training": {"slices": "even"}},
    "inference": {"optimizer": {"kind": "d_sgd"}, "training": {"scheme": "inference"}},
    "a critic of one layer": {"task": {"critic": {"layers": 1, "samples": 3}}},
    "other shift": {"model": {"shift": "normalized_adjacency"}},
}


@pytest.mark.parametrize("name", VERIFIED)
def test_the_verifier_confirms(name: str) -> None:
    found = verified(experiment(**VERIFIED[name]), 2)
    assert all(comparison.passed for comparison in found), found
    wanted = {1, 5} if name == "inference" else {1, 2, 3, 4, 5}
    assert {comparison.number for comparison in found} == wanted
    assert sum(comparison.number == 5 for comparison in found) >= 3


def failed(made: Experiment) -> list[int]:
    return [comparison.number for comparison in verified(made, 1) if not comparison.passed]


def test_the_verifier_sees_an_error_in_the_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    made, right = experiment(optimizer={"kind": "naive_sgd", "updates": "sample"}), CentralCritic.sensitivity
    monkeypatch.setattr(CentralCritic, "sensitivity", lambda *given: right(*given) * (1 + 1e-4))
    assert {1, 2, 3} <= {*failed(made)}
    monkeypatch.undo()
    learn = CentralCritic.learn
    monkeypatch.setattr(CentralCritic, "learn", lambda self, graph, z, u: learn(self, graph, z, u * 1.001))
    assert failed(made) == [3, 4]


def test_the_verifier_sees_an_error_in_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    made, right = experiment(), LocalGreedy.solve
    monkeypatch.setattr(LocalGreedy, "solve", lambda self, weights, phase: right(self, weights[::-1], phase))
    assert 3 in failed(made)


# --- what is refused ---

GCNN = {"kind": "gcnn", "sizes": [1, 3, 1], "activation": "leaky_relu", "init": {"kind": "glorot_uniform"}}
ADAM = {"kind": "naive_adam"}
REFUSED: dict[str, tuple[dict[str, Content], str]] = {
    "two inputs": (
        {"model": GCNN | {"sizes": [2, 3, 1]}},
        "model.sizes: the actor has 1 input, the constant 1, and 1 output, z; found [2, 3, 1]",
    ),
    "two outputs": ({"model": GCNN | {"sizes": [1, 3, 2]}}, "1 output, z; found [1, 3, 2]"),
    "another model": ({"model": {"kind": "uwmmse"}}, "model.kind: the task link_scheduling needs gcnn, found uwmmse"),
    "another network": ({"topology": {"kind": "channels"}}, "topology.kind: channels are those of task.kind"),
    "a bundle's network": ({"topology": {"kind": "bundle"}}, "topology.kind: bundle takes the edges of task.bundle"),
    "updates by sample, consensus by batch": (
        {"optimizer": ADAM | {"updates": "sample"}, "training": {"scheme": "per_batch"}},
        "training.scheme: per_batch has no consensus on the gradient of every sample, which optimizer.updates: sample",
    ),
    "updates by sample, piggyback": (
        {"optimizer": ADAM | {"updates": "sample"}, "training": {"scheme": "piggyback"}},
        "training.scheme: piggyback has no consensus on the gradient of every sample",
    ),
    "updates by sample of another": (
        {"optimizer": {"kind": "d_sgd", "updates": "sample"}},
        "optimizer.updates: unknown key of d_sgd",
    ),
    "decision_noise": (
        {"task": {"decision_noise": -0.1}},
        "task.decision_noise: input should be greater than or equal to 0",
    ),
    "nobody to ask": (
        {"task": {"critic": {"kind": "neighbours"}, "explorations": 3}},
        "task: explorations: belongs to a central critic, which nodes ask; remove it",
    ),
    "exploration": ({"task": {"exploration": -0.1}}, "task.exploration: input should be greater than or equal to 0"),
    "no samples for the critic": ({"task": {"critic": {"samples": 0}}}, "task.critic.samples: input should be"),
    "kind of critic": ({"task": {"critic": {"kind": "none"}}}, "task.critic.kind: input should be 'central' or"),
    "degrees the wrong way round": (
        {"topology": {"kind": "erdos_renyi", "nodes": 9, "mean_degree": [4, 2]}},
        "topology.mean_degree: must be a number of at least 0, or a range [low, high] with 0 ≤ low ≤ high",
    ),
    "too many neighbours": (
        {"topology": {"kind": "erdos_renyi", "nodes": 9, "mean_degree": [2, 9]}},
        "topology: mean_degree: must be at most nodes − 1 = 8, found 9",
    ),
    "no edge": (
        {"topology": {"kind": "erdos_renyi", "nodes": 9, "mean_degree": 0}},
        "topology: a graph of 9 nodes without an edge; give it more edges",
    ),
    "wave": ({"training": {"batch": 4, "wave": 5}}, "training: wave: must be at most batch = 4, found 5"),
    "batch": ({"training": {"batch": 0}}, "training.batch: input should be greater than or equal to 1, found 0"),
    "early stop": (
        {"training": {"early_stop": {"metric": "mse_test", "patience": 1}}},
        "early_stop.metric: the task link_scheduling is measured by its utility ratio, found 'mse_test'",
    ),
    "centralized": (
        {"training": {"mode": "centralized"}, "optimizer": ADAM},
        "optimizer.kind: training.mode centralized needs sgd or adam, found naive_adam",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, wanted = REFUSED[name]
    base: Content = {
        "task": {"kind": "link_scheduling"},
        "topology": BASE["topology"] | {"connected": False},
        "model": GCNN,
        "training": {"scheme": "per_sample", "epochs": 1, "batch": 4, "wave": 2},
        "optimizer": ADAM,
    }
    for section, values in change.items():
        base[section] = values if "kind" in values else base.get(section, {}) | values
    assert wanted in refused(capsys, tmp_path, base)


def test_a_graph_without_an_edge_is_drawn_again() -> None:
    sparse = {"kind": "erdos_renyi", "nodes": 4, "mean_degree": [0.5, 0.6]}
    many = {"graphs": 60, "test_graphs": 60}
    made = experiment(topology=sparse, task=many)
    assert all(made.topology.graph(t).num_edges for t in range(60))
    assert {*made.held_out()["edges"][:, 0]} == set(range(60))
    fdtrain.run(content(topology=sparse, task=many), ranks=2, verify=False)
    with pytest.raises(InputError, match="a graph of 4 nodes without an edge"):
        fdtrain.run(content(topology=sparse | {"max_draws": 1}, task=many), ranks=2, verify=False)


def test_a_draw_by_which_all_are_asleep_is_not_taken() -> None:
    """The last relu has no slope where z = 0."""
    for seed in range(12):
        made = build(configuration.from_mapping(content() | {"seed": seed}))
        graph = made.topology.graph(0)
        z = model_of(made).forward(
            reference.conflict_shift(graph.adjacency()), np.ones((1, V, 1)), made.theta
        )
        assert (z > 0).all()
        assert not np.ptp(made.theta, axis=0).any()
    hopeless = {
        "init": {"kind": "uniform", "low": -2.0, "high": -1.0},
        "activation": ["relu", "relu", "relu"],
    }
    with pytest.raises(InputError, match=r"model.init: 1,000 draws of parameters, and by each of them z = 0"):
        experiment(model=hopeless)


# --- other commands ---

SMALL = [
    "topology.nodes=12",
    "topology.mean_degree=[1, 4]",
    "task.graphs=2",
    "task.test_graphs=1",
    "training.batch=4",
]
SMALL += [
    "task.critic.hidden=4",
    "task.critic.layers=2",
    "model.sizes=[1, 4, 1]",
    "model.activation=[tanh, relu]",
]
KINDS = {"central": [], "neighbours": ["task.critic.kind=neighbours"]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mini_batch_can_be_timed(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--ranks", "1", "--repeats", "2", *SMALL, *KINDS[kind]]
    assert cli.main(["bench", "minibatches", "paper/link_scheduling", *options]) == 0
    assert "a mini-batch of 4 samples" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_its_cost_is_that_of_its_schedule(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "cost.csv"
    assert (
        cli.main(["cost", "paper/link_scheduling", *SMALL, *KINDS[kind], "--ranks", "1", "--out", str(file)])
        == 0
    )
    settings = configuration.load(resources.find_config("paper/link_scheduling"), [*SMALL, *KINDS[kind]])
    schedule = build(settings).job.schedule(4)
    with file.open(encoding="utf-8") as stream:
        (row,) = [row for row in csv.DictReader(stream) if row["scheme"] == settings.training.scheme]
    assert int(row["rounds_measured"]) == len(schedule.rounds)
    assert int(row["layers"]) == schedule.depth


def test_a_twin_without_noise_is_verified() -> None:
    critic = {"kind": "neighbours", "hidden": 4, "layers": 2, "samples": 10}
    made = experiment(
        task={"decision_noise": 0.0, "critic": critic}, optimizer={"kind": "naive_adam", "lr": 1e-3}
    )
    assert not failed(made)


def test_a_run_says_when_its_actor_is_asleep() -> None:
    said: list[str] = []

    class Notes(Quiet):
        def note(self, text: str) -> None:
            said.append(text)

    made = experiment(model={"activation": ["tanh", "relu"], "sizes": [1, 4, 1]})
    for theta, expected in ((made.theta, []), (np.zeros_like(made.theta), [ASLEEP])):
        said.clear()
        in_threads(1, lambda team: lead(team, replace(made, theta=theta), None, Notes(), verify=False))  # noqa: B023
        assert said == expected
