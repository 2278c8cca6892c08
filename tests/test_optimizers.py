"""Optimizers, learning rates and early stop, over all schemes: against the oracle and by hand (SPEC §4, §5)."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from teams import Given, content, error, experiment, make_job, refused, still, trained, verified

from fdtrain import driver, reference
from fdtrain.formulas import expected_numbers, expected_rounds
from fdtrain.graph import Graph
from fdtrain.layers.gcnn import Gcnn
from fdtrain.mixing import Laplacian, Metropolis
from fdtrain.networks import ShiftNetwork
from fdtrain.optim.adam import Adam
from fdtrain.optim.clipped import Clipped, clip_rows
from fdtrain.optim.dadam import DAdam
from fdtrain.optim.damsgrad import DAMSGrad
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.gradient_tracking import GradientTracking
from fdtrain.optim.naive import Naive
from fdtrain.optim.plugin import Plugin
from fdtrain.optim.rates import Constant, Cosine, Exponential, Rate, Step
from fdtrain.optim.sgd import SGD
from fdtrain.schemes import SCHEMES
from fdtrain.service import Host
from fdtrain.tasks.base import Samples
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import ErdosRenyi, Redraw

Array = np.ndarray


@dataclass(frozen=True)
class Approach:
    """An optimizer beside the oracle's recursion, and a learning rate at which its loss falls."""

    make: Callable[[Rate], Any]
    recursion: reference.Recursion
    lr: float

    @property
    def schemes(self) -> list[str]:
        """Those that fit."""
        unfit = {"inference", "piggyback_do" if self.make(Constant(1.0)).mixes_gradient else "per_sample"}
        return [scheme for scheme in SCHEMES if scheme not in unfit]


def recursion(kind: str, **given: Any) -> reference.Recursion:
    return reference.Recursion(kind, **given)


# Moments other than the defaults, so that a β or an ε that does not arrive is seen.
MOMENTS = {"beta1": 0.8, "beta2": 0.98, "epsilon": 1e-3}
APPROACHES = {
    "d_sgd": Approach(DSGD, recursion("d_sgd"), 0.02),
    "d_adam": Approach(lambda r: DAdam(r, **MOMENTS), recursion("d_adam", **MOMENTS), 0.01),
    "d_adam, defaults": Approach(DAdam, recursion("d_adam"), 0.01),
    "d_amsgrad": Approach(lambda r: DAMSGrad(r, **MOMENTS), recursion("d_amsgrad", **MOMENTS), 0.01),
    "gradient_tracking": Approach(GradientTracking, recursion("gradient_tracking"), 0.02),
    "naive_sgd": Approach(lambda r: Naive(SGD(r)), recursion("naive_sgd"), 0.02),
    "naive_adam": Approach(lambda r: Naive(Adam(r, **MOMENTS)), recursion("naive_adam", **MOMENTS), 0.01),
    "naive_adam, inside": Approach(
        lambda r: Naive(Adam(r, **MOMENTS, epsilon_form="inside")),
        recursion("naive_adam", **MOMENTS, epsilon_form="inside"),
        0.01,
    ),
}
MIXINGS: dict[str, tuple[Any, float]] = {
    "metropolis": (Metropolis(), 0.0),
    "laplacian": (Laplacian(0.1), 0.1),
}

EDGES = [[0, 1], [0, 2], [1, 2], [2, 3], [0, 4], [4, 5], [2, 6], [6, 7], [0, 8], [8, 9], [9, 10], [3, 11], [0, 12],
         [5, 12]]  # fmt: skip
NODES, EPOCHS, BATCH, SIZES, ACTIVATIONS = 13, 100, 4, (3, 4, 2), ("tanh", "sigmoid")
SHIFT = "normalized_laplacian"


@dataclass(frozen=True)
class Setting:
    """A fixed network with data of a teacher, the orders of its epochs, and a θ of its own for every node."""

    graph: Graph
    data: Given
    model: Gcnn
    oracle: reference.Model
    theta: Array


def setting(form: Any, epochs: int = EPOCHS, train_samples: int = 6) -> Setting:
    rng = np.random.default_rng(11)
    graph = Graph.from_edges(NODES, EDGES)
    oracle = reference.Model(SIZES, ACTIVATIONS, form)
    teacher = 2 * rng.normal(size=oracle.num_parameters)
    S = reference.shift_matrix(graph.adjacency(), SHIFT)

    def labelled(number: int) -> Samples:
        x = rng.normal(size=(number, NODES, SIZES[0]))
        clean = oracle.forward(S, x, teacher)
        return Samples(x, clean + 0.05 * rng.normal(size=clean.shape))

    data = Given(
        labelled(train_samples),
        labelled(3),
        np.stack([rng.permutation(train_samples) for _ in range(epochs)]),
    )
    theta = rng.normal(size=(NODES, oracle.num_parameters))
    return Setting(graph, data, Gcnn(SIZES, ACTIVATIONS, form), oracle, theta)


