"""A model of one's own: a message-passing program is a small class, and all the rest comes with it.

The toy below knows nothing of ranks, waves or neighbours. It is trained over messages and compared with six lines of
matrices and their finite differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from teams import error, serve

from fdtrain.formulas import expected_numbers, expected_rounds
from fdtrain.graph import Graph
from fdtrain.job import Job
from fdtrain.losses import SquaredError
from fdtrain.mixing import Metropolis
from fdtrain.networks import ShiftNetwork
from fdtrain.optim.adam import Adam
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.naive import Naive
from fdtrain.optim.rates import Constant
from fdtrain.programs import Part, SampleTape, check_outline, offsets, outline_of
from fdtrain.rounds import Hop, Outline
from fdtrain.service import Host, Outcome
from fdtrain.tasks.base import Order, Samples
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import BundleSource

Array = NDArray[np.float64]
NAMES = ("a", "b", "c", "d", "e", "f")


# --- the model ---


@dataclass(frozen=True)
class Toy:
    """Two rounds, nonlinear, with θ^i = (a, b, c, d, e, f) at every node. From x [2] to y [1]:

    round 1   m_j = tanh(a_j x_j), 2 numbers    s_i = Σ_j S_ij m_j
              x_j², 2 numbers that nobody has a gradient of    r_i = Σ_j S_ji x_j²
              h_i = tanh(s_i + b_i r_i)
    round 2   n_j = c_j h_j0 h_j1    t_i = Σ_j S_ji n_j
              y_i = tanh(d_i t_i + e_i x_i0 + f_i x_i1)    (past both rounds)
    """

    inputs = 2
    outputs = 1
    num_parameters = len(NAMES)

    @cached_property
    def layers(self) -> tuple[Any, Any]:
        return First(), Second()

    @cached_property
    def outline(self) -> Outline:
        return outline_of("toy", self.layers, [("m", "q"), ("n", "q")])

    def arrange(self, theta: Array) -> Array:
        return theta

    def views(self, theta: Array) -> Mapping[str, Array]:
        return {name: theta[:, k : k + 1] for k, name in enumerate(NAMES)}

    def part_of(self, number: int) -> str:
        return f"parameter {NAMES[number]}"

    def turn(self, theta: Array, cache: Cache, z: Array) -> None:
        cache.q = z[..., 0] * (1 - cache.output[..., 0] ** 2)  # ∂ℓ/∂(argument of the last tanh)
        cache.qt = column(theta, "d") * cache.q

    def tape(self, n: int, waves: Sequence[int], *, trains: bool) -> SampleTape:
        return SampleTape((n, len(NAMES)), waves, Cache, write_gradients, trains=trains)


class Cache:
    """Of a wave: [n, w, ·]."""

    def __init__(self, n: int, w: int) -> None:
        self.input, self.output = np.zeros((n, w, 2)), np.zeros((n, w, 1))
        self.m = self.r = self.h = self.qh = self.bar_m = np.zeros((n, w, 2))
        self.t = self.q = self.qt = self.bar_n = np.zeros((n, w))


def write_gradients(cache: Cache, out: Array) -> None:
    x = cache.input
    out[..., 0] = (cache.bar_m * (1 - cache.m**2) * x).sum(axis=2)
    out[..., 1] = (cache.qh * cache.r).sum(axis=2)
    out[..., 2] = cache.bar_n * cache.h[..., 0] * cache.h[..., 1]
    out[..., 3] = cache.q * cache.t
    out[..., 4] = cache.q * x[..., 0]
    out[..., 5] = cache.q * x[..., 1]


def column(theta: Array, name: str) -> Array:
    """Every node's parameter, to be multiplied with [n, w]."""
    k = NAMES.index(name)
    return theta[:, k : k + 1]


