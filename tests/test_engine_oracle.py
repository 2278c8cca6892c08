"""What the messages compute against the oracle on global matrices: gradients and trajectories (SPEC §7).

Every node has parameters of its own, and S is not symmetric: equal θ, or a symmetric S, would hide mistakes.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pytest
from teams import Given, error, make_job, samples, still, trained

from fdtrain import reference
from fdtrain.engine import Engine
from fdtrain.errors import DivergenceError, InputError
from fdtrain.experiment import run_job
from fdtrain.graph import Graph, neighbourhoods
from fdtrain.layers.gcnn import Gcnn, gcnn_outline
from fdtrain.losses import SquaredError
from fdtrain.mixing import Laplacian, Metropolis, Mixing
from fdtrain.networks import ShiftNetwork
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.rates import Constant
from fdtrain.partition import block
from fdtrain.passes import Rows
from fdtrain.schedule import Schedule, build
from fdtrain.service import Host
from fdtrain.shifts import SHIFTS
from fdtrain.tasks.base import Samples
from fdtrain.team import Team, in_threads
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import ErdosRenyi, Redraw
from fdtrain.training import follow

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "identity")
SIZES = (4, 3, 5, 2, 3)
MIXINGS = {"metropolis": (Metropolis(), 0.0), "laplacian": (Laplacian(0.05), 0.05)}


def positive_digraph(nodes: int, rng: np.random.Generator) -> np.ndarray:
    """Random directed weights; every node hears somebody, so that all shifts exist."""
    A = np.where(rng.random((nodes, nodes)) < 0.25, rng.uniform(0.2, 2.0, (nodes, nodes)), 0.0)
    ring = np.arange(nodes)
    A[ring, ring - 1] = rng.uniform(0.2, 2.0, nodes)
    np.fill_diagonal(A, 0.0)
    return A


def signed_digraph(nodes: int, rng: np.random.Generator) -> np.ndarray:
    """Weights of either sign, links in one direction, and a node that nobody knows."""
    A = np.where(rng.random((nodes, nodes)) < 0.3, rng.normal(size=(nodes, nodes)), 0.0)
    A[2] = A[:, 2] = 0.0
    np.fill_diagonal(A, 0.0)
    return A


@dataclass
class Outcome:
    gradient: np.ndarray  # [V, p]
    theta: np.ndarray  # [V, p] after the step
    loss: np.ndarray  # [V]
    output: np.ndarray  # [V] test loss before the step


def one_step(
    graph: Graph,
    model: Gcnn,
    shift: str,
    optimizer: DSGD,
    mixing: Mixing,
    theta: np.ndarray,
    samples: Samples,
    schedules: tuple[Schedule, Schedule],
    ranks: int,
) -> Outcome:
    """One mini-batch by messages between `ranks` threads, after an inference of the same samples."""
    hoods = neighbourhoods(graph, block(graph.num_nodes, ranks), ranks)
    x, y = samples.x.swapaxes(0, 1), samples.y.swapaxes(0, 1)

    def work(team: Team) -> Any:
        ids = hoods[team.rank].ids
        network, squares = ShiftNetwork(shift), SquaredError(model.outputs)
        engine = Engine(model, network, squares, optimizer, mixing, team.transport, theta[ids])
        engine.rewire(hoods[team.rank], [("train", schedules[0]), ("test", schedules[1])])
        inferred = engine.infer(schedules[1], Rows(x[ids], y[ids]))
        loss = engine.minibatch(schedules[0], Rows(x[ids], y[ids]))
        parts = team.control.gather((engine.grad, engine.theta, loss, inferred))
        return None if parts is None else [np.concatenate(part) for part in zip(*parts, strict=True)]

    return Outcome(*in_threads(ranks, work))


@pytest.mark.parametrize("wave", [1, 2, 7, 9])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("form", ["receiver", "sender"])
def test_local_gradients(form: Any, depth: int, wave: int) -> None:
    """SPEC §7, 1: all shifts and activations, alone and mixed, on 1, 2, 3 and 7 ranks."""
    sizes, batch = SIZES[: depth + 1], 9
    for number, (shift, first) in enumerate(product(SHIFTS, range(len(ACTIVATIONS)))):
        rng = np.random.default_rng([depth, wave, number])
        uniform = number % 2 == 0  # one activation everywhere, or another one in each layer
        activations = tuple(ACTIVATIONS[(first + (0 if uniform else layer)) % 5] for layer in range(depth))
        draw = signed_digraph if shift in ("adjacency", "laplacian") else positive_digraph
        graph = Graph.from_adjacency(draw(7, rng))
        model = Gcnn(sizes, activations, form, 0.2)
        oracle = reference.Model(sizes, activations, form, 0.2)
        p = model.num_parameters
        theta = rng.uniform(-1, 1, (7, p))
        samples = Samples(rng.normal(size=(batch, 7, sizes[0])), rng.normal(size=(batch, 7, sizes[-1])))
        slices: Any = ("idle", "even")[number % 2]
        schedules = (
            build(
                ("piggyback_do", "piggyback", "per_batch")[number % 3],
                outline=gcnn_outline(sizes, form),
                batch=batch,
                wave=wave,
                travelling=p,
                slices=slices,
            ),
            build("inference", outline=gcnn_outline(sizes, form), batch=batch, wave=wave),
        )
        mixing, beta = MIXINGS[("metropolis", "laplacian")[number % 2]]
        kind = ("metropolis", "laplacian")[number % 2]
        ranks = (1, 2, 3, 7)[number % 4]
        got = one_step(graph, model, shift, DSGD(Constant(0.01)), mixing, theta, samples, schedules, ranks)

        S = reference.shift_matrix(graph.adjacency(), shift)
        gradient = oracle.local_gradients(S, samples.x, samples.y, theta)
        assert error(got.gradient, gradient) <= 1e-12
        squares = np.square(oracle.forward(S, samples.x, theta) - samples.y).sum(axis=(0, 2))
        assert error(got.loss, squares) <= 1e-12
        assert error(got.output, squares) <= 1e-12
        W = reference.mixing_matrix(graph.adjacency(), kind, beta)
        assert error(got.theta, W @ theta - 0.01 * gradient) <= 1e-12


@pytest.mark.parametrize("form", ["receiver", "sender"])
def test_the_mean_of_local_gradients_is_the_centralized_one(form: Any) -> None:
    """SPEC §7, 2: with equal θ^i."""
    rng = np.random.default_rng(4)
    graph, sizes = Graph.from_adjacency(positive_digraph(8, rng)), (4, 3, 2)
    model = Gcnn(sizes, ("tanh", "sigmoid"), form)
    shared = rng.normal(size=model.num_parameters)
    samples = Samples(rng.normal(size=(5, 8, 4)), rng.normal(size=(5, 8, 2)))
    outline = gcnn_outline(sizes, form)
    train_ = build("piggyback_do", outline=outline, batch=5, wave=2, travelling=len(shared))
    test = build("inference", outline=outline, batch=5, wave=2)
    got = one_step(
        graph, model, "gcn", DSGD(Constant(0.1)), Metropolis(), np.tile(shared, (8, 1)), samples,
        (train_, test), 3,
    )  # fmt: skip
    S = reference.shift_matrix(graph.adjacency(), "gcn")
    wanted = reference.Model(sizes, ("tanh", "sigmoid"), form).centralized_gradient(
        S, samples.x, samples.y, shared
    )
    assert error(got.gradient.mean(axis=0), wanted) <= 1e-12


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize(("wave", "slices"), [(1, "idle"), (3, "even"), (4, "even")])
def test_trajectory(form: Any, mixing: str, wave: int, slices: Any) -> None:
    """SPEC §7, 3: N = 10 in mini-batches of 4, 4, 2, over 4 epochs in given orders."""
    rng = np.random.default_rng(wave)
    sizes, activations = (4, 5, 3, 2), ("tanh", "leaky_relu", "sigmoid")
    graph = Graph.from_adjacency(signed_digraph(8, rng))
    data = Given(
        samples(10, 8, sizes, rng),
        samples(6, 8, sizes, rng),
        np.stack([rng.permutation(10) for _ in range(4)]),
    )
    model = Gcnn(sizes, activations, form)
    theta = rng.normal(size=(8, model.num_parameters)) / 2
    rule, beta = MIXINGS[mixing]
    job = make_job(model, data, optimizer=DSGD(Constant(0.003)), mixing=rule, wave=wave, slices=slices)
    host, thetas = trained(job, still(graph), data, theta, 3)

    oracle = reference.Model(sizes, activations, form)
    wanted, results = reference.train_distributed(
        oracle, "laplacian", mixing, beta, reference.Recursion("d_sgd"), 0.003, graph.adjacency(),
        *data.train[:2], *data.held_out[:2], theta, data.orders, 4,
    )  # fmt: skip
    assert error(host.outcome.theta, wanted) <= 1e-12
    assert error(wanted, theta) > 1e-3  # it went somewhere
    assert len(host.outcome.rows) == len(thetas) == 4
    for epoch, (row, result) in enumerate(zip(host.outcome.rows, results, strict=True)):
        assert row.epoch == epoch + 1
        assert row.train == pytest.approx(result.mse_train, rel=1e-12)
        assert row.test == pytest.approx(result.mse_test, rel=1e-12)
        assert row.disagreement == pytest.approx(result.disagreement, rel=1e-12)
    S = reference.shift_matrix(graph.adjacency(), "laplacian")
    per_node = np.square(oracle.forward(S, data.held_out.x, wanted) - data.held_out.y).mean(axis=(0, 2))
    assert error(host.outcome.node_loss, per_node) <= 1e-12
    assert host.outcome.node_loss.mean() == pytest.approx(host.outcome.rows[-1].test, rel=1e-14)


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("shift", ["laplacian", "adjacency", "gcn"])
def test_redrawn_topologies_step_by_step(shift: str, every: int, mixing: str) -> None:
    """Every mini-batch is an epoch: θ(t) after each against the oracle's matrices of E(t)."""
    rng = np.random.default_rng(every)
    sizes, steps = (3, 4, 2), 7
    data = Given(
        samples(5, 9, sizes, rng),
        samples(2, 9, sizes, rng),
        np.stack([rng.permutation(5) for _ in range(steps)]),
        streamed=True,
    )
    model = Gcnn(sizes, ("tanh", "sigmoid"))
    theta = rng.normal(size=(9, model.num_parameters))
    source = ErdosRenyi(nodes=9, mean_degree=2, connected=False, redraw=Redraw(every=every))
    rule, beta = MIXINGS[mixing]
    job = make_job(
        model,
        data,
        network=ShiftNetwork(shift),
        optimizer=DSGD(Constant(0.02)),
        mixing=rule,
        batch=5,
        wave=2,
        redraw_every=every,
    )
    host, thetas = trained(job, TopologyService(source, 3), data, theta, 4)

    oracle, service, graphs = (
        reference.Model(sizes, ("tanh", "sigmoid"), "receiver"),
        TopologyService(source, 3),
        [],
    )
    for t in range(steps):
        graphs.append(service.graph(t))
        A = graphs[-1].adjacency()
        S, W = reference.shift_matrix(A, shift), reference.mixing_matrix(A, mixing, beta)
        x, y = data.train.x[data.orders[t]], data.train.y[data.orders[t]] + graphs[t].degrees[:, None]
        row = host.outcome.rows[t]
        assert row.train == pytest.approx(reference.mse(y, oracle.forward(S, x, theta)), rel=1e-12)
        theta = W @ theta - 0.02 * oracle.local_gradients(S, x, y, theta)
        assert error(thetas[t], theta) <= 1e-12
        held_out = data.held_out.y + graphs[t].degrees[:, None]  # on the graph that is up
        mse = reference.mse(held_out, oracle.forward(S, data.held_out.x, theta))
        assert row.test == pytest.approx(mse, rel=1e-12)
    changes = [t for t in range(1, steps) if graphs[t] != graphs[t - 1]]
    assert changes == list(range(every, steps, every))
    assert any((graph.degrees == 0).any() for graph in graphs)