def by_messages(
    made: Setting, name: str, scheme: str, K: int, mixing: str, wave: int, ranks: int = 1, rate: Rate | None = None,
    max_norm: float | None = None,
) -> Host:  # fmt: skip
    optimizer = APPROACHES[name].make(rate or Constant(APPROACHES[name].lr))
    job = make_job(
        made.model, made.data, network=ShiftNetwork(SHIFT),
        optimizer=optimizer if max_norm is None else Clipped(optimizer, max_norm),
        mixing=MIXINGS[mixing][0], batch=BATCH, wave=wave, scheme=scheme, consensus_rounds=K,
        slices=("idle", "even")[wave // 2],
    )  # fmt: skip
    return trained(job, still(made.graph), made.data, made.theta, ranks)[0]


def by_matrices(
    made: Setting, name: str, K: int, mixing: str, rate: Rate | None = None, max_norm: float | None = None
) -> tuple[Array, list[reference.EpochResult]]:
    lr = rate or APPROACHES[name].lr
    return reference.train_distributed(
        made.oracle, SHIFT, mixing, MIXINGS[mixing][1], replace(APPROACHES[name].recursion, consensus_rounds=K), lr,
        made.graph.adjacency(), *made.data.train[:2], *made.data.held_out[:2],
        made.theta, made.data.orders, BATCH, max_norm,
    )  # fmt: skip


def check_agreement(name: str, host: Host, wanted: Array, results: list[reference.EpochResult]) -> None:
    assert error(host.outcome.theta, wanted) <= 1e-10
    assert len(host.outcome.rows) == len(results)
    for row, result in zip(host.outcome.rows, results, strict=True):
        found, of_oracle = (row.train, row.test, row.disagreement), astuple(result)
        assert found == pytest.approx(of_oracle, rel=1e-9)
    assert results[-1].mse_train < 0.7 * results[0].mse_train, "no healthy regime"
    if "naive" not in name:  # which mixes no parameters: θ^i that start apart stay apart
        assert results[-1].disagreement < 0.6 * results[0].disagreement, "no healthy regime"


RATES: list[Callable[[float], Rate]] = [
    Constant,
    lambda lr: Cosine(lr, lr / 10, 80, 2),
    lambda lr: Exponential(lr, 0.99, 2),
    lambda lr: Step(lr, 0.5, 30, 2),
]
ALL = [(name, scheme) for name, approach in APPROACHES.items() for scheme in approach.schemes]


@pytest.mark.parametrize("wave", [1, 3])
@pytest.mark.parametrize(("name", "scheme"), ALL)
def test_every_optimizer_follows_its_matrix_recursion_over_100_epochs(
    name: str, scheme: str, wave: int
) -> None:
    """SPEC §7, 3, with both mixings, both forms, all rates, clipped or not: mini-batches of 4 and 2 samples."""
    case = ALL.index((name, scheme)) + wave // 2
    K = 1 if scheme == "piggyback_do" else 1 + case % 3
    mixing = ("metropolis", "laplacian")[(case + case // 2) % 2]
    rate = RATES[case % 4](APPROACHES[name].lr)
    max_norm = 0.5 if case % 3 == 0 and scheme != "per_sample" else None
    made = setting(("receiver", "sender")[case % 2])
    host = by_messages(made, name, scheme, K, mixing, wave, 1, rate, max_norm)
    check_agreement(name, host, *by_matrices(made, name, K, mixing, rate, max_norm))


PACKED = [
    ("d_sgd", "piggyback_do", 1, "laplacian", 1, "receiver", None),
    ("d_adam", "piggyback", 2, "metropolis", 3, "sender", None),
    ("d_amsgrad", "piggyback_do", 1, "metropolis", 3, "receiver", None),
    ("gradient_tracking", "per_batch", 3, "metropolis", 1, "sender", 0.5),
    ("naive_sgd", "per_sample", 1, "metropolis", 1, "receiver", None),
    ("naive_adam", "piggyback", 2, "laplacian", 1, "receiver", 0.5),
    ("naive_adam, inside", "per_sample", 1, "laplacian", 3, "sender", None),
]


@pytest.mark.parametrize(("name", "scheme", "K", "mixing", "wave", "form", "max_norm"), PACKED)
def test_every_packing_has_the_same_bits(
    name: str, scheme: str, K: int, mixing: str, wave: int, form: str, max_norm: float | None
) -> None:
    """SPEC §7, 3 and 6, on 1, 2, 4 ranks and one per node."""
    made, rate = setting(form), Cosine(APPROACHES[name].lr, 0.0, 150, 2)
    alone = by_messages(made, name, scheme, K, mixing, wave, 1, rate, max_norm)
    check_agreement(name, alone, *by_matrices(made, name, K, mixing, rate, max_norm))
    for ranks in (2, 4, NODES):
        packed = by_messages(made, name, scheme, K, mixing, wave, ranks, rate, max_norm)
        assert packed.outcome.theta.tobytes() == alone.outcome.theta.tobytes(), ranks
        assert packed.outcome.rows == alone.outcome.rows, ranks
        assert packed.outcome.ledger.fields == alone.outcome.ledger.fields, ranks


def test_the_packed_cases_have_every_optimizer_and_every_scheme() -> None:
    schemes = {(scheme, K) for _, scheme, K, *_ in PACKED}
    assert schemes == {("piggyback_do", 1), ("piggyback", 2), ("per_batch", 3), ("per_sample", 1)}
    assert {name for name, *_ in PACKED} == set(APPROACHES) - {"d_adam, defaults"}


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(("name", "scheme"), ALL)
def test_redrawn_topologies_and_clipping_of_every_part(name: str, scheme: str, every: int) -> None:
    """W(t) mixes what was sent in mini-batch t; each node clips the gradient that it sends, a wave's or the batch's."""
    K, wave, steps = (1 if scheme == "piggyback_do" else 2), 2, 12
    approach, made = APPROACHES[name], setting("receiver", epochs=steps // 2)
    source = ErdosRenyi(nodes=NODES, mean_degree=2.5, connected=False, redraw=Redraw(every=every))
    data = replace(made.data, streamed=True)
    rate, max_norm = Exponential(approach.lr, 0.8, 2), 0.3
    job = make_job(
        made.model, data, network=ShiftNetwork("laplacian"), optimizer=Clipped(approach.make(rate), max_norm),
        batch=BATCH, wave=wave,
        scheme=scheme, consensus_rounds=K, redraw_every=every,
    )  # fmt: skip
    found = trained(job, TopologyService(source, 3), data, made.theta, 3)[0].outcome.theta

    service, rule = TopologyService(source, 3), replace(approach.recursion, consensus_rounds=K)
    state, clipped = rule.start(made.theta), 0
    for t in range(steps):
        graph, chosen = service.graph(t), data.orders[t // 2][BATCH * (t % 2) : BATCH * (t % 2 + 1)]
        A = graph.adjacency()
        S, W = reference.shift_matrix(A, "laplacian"), reference.mixing_matrix(A, "metropolis", 0.0)
        x, y, _ = data.minibatch(t, chosen, graph)
        parts = (
            [slice(b, b + wave) for b in range(0, len(x), wave)] if scheme == "per_sample" else [slice(None)]
        )
        gradients = [made.oracle.local_gradients(S, x[part], y[part], state.theta) for part in parts]
        norms = [np.linalg.norm(gradient, axis=1, keepdims=True) for gradient in gradients]
        clipped += sum(int((norm > max_norm).sum()) for norm in norms)
        total = sum(g * np.minimum(1.0, max_norm / norm) for g, norm in zip(gradients, norms, strict=True))
        state = rule.advance(state, W, np.asarray(total), 0.8 ** (t // 2) * approach.lr)
    assert clipped > 0
    assert error(found, state.theta) <= 1e-11
    assert error(state.theta, made.theta) > 1e-3


@pytest.mark.parametrize("name", ["d_sgd", "d_adam", "d_amsgrad", "gradient_tracking"])
def test_when_parameters_travel_makes_no_difference(name: str) -> None:
    """θ is constant in the mini-batch: sent along with it or in one round after it, the bits are the same."""
    made = setting("receiver", epochs=10)
    found = [
        by_messages(made, name, scheme, 1, "metropolis", wave, ranks).outcome.theta.tobytes()
        for (scheme, wave, ranks) in (
            ("piggyback_do", 1, 1), ("piggyback", 1, 2), ("per_batch", 1, 3), ("piggyback_do", 2, 2),
            ("per_batch", 2, 1),
        )
    ]  # fmt: skip
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4]  # waves of another size are summed in another order


def test_naive_optimizers_on_a_complete_graph_are_the_centralized_ones() -> None:
    """Exact consensus on the gradient, with K = 1 already; all nodes keep the same θ."""
    made = setting("receiver", epochs=10)
    made = replace(
        made, graph=Graph.from_adjacency(1 - np.eye(NODES)), theta=np.tile(made.theta[0], (NODES, 1))
    )
    for name, kind in (("naive_sgd", "sgd"), ("naive_adam, inside", "adam")):
        for scheme, K in (("per_sample", 1), ("per_batch", 2), ("piggyback", 1)):
            host = by_messages(made, name, scheme, K, "metropolis", 3, 2)
            wanted, _ = reference.train_centralized(
                made.oracle, SHIFT, replace(APPROACHES[name].recursion, kind=kind), APPROACHES[name].lr,
                made.graph.adjacency(), *made.data.train[:2], *made.data.held_out[:2],
                made.theta[0], made.data.orders, BATCH,
            )  # fmt: skip
            assert error(host.outcome.theta, np.tile(wanted, (NODES, 1))) <= 1e-11


# ---- what every optimizer has to be

PLUGIN = "fdtrain.optim.dsgd:DSGD"
TABLE: dict[str, Callable[[Rate], Any]] = {
    **{name: approach.make for name, approach in APPROACHES.items()},
    "clipped d_amsgrad": lambda r: Clipped(DAMSGrad(r), 0.7),
    "clipped gradient_tracking": lambda r: Clipped(GradientTracking(r), 0.7),
    "clipped naive_adam": lambda r: Clipped(Naive(Adam(r)), 0.7),
    "plugin": lambda r: Plugin(PLUGIN, r, {}),
    "clipped plugin": lambda r: Clipped(Plugin("fdtrain.optim.dadam:DAdam", r, MOMENTS), 0.7),
}
RATE = Exponential(0.3, 0.5, 2)


def arrays(state: Any) -> Iterator[Array]:
    """Every array in a state."""
    if isinstance(state, np.ndarray):
        yield state
    elif isinstance(state, tuple):
        for part in state:
            yield from arrays(part)


def frozen(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


@dataclass
class Walk:
    """A few steps of an optimizer on given gradients and mixed rows; what it said on the way."""

    optimizer: Any
    theta: Array  # [n, p]
    grads: Array  # [steps, n, p]
    mixes: Array  # [steps, n, len(travels)·p]
    said: list[Array] = field(default_factory=list)

    def go(self, *, keep: bool = True) -> Walk:
        """With ``keep`` all arguments are frozen; else they are overwritten as soon as a call is over."""
        theta = frozen(self.theta) if keep else self.theta.copy()
        state = self.optimizer.init(theta)
        for grad, mixed in zip(self.grads, self.mixes, strict=True):
            if keep:
                for array in arrays(state):
                    array.flags.writeable = False
            else:
                theta[...] = np.nan
            grad, mixed = (frozen(part) if keep else part.copy() for part in (grad, mixed))
            self.said += [
                np.array(self.optimizer.outgoing(state, grad)),
                np.array(self.optimizer.theta(state)),
            ]
            state = self.optimizer.step(grad, mixed, state)
            if not keep:
                grad[...] = np.nan
                mixed[...] = np.nan
        self.said += [
            np.array(self.optimizer.outgoing(state, self.grads[0])),
            np.array(self.optimizer.theta(state)),
        ]
        return self

    def of(self, nodes: slice) -> Walk:
        return Walk(self.optimizer, self.theta[nodes], self.grads[:, nodes], self.mixes[:, nodes])


def walk(name: str, n: int = 6, p: int = 37, steps: int = 5) -> Walk:
    rng, optimizer = np.random.default_rng(n), TABLE[name](RATE)
    scales = np.array([1e-6, 1e-3, 0.1, 1.0, 1.0, 10.0])[:n, None]
    mixes = np.abs(rng.normal(size=(steps, n, len(optimizer.travels) * p)))  # ũ of D-AMSGrad is a square
    return Walk(optimizer, rng.normal(size=(n, p)), scales * rng.normal(size=(steps, n, p)), mixes)


@pytest.mark.parametrize("name", TABLE)
def test_shapes_and_arguments_that_stay_as_they_are(name: str) -> None:
    """Arguments and states are frozen: an optimizer that writes into one raises an error."""
    way = walk(name).go()
    travels = way.optimizer.travels
    assert isinstance(travels, tuple)
    assert len(set(travels)) == len(travels) >= 1
    assert way.optimizer.mixes_gradient is ("naive" in name)
    assert len(travels) == (2 if "amsgrad" in name or "tracking" in name else 1)
    for outgoing, theta in zip(way.said[::2], way.said[1::2], strict=True):
        assert outgoing.shape == (6, 37 * len(travels))
        assert theta.shape == (6, 37)
        assert outgoing.dtype == theta.dtype == np.float64
    np.testing.assert_array_equal(way.said[1], way.theta)
    if not way.optimizer.mixes_gradient:
        np.testing.assert_array_equal(way.said[0][:, :37], way.theta)  # θ travels first
        again = way.optimizer.outgoing(way.optimizer.init(way.theta), np.full((6, 37), np.nan))
        np.testing.assert_array_equal(again, way.said[0])  # the gradient is not known yet
    assert not np.array_equal(way.said[-1], way.said[1])
    assert np.isfinite(way.said).all() if len(travels) == 1 else True


@pytest.mark.parametrize("p", [1, 8, 37, 220])
@pytest.mark.parametrize("name", TABLE)
def test_a_node_computes_the_same_bits_alone_and_among_others(name: str, p: int) -> None:
    whole = walk(name, p=p).go()
    for nodes in (slice(0, 1), slice(3, 4), slice(5, 6), slice(1, 4)):
        part = whole.of(nodes).go()
        for found, wanted in zip(part.said, whole.said, strict=True):
            assert found.tobytes() == wanted[nodes].tobytes()


@pytest.mark.parametrize("name", TABLE)
def test_states_do_not_share_the_engines_arrays(name: str) -> None:
    """The engine uses the gradient, the mixed rows and θ again: what is put there later changes no state."""
    kept, overwritten = walk(name).go(), walk(name).go(keep=False)
    for found, wanted in zip(overwritten.said, kept.said, strict=True):
        assert found.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("name", TABLE)
def test_optimizers_and_their_states_travel_between_processes(name: str) -> None:
    way = walk(name).go()
    copied = pickle.loads(pickle.dumps(way.optimizer))
    assert (copied.travels, copied.mixes_gradient) == (way.optimizer.travels, way.optimizer.mixes_gradient)
    again = replace(way, optimizer=copied, said=[]).go()
    assert [part.tobytes() for part in again.said] == [part.tobytes() for part in way.said]
    state = way.optimizer.init(way.theta)
    restored = pickle.loads(pickle.dumps(state))
    for found, wanted in zip(arrays(restored), arrays(state), strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", TABLE)
def test_the_rate_is_asked_for_mini_batch_0_1_2(name: str) -> None:
    asked: list[int] = []

    def rate(t: int) -> float:
        asked.append(t)
        return 0.1

    way = walk(name)
    replace(way, optimizer=TABLE[name](rate)).go()
    assert asked == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["d_adam", "d_amsgrad", "naive_adam"])
def test_two_steps_by_hand(name: str) -> None:
    """One node, one parameter, numbers from SPEC §4's table."""
    optimizer = TABLE[name](Constant(0.5))
    b1, b2, e = MOMENTS.values()
    g, mixed = [3.0, -0.1], [2.0, 1.5]
    m = [(1 - b1) * 3, b1 * (1 - b1) * 3 + (1 - b1) * -0.1]
    v = [(1 - b2) * 9, b2 * (1 - b2) * 9 + (1 - b2) * 0.01]
    row = np.array([[1.0]])
    state = optimizer.init(row)
    if name == "d_amsgrad":
        np.testing.assert_array_equal(optimizer.outgoing(state, row), [[1.0, e]])
        u = [0.04, 0.0]  # what the mixing gave: above and below ε
        wanted = [2.0 - 0.5 * m[0] / 0.2, 1.5 - 0.5 * m[1] / math.sqrt(e)]
        sent = [0.04 - e + max(e, v[0]), 0.0 - v[0] + max(v[0], v[1])]
        for k in (0, 1):
            state = optimizer.step(g[k] * row, np.array([[mixed[k], u[k]]]), state)
            np.testing.assert_allclose(optimizer.outgoing(state, row), [[wanted[k], sent[k]]], rtol=1e-14)
        assert v[0] > v[1] > e
        return
    correct = [(m[0] / (1 - b1), v[0] / (1 - b2)), (m[1] / (1 - b1**2), v[1] / (1 - b2**2))]
    if name == "d_adam":
        wanted = [mixed[k] - 0.5 * correct[k][0] / (math.sqrt(correct[k][1]) + e) for k in (0, 1)]
        for k in (0, 1):
            state = optimizer.step(g[k] * row, mixed[k] * row, state)
            np.testing.assert_allclose(optimizer.theta(state), [[wanted[k]]], rtol=1e-14)
        return
    forms = {
        "outside": [correct[k][0] / (math.sqrt(correct[k][1]) + e) for k in (0, 1)],
        "inside": [
            math.sqrt(1 - b2 ** (k + 1)) / (1 - b1 ** (k + 1)) * m[k] / (math.sqrt(v[k]) + e) for k in (0, 1)
        ],
    }
    for form, directions in forms.items():
        optimizer = Naive(Adam(Constant(0.5), **MOMENTS, epsilon_form=form))  # type: ignore[arg-type]
        state, theta = optimizer.init(row), 1.0
        for k in (0, 1):
            np.testing.assert_array_equal(optimizer.outgoing(state, g[k] * row), g[k] * row)
            state, theta = optimizer.step(np.nan * row, g[k] * row, state), theta - 0.5 * directions[k]
            np.testing.assert_allclose(optimizer.theta(state), [[theta]], rtol=1e-14)


# ---- every sample an update

BY_SAMPLE: dict[str, Callable[[Rate], Any]] = {
    "naive_sgd": lambda r: Naive(SGD(r), by_sample=True),
    "naive_adam": lambda r: Naive(Adam(r, **MOMENTS), by_sample=True),
    "naive_adam, inside": lambda r: Naive(Adam(r, **MOMENTS, epsilon_form="inside"), by_sample=True),
    "clipped naive_adam": lambda r: Clipped(Naive(Adam(r), by_sample=True), 0.7),
}


@pytest.mark.parametrize(("n", "p"), [(1, 1), (6, 37), (100, 171), (3, 7_001)])
@pytest.mark.parametrize("name", BY_SAMPLE)
def test_many_steps_at_once_are_the_same_bits(name: str, n: int, p: int) -> None:
    """Also of nodes that are no multiple of those that are taken together, and in the middle of a training."""
    rng, optimizer = np.random.default_rng(n), BY_SAMPLE[name](Cosine(0.3, 0.0, 5, 2))
    assert optimizer.by_sample
    assert optimizer.mixes_gradient
    one = optimizer.inner if isinstance(optimizer, Clipped) else optimizer
    theta = rng.normal(size=(n, p))
    at_once = apart = optimizer.init(frozen(theta))
    for w in (1, 4, 3):
        scales = 10.0 ** rng.uniform(-9, 3, (n, w, 1))
        grads = frozen(scales * rng.normal(size=(n, w, p)))
        before = [array.copy() for array in arrays(at_once)]
        after = optimizer.steps(grads, at_once)
        for sample in range(w):
            apart = one.step(np.full((n, p), np.nan), grads[:, sample], apart)
        for found, wanted in zip(arrays(after), arrays(apart), strict=True):
            assert found.tobytes() == wanted.tobytes()
        for kept, array in zip(before, arrays(at_once), strict=True):
            np.testing.assert_array_equal(kept, array)  # the old state is as it was
        at_once = after
    assert error(optimizer.theta(at_once), theta) > 1e-3


@pytest.mark.parametrize("name", TABLE)
def test_an_update_is_of_the_whole_mini_batch_unless_it_is_asked_for(name: str) -> None:
    assert TABLE[name](RATE).by_sample is False


def test_a_rate_falls_from_epoch_to_epoch_of_updates() -> None:
    """10 updates by sample in an epoch, where it has 3 mini-batches; α and t of the oracle's."""
    schedule = {"lr_schedule": {"kind": "exponential", "decay": 0.5}}
    for updates, wanted in (("sample", 10), ("batch", 3)):
        optimizer = {"kind": "naive_adam", "lr": 0.01, "updates": updates} | schedule
        made = experiment({"optimizer": optimizer, "training": {"scheme": "per_sample"}})
        assert [made.rate(t) for t in (0, wanted - 1, wanted, 2 * wanted)] == [0.01, 0.01, 0.005, 0.0025]
        assert all(c.passed for c in verified(made, 2))


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_centralized_updates_by_sample(kind: str) -> None:
    """Every sample's gradient of the mean over the nodes, taken at the θ of the mini-batch's start."""
    section = {"kind": kind, "lr": 0.02, "updates": "sample", "clip_norm": 0.05}
    change: dict[str, Any] = {"optimizer": section, "training": {"mode": "centralized", "epochs": 2}}
    made, result = experiment(change), driver.run(content(change))
    graph, rule = made.topology.graph(0), recursion(kind)
    train, _ = made.data.dataset(graph)
    model: Any = made.job.model
    oracle = reference.Model(model.sizes, model.activations, model.form)
    S = reference.shift_matrix(graph.adjacency(), SHIFT)
    state, clipped = rule.start(made.theta[0]), 0
    for epoch in range(2):
        order = made.data.order(epoch)
        for chosen in (order[:4], order[4:8], order[8:]):
            start = state.theta
            for b in chosen:
                _, gradient = oracle.shared_pass(S, train.x[[b]], train.y[[b]], start)
                clipped += (norm := float(np.linalg.norm(gradient))) > 0.05
                state = rule.advance(state, None, gradient * min(1.0, 0.05 / norm), 0.02)
    assert clipped > 0
    assert error(result.theta, np.tile(state.theta, (9, 1))) <= 1e-11


# ---- rates and clipping


def test_rates() -> None:
    for t in range(0, 500, 3):
        for minibatches in (1, 2, 7):
            e = t // minibatches
            assert Constant(0.3)(t) == 0.3
            assert Exponential(0.3, 0.9, minibatches)(t) == pytest.approx(0.3 * 0.9**e, rel=1e-14)
            assert Exponential(0.3, 1.0, minibatches)(t) == 0.3
            steps = sum(1 for epoch in range(1, e + 1) if epoch % 5 == 0)
            assert Step(0.3, 0.1, 5, minibatches)(t) == pytest.approx(0.3 * 0.1**steps, rel=1e-14)
            wanted = 0.02 + 0.28 * math.cos(math.pi * min(e, 40) / 80) ** 2  # (1 + cos φ)/2 = cos² φ/2
            assert Cosine(0.3, 0.02, 40, minibatches)(t) == pytest.approx(wanted, rel=1e-12)


def test_where_rates_change() -> None:
    assert [Exponential(8.0, 0.5, 2)(t) for t in range(6)] == [8, 8, 4, 4, 2, 2]
    assert [Step(8.0, 0.5, 2, 2)(t) for t in range(10)] == [8, 8, 8, 8, 4, 4, 4, 4, 2, 2]
    cosine = [Cosine(8.0, 2.0, 2, 2)(t) for t in range(8)]
    assert cosine == pytest.approx([8, 8, 5, 5, 2, 2, 2, 2], rel=1e-15)
    assert cosine[4:] == [2.0] * 4
    for rate in (Constant(1), Exponential(1, 0.5, 2), Step(1, 0.5, 2, 2), Cosine(1, 0, 3, 2)):
        assert pickle.loads(pickle.dumps(rate)) == rate


SCHEDULES: list[tuple[dict[str, Any], Rate]] = [
    ({"kind": "constant"}, Constant(0.25)),
    ({"kind": "exponential", "decay": 0.75}, Exponential(0.25, 0.75, 3)),
    ({"kind": "step", "every": 2}, Step(0.25, 0.1, 2, 3)),
    ({"kind": "step", "every": 2, "factor": 0.5}, Step(0.25, 0.5, 2, 3)),
    ({"kind": "cosine"}, Cosine(0.25, 0.0, 6, 3)),
    ({"kind": "cosine", "final": 0.125, "epochs": 4}, Cosine(0.25, 0.125, 4, 3)),
]


@pytest.mark.parametrize(("schedule", "rate"), SCHEDULES)
def test_the_configurations_schedule_is_the_rate(schedule: dict[str, Any], rate: Rate) -> None:
    """10 samples in mini-batches of 4: three of them are an epoch."""
    made = experiment(
        {"optimizer": {"kind": "d_sgd", "lr": 0.25, "lr_schedule": schedule}, "training": {"epochs": 6}}
    )
    assert made.rate == rate
    assert made.job.optimizer == DSGD(rate)
    assert made.job.minibatches == 3


CONFIGURED: list[tuple[dict[str, Any], Any]] = [
    ({"kind": "d_sgd"}, DSGD(Constant(1e-3))),
    ({"kind": "d_adam"} | MOMENTS, DAdam(Constant(1e-3), **MOMENTS)),
    ({"kind": "d_amsgrad"} | MOMENTS, DAMSGrad(Constant(1e-3), **MOMENTS)),
    ({"kind": "gradient_tracking"}, GradientTracking(Constant(1e-3))),
    ({"kind": "naive_sgd"}, Naive(SGD(Constant(1e-3)))),
    ({"kind": "naive_adam"} | MOMENTS, Naive(Adam(Constant(1e-3), **MOMENTS))),
    (
        {"kind": "naive_adam", "epsilon_form": "inside"} | MOMENTS,
        Naive(Adam(Constant(1e-3), **MOMENTS, epsilon_form="inside")),
    ),
]


@pytest.mark.parametrize(("section", "optimizer"), CONFIGURED)
def test_the_configurations_optimizer_is_the_optimizer(section: dict[str, Any], optimizer: Any) -> None:
    training = {"scheme": "per_batch", "consensus_rounds": 3}
    made = experiment({"optimizer": section, "training": training})
    assert made.job.optimizer == optimizer
    assert made.job.mixing == Metropolis()
    assert made.job.schedule(4).consensus == 3
    mixed = section | {"clip_norm": 0.5, "mixing": {"kind": "laplacian", "beta": 0.25}}
    made = experiment({"optimizer": mixed, "training": training})
    assert made.job.optimizer == Clipped(optimizer, 0.5)
    assert made.job.mixing == Laplacian(0.25)


def test_clip_rows() -> None:
    rng = np.random.default_rng(0)
    grad = rng.normal(size=(7, 9)) * np.array([1e-300, 1e-3, 0.1, 1, 1, 1e3, 1e150])[:, None]
    grad[3] = 0.0
    norms = [math.hypot(*row) for row in grad]
    clipped = clip_rows(grad, 0.5)
    for row, before, norm in zip(clipped, grad, norms, strict=True):
        if norm <= 0.5:
            assert row.tobytes() == before.tobytes()
        else:
            np.testing.assert_allclose(row, before * (0.5 / norm), rtol=1e-13)
            assert math.hypot(*row) == pytest.approx(0.5, rel=1e-13)
    np.testing.assert_allclose(clipped, reference.clip_rows(grad, 0.5), rtol=1e-13)
    exact = np.array([[3.0, 4.0]])
    assert clip_rows(exact, 5.0).tolist() == [[3.0, 4.0]]
    assert clip_rows(exact, 2.5).tolist() == [[1.5, 2.0]]
    assert np.isnan(clip_rows(np.array([[np.nan, 1.0]]), 1.0)).all()  # divergence is not hidden


# ---- runs from configurations


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize(
    ("kind", "scheme", "K"),
    [
        ("d_sgd", "piggyback", 3),
        ("d_adam", "piggyback_do", 1),
        ("d_amsgrad", "per_batch", 2),
        ("gradient_tracking", "piggyback_do", 1),
        ("naive_sgd", "per_sample", 2),
        ("naive_adam", "piggyback", 2),
    ],
)
def test_the_verifier_confirms_every_optimizer(kind: str, scheme: str, K: int, clip: float | None) -> None:
    """Its trajectory is the oracle's, over mini-batches of two epochs, with a rate that changes between them."""
    section = {
        "kind": kind, "lr": 0.01, "lr_schedule": {"kind": "exponential", "decay": 0.5}, "clip_norm": clip,
        "mixing": {"kind": "laplacian", "beta": 0.1},
    }  # fmt: skip
    training = {"scheme": scheme, "consensus_rounds": K}
    made = experiment({"optimizer": section, "training": training, "model": {"init": {"per_node": True}}})
    comparisons = verified(made, 2)
    assert [c.number for c in comparisons] == [1, 2, 3, 4, 5, 5, 5]
    assert all(c.passed for c in comparisons), comparisons
    assert "your optimizer" not in comparisons[2].name
    other = Clipped(made.job.optimizer, 0.01)  # what runs is not what the configuration says
    wrong = replace(made, job=replace(made.job, optimizer=other))
    assert [c.number for c in verified(wrong, 1) if not c.passed] == [3]


def sigmoid(h: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-h)))


@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("kind", ["sgd", "adam", "inside"])
def test_centralized_training_by_hand(kind: str, clip: float | None) -> None:
    """Two layers in the receiver form, spelled out node by node with dense matrices."""
    section: dict[str, Any] = {"kind": "sgd", "lr": 0.05, "clip_norm": clip}
    if kind != "sgd":
        form = "inside" if kind == "inside" else "outside"
        section = section | {
            "kind": "adam",
            "epsilon_form": form,
            "beta1": 0.7,
            "beta2": 0.95,
            "epsilon": 1e-2,
        }
    section["lr_schedule"] = {"kind": "exponential", "decay": 0.8}
    change: dict[str, Any] = {"optimizer": section, "training": {"mode": "centralized", "epochs": 5}}
    made = experiment(change)
    result = driver.run(content(change))

    graph = made.topology.graph(0)
    train, test = made.data.dataset(graph)
    A = np.asarray(graph.adjacency().todense())
    root = np.diag(A.sum(axis=1) ** -0.5)
    S, V = np.eye(9) - root @ A @ root, 9
    theta, first = made.theta[0].copy(), made.theta[0].copy()
    m, v, t, clipped = np.zeros_like(theta), np.zeros_like(theta), 0, 0

    def forward(x: Array) -> tuple[Array, Array, Array]:
        P0, P1, Q0, Q1 = (part.reshape(shape) for part, shape in zip(
            np.split(theta, [20, 40, 44]), ((5, 4), (5, 4), (4, 1), (4, 1)), strict=True
        ))  # fmt: skip
        hidden = sigmoid(x @ P0 + S @ x @ P1)
        return hidden, sigmoid(hidden @ Q0 + S @ hidden @ Q1), np.stack([Q0, Q1])

    for epoch, row in enumerate(result.rows):
        losses = []
        order = made.data.order(epoch)
        for chosen in (order[:4], order[4:8], order[8:]):
            total = np.zeros_like(theta)
            squares = []
            for x, y in zip(train.x[chosen], train.y[chosen], strict=True):
                hidden, output, (Q0, Q1) = forward(x)
                squares.append((output - y) ** 2)
                q = 2 * (output - y) / V * output * (1 - output)
                z = (q @ Q0.T + S.T @ q @ Q1.T) * hidden * (1 - hidden)
                parts = (x.T @ z, (S @ x).T @ z, hidden.T @ q, (S @ hidden).T @ q)
                total += np.concatenate([part.ravel() for part in parts])
            losses.append(np.mean(squares))
            norm = math.hypot(*total)
            if clip is not None and norm > clip:
                total, clipped = total * clip / norm, clipped + 1
            lr, t = 0.05 * 0.8**epoch, t + 1
            if kind == "sgd":
                theta = theta - lr * total
                continue
            m, v = 0.7 * m + 0.3 * total, 0.95 * v + 0.05 * total**2
            if kind == "adam":
                theta = theta - lr * (m / (1 - 0.7**t)) / (np.sqrt(v / (1 - 0.95**t)) + 1e-2)
            else:
                theta = theta - lr * math.sqrt(1 - 0.95**t) / (1 - 0.7**t) * m / (np.sqrt(v) + 1e-2)
        after = [(forward(x)[1] - y) ** 2 for x, y in zip(test.x, test.y, strict=True)]
        assert row.train == pytest.approx(np.mean(losses), rel=1e-11)
        assert row.test == pytest.approx(np.mean(after), rel=1e-11)
        assert (row.epoch, row.disagreement, row.rounds, row.messages, row.bytes) == (epoch + 1, 0, 0, 0, 0)
    assert error(result.theta, np.tile(theta, (9, 1))) <= 1e-11
    np.testing.assert_allclose(result.node_loss, np.mean(after, axis=0)[:, 0], rtol=1e-10)
    assert error(theta, first) > 1e-2
    assert (clipped > 0) is (clip is not None)


CENTRALIZED = {"mode": "centralized", "scheme": "per_batch"}
BY_SAMPLE_UNFIT = (
    "training.scheme: {} has no consensus on the gradient of every sample, which optimizer.updates: sample"
)
UNFIT: list[tuple[dict[str, Any], dict[str, Any], str]] = [  # sections optimizer and training
    ({"kind": "d_sgd", "beta1": 0.9}, {}, "optimizer.beta1: unknown key of d_sgd; known: clip_norm, kind"),
    ({"kind": "d_sgd", "clip_norm": -1}, {}, "optimizer.clip_norm: input should be greater than 0, found -1"),
    ({"kind": "gradient_tracking", "epsilon": 1}, {}, "optimizer.epsilon: unknown key of gradient_tracking"),
    ({"kind": "d_adam", "epsilon_form": "inside"}, {}, "optimizer.epsilon_form: unknown key of d_adam"),
    ({"kind": "d_adam", "bta1": 0.9}, {}, "optimizer.bta1: unknown key of d_adam; did you mean 'beta1'?"),
    ({"kind": "adam", "mixing": {"kind": "metropolis"}}, CENTRALIZED, "optimizer.mixing: unknown key of adam"),
    (
        {"kind": "d_sgd", "lr_schedule": {"kind": "cosine", "decay": 1}}, {},
        "optimizer.lr_schedule.decay: unknown key of cosine; known: epochs, final, kind",
    ),
    (
        {"kind": "d_sgd"}, {"scheme": "per_batch", "consensus_rounds": 0},
        "training.consensus_rounds: input should be greater than or equal to 1, found 0",
    ),
    ({"kind": "d_sgd"}, {"early_stop": {"patience": 0}}, "early_stop.patience: input should be greater than"),
    (
        {"kind": "d_sgd"}, {"early_stop": {"patience": 1, "metric": "disagreement"}},
        "early_stop.metric: input should be 'train', 'test', 'mse_train', 'mse_test', ",
    ),
]  # fmt: skip
UNFIT += [
    (
        {"kind": "d_sgd"},
        {"scheme": scheme, "consensus_rounds": 2},
        f"consensus_rounds: {scheme} has no rounds of",
    )
    for scheme in ("piggyback_do", "inference")
]
UNFIT += [
    (
        {"kind": "d_sgd"},
        {"scheme": scheme, "slices": "even"},
        f"slices: {scheme} sends no slices; leave it out",
    )
    for scheme in ("per_batch", "piggyback", "inference")
]
UNFIT += [
    (
        {"kind": kind},
        {},
        f"piggyback_do sends what is mixed before the gradient is known, and {kind} mixes the gradient",
    )
    for kind in ("naive_sgd", "naive_adam")
]
UNFIT += [
    (
        {"kind": kind},
        {"scheme": "per_sample"},
        f"on the gradient of every sample, and {kind} does not mix the gradient",
    )
    for kind in ("d_sgd", "d_adam", "d_amsgrad", "gradient_tracking")
]
UNFIT += [
    ({"kind": kind}, {}, f"mode distributed needs one that sends messages, such as d_sgd, found {kind}")
    for kind in ("sgd", "adam")
]
UNFIT += [
    ({"kind": kind}, CENTRALIZED, f"training.mode centralized needs sgd or adam, found {kind}")
    for kind in ("d_sgd", "naive_adam")
]

UNFIT += [
    ({"kind": kind, "updates": "sample"}, {"scheme": scheme}, BY_SAMPLE_UNFIT.format(scheme))
    for kind in ("naive_sgd", "naive_adam")
    for scheme in ("per_batch", "piggyback", "piggyback_do")
]
UNFIT += [
    ({"kind": kind, "updates": "sample"}, {}, f"optimizer.updates: unknown key of {kind}")
    for kind in ("d_sgd", "d_adam", "gradient_tracking")
]


@pytest.mark.parametrize(("optimizer", "training", "message"), UNFIT)
def test_what_does_not_fit_together(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    optimizer: dict[str, Any],
    training: dict[str, Any],
    message: str,
) -> None:
    assert message in refused(capsys, tmp_path, {"optimizer": optimizer, "training": training})


# ---- the ledger


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme != "inference"])
def test_measured_is_expected_for_every_optimizer(scheme: str, form: str) -> None:
    """10 samples in mini-batches of 4, 4, 2 and waves of 3: rounds, messages and bytes of every kind of field."""
    for number, name in enumerate(APPROACHES):
        if scheme not in APPROACHES[name].schemes:
            continue
        made = setting(form, epochs=2, train_samples=10)
        K = 1 if scheme == "piggyback_do" else 1 + number % 3
        wave = (3, 1)[number % 2]
        host = by_messages(made, name, scheme, K, "metropolis", wave, (1, 3)[number % 2])
        links, ledger, p = 2 * len(EDGES), host.outcome.ledger, made.model.num_parameters
        twice = 2 if name in ("d_amsgrad", "gradient_tracking") else 1
        schedules = [host.job.schedule(size) for size in (4, 4, 2)] * 2
        assert {schedule.travelling for schedule in schedules} == {twice * p}
        waves = [-(-size // wave) for size in (4, 4, 2)] * 2
        exchanges = {
            "per_sample": K * sum(waves), "per_batch": 6 * K, "piggyback": 6 * K, "piggyback_do": 6,
        }[scheme]  # fmt: skip
        mixing = ledger.fields["train", "slice" if scheme == "piggyback_do" else "consensus"]
        assert mixing.link_bytes == 8 * links * exchanges * twice * p
        if scheme != "piggyback_do":
            assert (mixing.rounds, mixing.link_messages) == (exchanges, exchanges * links)
        for kind in ("features", "backward", "slice", "consensus"):
            numbers = sum(schedule.numbers_of(kind) for schedule in schedules)  # type: ignore[arg-type]
            rounds = sum(any(f.kind == kind for f in r.fields) for s in schedules for r in s.rounds)
            if numbers == 0:
                assert ("train", kind) not in ledger.fields
                continue
            count = ledger.fields["train", kind]
            assert (count.rounds, count.link_messages) == (rounds, rounds * links)
            assert (count.link_bytes, count.radio_bytes) == (8 * numbers * links, 8 * numbers * NODES)
        total = ledger.total["train"]
        assert total.rounds == sum(expected_rounds(schedule) for schedule in schedules)
        assert total.link_bytes == 8 * links * sum(expected_numbers(schedule) for schedule in schedules)
        assert host.outcome.rows[-1].bytes == total.link_bytes