class First:
    parts = Part("shift", False, 2, 2), Part("shift", True, 2, 0)

    def send(self, theta: Array, cache: Cache, out: Sequence[Array]) -> None:
        cache.m = np.tanh(column(theta, "a")[..., None] * cache.input)
        out[0][...] = cache.m
        out[1][...] = cache.input**2

    def receive(self, theta: Array, cache: Cache, totals: Sequence[Array]) -> None:
        cache.r = totals[1].copy()
        cache.h = np.tanh(totals[0] + column(theta, "b")[..., None] * cache.r)

    def send_back(self, theta: Array, cache: Cache, out: Sequence[Array]) -> None:
        out[0][...] = cache.qh

    def receive_back(self, theta: Array, cache: Cache, totals: Sequence[Array]) -> None:
        cache.bar_m = totals[0].copy()


class Second:
    parts = (Part("shift", True, 1, 1),)

    def send(self, theta: Array, cache: Cache, out: Sequence[Array]) -> None:
        out[0][..., 0] = column(theta, "c") * cache.h[..., 0] * cache.h[..., 1]

    def receive(self, theta: Array, cache: Cache, totals: Sequence[Array]) -> None:
        cache.t, x = totals[0][..., 0].copy(), cache.input
        skip = column(theta, "e") * x[..., 0] + column(theta, "f") * x[..., 1]
        cache.output[..., 0] = np.tanh(column(theta, "d") * cache.t + skip)

    def send_back(self, theta: Array, cache: Cache, out: Sequence[Array]) -> None:
        out[0][..., 0] = cache.qt

    def receive_back(self, theta: Array, cache: Cache, totals: Sequence[Array]) -> None:
        cache.bar_n = totals[0][..., 0].copy()
        other = cache.h[..., ::-1]  # ∂(h_0 h_1)
        bar_h = (column(theta, "c") * cache.bar_n)[..., None] * other
        cache.qh = bar_h * (1 - cache.h**2)


# --- what it is compared with ---


def losses(S: Array, theta: Array, x: Array, y: Array) -> Array:
    """ℓ_i of every sample and node [B, V], on matrices; x [B, V, 2], y [B, V, 1]."""
    a, b, c, d, e, f = theta.T
    m, r = np.tanh(a[:, None] * x), S.T @ x**2
    h = np.tanh(S @ m + b[:, None] * r)
    t = (c * h[..., 0] * h[..., 1]) @ S  # Σ_j S_ji n_j
    output: Array = np.tanh(d * t + e * x[..., 0] + f * x[..., 1])
    return (output - y[..., 0]) ** 2