def test_exact_consensus() -> None:
    """SPEC §7, 4: on a complete graph, where mixing is averaging, D-SGD is centralized SGD.

    Before each mini-batch all θ^i are equal; after it, a mini-batch with α = 0 averages what came out.
    """
    rng = np.random.default_rng(8)
    sizes, activations = (3, 4, 1), ("sigmoid", "tanh")
    graph = Graph.from_adjacency(1 - np.eye(6))
    data = Given(samples(9, 6, sizes, rng), samples(2, 6, sizes, rng), np.stack([rng.permutation(9)] * 5))
    model = Gcnn(sizes, activations)
    shared = rng.normal(size=model.num_parameters)
    theta = np.tile(shared, (6, 1))
    for epoch in range(5):
        once = Given(data.train, data.held_out, data.orders[epoch : epoch + 1])
        for lr in (0.01, 0.0):
            job = make_job(
                model,
                once,
                network=ShiftNetwork("normalized_laplacian"),
                optimizer=DSGD(Constant(lr)),
                batch=9,
                wave=3,
            )
            theta = trained(job, still(graph), once, theta, 2)[0].outcome.theta
    wanted, _ = reference.train_centralized(
        reference.Model(sizes, activations, "receiver"), "normalized_laplacian", reference.Recursion("sgd"), 0.01,
        graph.adjacency(), *data.train[:2], *data.held_out[:2], shared, data.orders, 9,
    )  # fmt: skip
    assert error(theta, np.tile(wanted, (6, 1))) <= 1e-12
    assert error(wanted, shared) > 1e-3


def test_inference_leaves_the_parameters_alone() -> None:
    rng = np.random.default_rng(1)
    sizes = (3, 2, 2)
    graph = Graph.from_adjacency(signed_digraph(6, rng))
    data = Given(samples(7, 6, sizes, rng), samples(3, 6, sizes, rng), np.stack([rng.permutation(7)] * 2))
    model = Gcnn(sizes, ("tanh", "identity"), "sender")
    theta = rng.normal(size=(6, model.num_parameters))
    host, _ = trained(make_job(model, data, scheme="inference"), still(graph), data, theta, 2)
    np.testing.assert_array_equal(host.outcome.theta, theta)
    S, oracle = (
        reference.shift_matrix(graph.adjacency(), "laplacian"),
        reference.Model(sizes, model.activations, "sender"),
    )
    x, y = data.train.x[data.orders[0]], data.train.y[data.orders[0]]
    losses = [reference.mse(y[k : k + 4], oracle.forward(S, x[k : k + 4], theta)) for k in (0, 4)]
    assert host.outcome.rows[1].train == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize("ranks", [1, 3])
def test_divergence_is_located(ranks: int) -> None:
    rng = np.random.default_rng(2)
    sizes = (2, 2, 1)
    graph = Graph.from_edges(6, [[i, (i + 1) % 6] for i in range(6)])
    data = Given(samples(6, 6, sizes, rng), samples(2, 6, sizes, rng), np.stack([np.arange(6)] * 3))
    data.train.x[4, 3, 0] = (
        np.inf
    )  # a node's own reading: first seen in the second mini-batch of the first epoch
    model = Gcnn(sizes, ("identity", "identity"))
    theta = rng.normal(size=(6, model.num_parameters))
    with pytest.raises(
        DivergenceError, match=r"epoch 1, mini-batch 1: node \d, layer 1 has parameters"
    ) as caught:
        trained(make_job(model, data), still(graph), data, theta, ranks)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("limit", "epochs"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_a_limit_ends_the_run_wherever_it_is_reached(limit: int, epochs: int) -> None:
    """Two mini-batches per epoch; no epoch is begun in which none would run."""
    rng = np.random.default_rng(4)
    data = Given(samples(4, 3, (2, 1), rng), samples(2, 3, (2, 1), rng), np.tile(np.arange(4), (5, 1)))
    model = Gcnn((2, 1), ("tanh",))
    job = make_job(model, data, batch=2, limit=limit)
    path, theta = still(Graph.from_edges(3, [[0, 1], [1, 2]])), np.ones((3, model.num_parameters))
    host, _ = trained(job, path, data, theta, 2)
    assert [row.epoch for row in host.outcome.rows] == list(range(1, epochs + 1))
    assert host.outcome.ledger.total["train"].rounds == limit * len(job.schedule(2).rounds)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_topology_without_a_shift_is_refused_by_all_ranks(ranks: int) -> None:
    rng = np.random.default_rng(2)
    data = Given(samples(4, 6, (2, 1), rng), samples(2, 6, (2, 1), rng), np.arange(4)[None])
    model = Gcnn((2, 1), ("tanh",))
    job = make_job(model, data, network=ShiftNetwork("normalized_laplacian"))
    topology = still(Graph.from_edges(6, [[0, 1], [2, 3], [3, 5]]))
    host = Host(job, topology, data, np.zeros((6, model.num_parameters)), ranks)
    raised = []

    def work(team: Team) -> None:
        try:
            run_job(job, team, host) if team.rank == 0 else follow(team)
        except InputError as problem:
            raised.append((team.rank, str(problem)))

    in_threads(ranks, work)
    assert sorted(rank for rank, _ in raised) == list(range(ranks))
    assert all("node 4 has weighted degree 0" in message for _, message in raised)