def differences(S: Array, theta: Array, x: Array, y: Array, step: float = 1e-5) -> Array:
    """Σ_b Σ_j ∂ℓ_j/∂θ^i [V, p], central."""
    found = np.empty_like(theta)
    for place in np.ndindex(theta.shape):
        moved = [theta.copy(), theta.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        up, down = (losses(S, each, x, y).sum() for each in moved)
        found[place] = (up - down) / (2 * step)
    return found


V, B, RATE = 7, 5, 0.02


def asymmetric() -> Graph:
    """Directed weights, links in one direction only, and a node that hears nobody."""
    rng = np.random.default_rng(3)
    A = np.where(rng.random((V, V)) < 0.45, rng.normal(size=(V, V)), 0.0)
    np.fill_diagonal(A, 0.0)
    A[2] = 0.0
    return Graph.from_adjacency(A)


@dataclass
class Data:
    """All samples at once, in their order."""

    train: Samples
    held_out: Samples
    streamed = False

    @property
    def train_samples(self) -> int:
        return len(self.train.x)

    @property
    def test_samples(self) -> int:
        return len(self.held_out.x)

    def recipe(self, graph: Graph) -> None: ...

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        return self.train, self.held_out

    def order(self, epoch: int) -> Order:
        return np.arange(self.train_samples)

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        raise NotImplementedError

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        raise NotImplementedError

    def baselines(self, t: int) -> Mapping[str, float]:
        return {}

    def test_baselines(self, k: int) -> Mapping[str, float]:
        return {}

    def theta(self) -> None: ...


def samples(count: int, rng: np.random.Generator) -> Samples:
    return Samples(rng.normal(size=(count, V, 2)), rng.normal(size=(count, V, 1)))


def trained(
    count: int,
    scheme: str,
    wave: int,
    ranks: int,
    *,
    epochs: int = 1,
    shift: str = "adjacency",
    optimizer: Any = DSGD(Constant(RATE)),  # noqa: B008 - frozen
    **settings: Any,
) -> tuple[Job, Data, Array, Outcome]:
    """`count` samples in mini-batches of 5; the θ that training began with, and what it left."""
    rng = np.random.default_rng(7)
    data, theta = Data(samples(count, rng), samples(3, rng)), rng.normal(size=(V, len(NAMES)))
    job = Job(
        model=Toy(), network=ShiftNetwork(shift), loss=SquaredError(), optimizer=optimizer,
        mixing=Metropolis(), epochs=epochs, batch=B, wave=wave, scheme=scheme, train_samples=count,
        test_samples=3, **({"slices": "idle", "consensus_rounds": 1} | settings),
    )  # fmt: skip
    topology = TopologyService(BundleSource(connected=False), 0, asymmetric())
    return job, data, theta, serve(job, Host(job, topology, data, theta, ranks), ranks).outcome


def shift_matrix(shift: str) -> Array:
    A: Array = asymmetric().adjacency().toarray()
    return A if shift == "adjacency" else np.diag(A.sum(axis=1)) - A


def mixing_matrix() -> Array:
    graph = asymmetric()
    W = np.zeros((V, V))
    for i, j in graph.edges():
        W[i, j] = W[j, i] = 1 / (1 + max(graph.degrees[i], graph.degrees[j]))
    return W + np.diag(1 - W.sum(axis=1))


@pytest.mark.parametrize("shift", ["adjacency", "laplacian"])
@pytest.mark.parametrize("wave", [1, 3, B])
@pytest.mark.parametrize("scheme", ["per_batch", "piggyback", "piggyback_do"])
def test_gradients_and_a_step(scheme: str, wave: int, shift: str) -> None:
    settings = {"consensus_rounds": 2} if scheme == "piggyback" else {}
    _, data, theta, outcome = trained(B, scheme, wave, 2, shift=shift, **settings)
    S, W = shift_matrix(shift), mixing_matrix()
    wanted = differences(S, theta, *data.train[:2])
    assert np.abs(outcome.gradient - wanted).max() <= 1e-8 * np.abs(wanted).max()
    assert (np.abs(wanted).max(axis=0) > 1e-2).all()  # every parameter matters
    assert outcome.rows[0].train == pytest.approx(losses(S, theta, *data.train[:2]).mean(), rel=1e-13)
    mixed = np.linalg.matrix_power(W, 2 if settings else 1) @ theta
    assert error(outcome.theta, mixed - RATE * outcome.gradient) <= 1e-14
    tested = losses(S, outcome.theta, *data.held_out[:2])
    assert error(outcome.node_loss, tested.mean(axis=0)) <= 1e-13


@pytest.mark.parametrize("wave", [1, 3, B])
@pytest.mark.parametrize("scheme", ["per_batch", "piggyback", "piggyback_do"])
def test_packing(scheme: str, wave: int) -> None:
    """Mini-batches of 5, 5 and 2 samples, twice."""
    more: dict[str, Any] = {"epochs": 2}
    if scheme == "piggyback_do" and wave > 1:
        more["slices"] = "even"
    _, _, theta, alone = trained(12, scheme, wave, 1, **more)
    assert error(alone.theta, theta) > 1e-2
    for ranks in (2, V):
        _, _, _, packed = trained(12, scheme, wave, ranks, **more)
        np.testing.assert_array_equal(packed.theta, alone.theta)
        np.testing.assert_array_equal(packed.gradient, alone.gradient)
        np.testing.assert_array_equal(packed.node_loss, alone.node_loss)
        assert packed.rows == alone.rows
        assert packed.ledger.total == alone.ledger.total
    fused = trained(12, scheme, B, 1, **more)[-1]
    assert error(fused.theta, alone.theta) <= 1e-12


@pytest.mark.parametrize("wave", [1, 3, B])
def test_cost(wave: int) -> None:
    """Per sample 4 + 1 numbers there and 2 + 1 back, in two rounds each."""
    waves, p, links = -(-B // wave), len(NAMES), 2 * asymmetric().num_edges
    wanted = {
        "per_batch": (4 * waves + 1, 8 * B + p),
        "piggyback": (2 * waves + 2 + 1, 8 * B + p),
        "piggyback_do": (2 * waves + 2, 8 * B + p),
        "inference": (2 * waves, 5 * B),
    }
    for scheme, (rounds, numbers) in wanted.items():
        job, _, _, outcome = trained(B, scheme, wave, V)
        schedule = job.schedule(B)
        assert (len(schedule.rounds), schedule.numbers) == (rounds, numbers), scheme
        assert (expected_rounds(schedule), expected_numbers(schedule)) == (rounds, numbers), scheme
        train = outcome.ledger.total["train"]
        found = train.rounds, train.link_messages, train.link_bytes
        assert found == (rounds, rounds * links, 8 * numbers * links), scheme
        logical = sum(count.link_bytes for count in outcome.ledger.total.values())
        assert outcome.ledger.physical_bytes == logical, scheme


@pytest.mark.parametrize("wave", [1, 3, B])
def test_an_update_for_every_sample(wave: int) -> None:
    """θ ← θ − α Σ_j W_ij g_j(b), b = 1 … B, with gradients that are all taken at the first θ."""
    optimizer = Naive(Adam(Constant(RATE)), by_sample=True)
    job, data, theta, outcome = trained(B, "per_sample", wave, 3, optimizer=optimizer)
    S, W, state = shift_matrix("adjacency"), mixing_matrix(), Adam(Constant(RATE)).init(theta)
    for b in range(B):
        gradient = differences(S, theta, data.train.x[[b]], data.train.y[[b]])
        state = optimizer.local.step(W @ gradient, state)
    assert error(outcome.theta, state.theta) <= 1e-6
    assert error(theta, state.theta) > 1e-2
    assert job.schedule(B).numbers == (8 + len(NAMES)) * B
    for ranks in (1, V):
        packed = trained(B, "per_sample", wave, ranks, optimizer=optimizer)[-1]
        np.testing.assert_array_equal(packed.theta, outcome.theta)


def test_parts_lie_side_by_side() -> None:
    first, second = Toy().layers
    assert [place for _, place in offsets(first.parts, backward=False)] == [slice(0, 2), slice(2, 4)]
    assert [place for _, place in offsets(first.parts, backward=True)] == [slice(0, 2)]
    assert [place for _, place in offsets(second.parts, backward=True)] == [slice(0, 1)]
    assert [(hop.forward, hop.backward) for hop in Toy().outline.hops] == [(4, 2), (1, 1)]


@pytest.mark.parametrize(
    ("hops", "said"),
    [
        ([Hop(5, 2, "m", "q"), Hop(1, 1, "n", "q")], "layer 1: its parts send 4 numbers and return 2"),
        ([Hop(4, 0, "m", "q"), Hop(1, 1, "n", "q")], "layer 1: its parts send 4 numbers and return 2"),
        ([Hop(4, 2, "m", "q")], "2 layers, but 1"),
    ],
)
def test_an_outline_that_is_not_the_layers_is_refused(hops: list[Hop], said: str) -> None:
    class Wrong(Toy):
        outline = Outline("wrong", tuple(hops), "m", "q")

    with pytest.raises(ValueError, match=said):
        check_outline(Wrong())
