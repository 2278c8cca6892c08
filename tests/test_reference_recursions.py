"""The oracle's recursions against scalar loops, one node and one parameter at a time, and against identities (§4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import hypot, sqrt
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from fdtrain import reference as ref
from fdtrain.errors import InputError

V, P, STEPS = 4, 3, 7
DISTRIBUTED = ("d_sgd", "d_adam", "d_amsgrad", "gradient_tracking", "naive_sgd", "naive_adam")
B1, B2, EPS = 0.6, 0.7, 0.05  # far from the usual values, so that every part of a formula shows
Rows = list[list[float]]


@pytest.fixture(autouse=True)
def _strict_numpy():
    with np.errstate(all="raise"):
        yield


def each(f: Callable[[int, int], float], like: Rows) -> Rows:
    """[[f(node, parameter)]]."""
    return [[f(i, k) for k in range(len(like[i]))] for i in range(len(like))]


def constant(number: float, like: Rows) -> Rows:
    return each(lambda i, k: number, like)


def hear(W: Rows, X: Rows, K: int) -> Rows:
    """K rounds of X^i <- sum_j W_ij X^j."""
    for _ in range(K):
        X = each(lambda i, k, X=X: sum(W[i][j] * X[j][k] for j in range(len(X))), X)
    return X


def adam(m: float, v: float, t: int, form: str) -> float:
    """The published direction of mini-batch t = 1, 2, ..."""
    if form == "inside":
        return sqrt(1 - B2**t) / (1 - B1**t) * m / (sqrt(v) + EPS)
    return (m / (1 - B1**t)) / (sqrt(v / (1 - B2**t)) + EPS)


def moments(m: Rows, v: Rows, g: Rows) -> tuple[Rows, Rows]:
    first = each(lambda i, k: B1 * m[i][k] + (1 - B1) * g[i][k], g)
    return first, each(lambda i, k: B2 * v[i][k] + (1 - B2) * g[i][k] * g[i][k], g)


def by_hand(
    kind: str, form: str, K: int, theta: Rows, Ws: list[Rows], gs: list[Rows], lrs: list[float]
) -> list[dict[str, Rows]]:
    """§4's table, read aloud: theta and what else the kind keeps, after every mini-batch."""
    zero, floor = constant(0.0, theta), constant(EPS, theta)
    m, v, y, before, u, v_hat = zero, zero, zero, zero, floor, floor
    after = []
    for t, (W, g, lr) in enumerate(zip(Ws, gs, lrs, strict=True), start=1):
        kept: dict[str, Rows] = {}
        if kind in ("d_sgd", "d_adam", "d_amsgrad", "gradient_tracking"):
            own = hear(W, theta, K)
        else:
            own = theta
            g = hear(W, g, K) if kind.startswith("naive") else g
        if kind in ("d_sgd", "naive_sgd", "sgd"):
            step = g
        elif kind == "gradient_tracking":
            heard = hear(W, y, K)
            y = each(lambda i, k, h=heard, g=g, b=before: h[i][k] + g[i][k] - b[i][k], g)
            step, before, kept = y, g, {"y": y, "gradient": g}
        else:
            m, v = moments(m, v, g)
            kept = {"m": m, "v": v}
            if kind == "d_amsgrad":
                heard = hear(W, u, K)
                larger = each(lambda i, k, a=v_hat, b=v: max(a[i][k], b[i][k]), g)
                step = each(lambda i, k, m=m, h=heard: m[i][k] / sqrt(max(h[i][k], EPS)), g)
                u = each(lambda i, k, h=heard, a=v_hat, b=larger: h[i][k] - a[i][k] + b[i][k], g)
                v_hat = larger
                kept |= {"u": u, "v_hat": v_hat}
            else:
                used = "outside" if kind == "d_adam" else form
                step = each(lambda i, k, m=m, v=v, t=t, used=used: adam(m[i][k], v[i][k], t, used), g)
        theta = each(lambda i, k, o=own, s=step, lr=lr: o[i][k] - lr * s[i][k], g)
        after.append(kept | {"theta": theta})
    return after


def instance(seed: int, nodes: int = V, steps: int = STEPS) -> tuple[Any, list[Any], list[Any], list[float]]:
    """theta; W not symmetric, entries of both signs, rows sum to 1; gradients of changing size; lr."""
    rng = np.random.default_rng(seed)
    Ws = [rng.normal(size=(nodes, nodes)) * 0.7 for _ in range(steps)]
    Ws = [W + np.diag(1 - W.sum(axis=1)) for W in Ws]
    gs = [rng.normal(size=(nodes, P)) * rng.choice([0.1, 1.0, 3.0]) for _ in range(steps)]
    return rng.normal(size=(nodes, P)), Ws, gs, list(rng.uniform(0.05, 0.5, size=steps))


def doubly_stochastic(rng: Any, nodes: int = V) -> Any:
    """Rows and columns sum to 1, not symmetric."""
    weights = rng.dirichlet(np.ones(5))
    return sum(w * np.eye(nodes)[rng.permutation(nodes)] for w in weights)


def recursion(kind: str, **change: Any) -> ref.Recursion:
    return replace(ref.Recursion(kind, B1, B2, EPS), **change)


def close(found: Any, wanted: Any) -> None:
    wanted = np.array(wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12 * np.abs(wanted).max())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("form", ["outside", "inside"])
@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize("kind", DISTRIBUTED)
def test_node_by_node(kind: str, K: int, form: str, seed: int) -> None:
    theta, Ws, gs, lrs = instance(seed)
    made = recursion(kind, consensus_rounds=K, epsilon_form=form)
    state = made.start(theta)
    wanted = by_hand(kind, form, K, theta.tolist(), [W.tolist() for W in Ws], [g.tolist() for g in gs], lrs)
    for t, (W, g, lr) in enumerate(zip(Ws, gs, lrs, strict=True)):
        assert state.t == t
        state = made.advance(state, csr_array(W) if t % 2 else W, g, lr)
        assert isinstance(state.theta, np.ndarray)
        for name, values in wanted[t].items():
            close(getattr(state, name), values)
    assert state.t == STEPS


@pytest.mark.parametrize("shape", [(P,), (1, P)])
@pytest.mark.parametrize(("kind", "form"), [("sgd", "outside"), ("adam", "outside"), ("adam", "inside")])
def test_centralized_number_by_number(kind: str, form: str, shape: tuple[int, ...]) -> None:
    theta, Ws, gs, lrs = instance(3, nodes=1)
    wanted = by_hand(kind, form, 1, theta.tolist(), [W.tolist() for W in Ws], [g.tolist() for g in gs], lrs)
    made = recursion(kind, epsilon_form=form)
    state = made.start(theta.reshape(shape))
    for t, (g, lr) in enumerate(zip(gs, lrs, strict=True)):
        state = made.advance(state, None, g.reshape(shape), lr)
        assert state.theta.shape == shape
        close(state.theta.reshape(1, P), wanted[t]["theta"])


def test_the_instances_reach_every_branch() -> None:
    """Some mix(u~) is below epsilon, some above; v falls below v^ somewhere; the two forms of epsilon differ."""
    theta, Ws, gs, lrs = instance(0)
    made = recursion("d_amsgrad")
    state, clamped, fell = made.start(theta), [], []
    for W, g, lr in zip(Ws, gs, lrs, strict=True):
        clamped.append(W @ state.u < EPS)
        state = made.advance(state, W, g, lr)
        fell.append(state.v < state.v_hat)
    assert np.any(clamped[1:])
    assert not np.all(clamped[1:])
    assert np.any(fell)
    assert not np.all(fell)


def test_one_step_of_adam_by_hand() -> None:
    """g = 1/2, beta2 = 0.99, epsilon = 0.1. outside: g / (|g| + 0.1); inside: g / (|g| + 0.1 / sqrt(0.01))."""
    for kind, W in (("adam", None), ("naive_adam", np.eye(1))):
        for form, wanted in (("outside", 0.5 / 0.6), ("inside", 0.5 / 1.5)):
            made = ref.Recursion(kind, 0.9, 0.99, 0.1, form)
            state = made.advance(made.start(np.array([[2.0]])), W, np.array([[0.5]]), 1.0)
            assert state.theta[0, 0] == pytest.approx(2.0 - wanted, rel=1e-13)


def test_two_nodes_of_d_amsgrad_by_hand() -> None:
    """beta1 = beta2 = 1/2, epsilon = 1; v = 8, 0.5 (v^ = 8, 1), u~ = 8, 1; then v = 4, 8.25, mix(u~) = 4.5."""
    made = ref.Recursion("d_amsgrad", 0.5, 0.5, 1.0)
    W = np.full((2, 2), 0.5)
    state = made.advance(made.start(np.array([[1.0], [3.0]])), W, np.array([[4.0], [1.0]]), 0.5)
    np.testing.assert_allclose(state.theta, [[2 - 0.5 * 2], [2 - 0.5 * 0.5]], rtol=1e-15)
    np.testing.assert_allclose(state.v_hat, [[8], [1]], rtol=1e-15)
    np.testing.assert_allclose(state.u, [[8], [1]], rtol=1e-15)
    state = made.advance(state, W, np.array([[0.0], [4.0]]), 0.5)
    wanted = [[1.375 - 0.5 * 1 / sqrt(4.5)], [1.375 - 0.5 * 2.25 / sqrt(4.5)]]
    np.testing.assert_allclose(state.theta, wanted, rtol=1e-15)
    np.testing.assert_allclose(state.v_hat, [[8], [8.25]], rtol=1e-15)
    np.testing.assert_allclose(state.u, [[4.5], [4.5 + 7.25]], rtol=1e-15)


def test_two_nodes_of_gradient_tracking_by_hand() -> None:
    """y = 2, 4; then y = 3 + (5 - 2), 3 + (0 - 4): the new y moves theta."""
    made, W = ref.Recursion("gradient_tracking"), np.full((2, 2), 0.5)
    state = made.advance(made.start(np.array([[0.0], [4.0]])), W, np.array([[2.0], [4.0]]), 0.5)
    np.testing.assert_array_equal(state.theta, [[1.0], [0.0]])
    state = made.advance(state, W, np.array([[5.0], [0.0]]), 0.5)
    np.testing.assert_array_equal(state.y, [[6.0], [-1.0]])
    np.testing.assert_array_equal(state.theta, [[-2.5], [1.0]])


def test_defaults_are_those_of_the_specification() -> None:
    made = ref.Recursion("d_adam")
    assert (made.beta1, made.beta2, made.epsilon) == (0.9, 0.999, 1e-8)
    assert (made.epsilon_form, made.consensus_rounds) == ("outside", 1)


@pytest.mark.parametrize("K", [1, 2, 3])
def test_gradient_tracking_conserves_the_mean(K: int) -> None:
    rng = np.random.default_rng(K)
    theta, _, gs, lrs = instance(K)
    made = recursion("gradient_tracking", consensus_rounds=K)
    state = made.start(theta)
    for g, lr in zip(gs, lrs, strict=True):
        mean = state.theta.mean(axis=0)
        state = made.advance(state, doubly_stochastic(rng), g, lr)
        close(state.y.mean(axis=0), g.mean(axis=0))
        close(state.theta.mean(axis=0), mean - lr * g.mean(axis=0))


@pytest.mark.parametrize("K", [1, 2])
@pytest.mark.parametrize("form", ["outside", "inside"])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_naive_with_exact_consensus_is_centralized(kind: str, form: str, K: int) -> None:
    theta, _, gs, lrs = instance(5)
    naive = recursion(f"naive_{kind}", epsilon_form=form, consensus_rounds=K)
    central = recursion(kind, epsilon_form=form)
    state, shared = naive.start(np.tile(theta[0], (V, 1))), central.start(theta[0])
    for g, lr in zip(gs, lrs, strict=True):
        state = naive.advance(state, np.full((V, V), 1 / V), g, lr)
        shared = central.advance(shared, None, g.mean(axis=0), lr)
        close(state.theta, np.tile(shared.theta, (V, 1)))


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize(
    ("kind", "form", "alone"),
    [
        ("d_sgd", "outside", "sgd"),
        ("naive_sgd", "outside", "sgd"),
        ("gradient_tracking", "outside", "sgd"),
        ("d_adam", "inside", "adam"),
        ("naive_adam", "outside", "adam"),
    ],
)
def test_without_mixing_every_node_is_alone(kind: str, form: str, alone: str, K: int) -> None:
    theta, _, gs, lrs = instance(6)
    made, single = recursion(kind, epsilon_form=form, consensus_rounds=K), recursion(alone)
    state, nodes = made.start(theta), [single.start(theta_i) for theta_i in theta]
    for g, lr in zip(gs, lrs, strict=True):
        state = made.advance(state, np.eye(V), g, lr)
        nodes = [single.advance(node, None, g_i, lr) for node, g_i in zip(nodes, g, strict=True)]
        close(state.theta, [node.theta for node in nodes])


@pytest.mark.parametrize("K", [1, 2, 3])
def test_d_amsgrad_conserves_the_mean_and_never_forgets(K: int) -> None:
    rng = np.random.default_rng(K)
    theta, _, gs, lrs = instance(7, steps=20)
    made = recursion("d_amsgrad", consensus_rounds=K)
    state = made.start(theta)
    assert (state.u == EPS).all()
    assert (state.v_hat == EPS).all()
    for g, lr in zip(gs, lrs, strict=True):
        before, state = state, made.advance(state, doubly_stochastic(rng), g, lr)
        close(state.u.mean(axis=0), state.v_hat.mean(axis=0))
        assert (state.v_hat >= before.v_hat).all()
        assert (state.v_hat >= state.v).all()


def test_d_sgd_is_its_single_step() -> None:
    theta, Ws, gs, lrs = instance(8)
    made = ref.Recursion("d_sgd")
    state = made.start(theta)
    for W, g, lr in zip(Ws, gs, lrs, strict=True):
        wanted = W @ state.theta - lr * g
        state = made.advance(state, W, g, lr)
        np.testing.assert_array_equal(state.theta, wanted)


@pytest.mark.parametrize("kind", [*DISTRIBUTED, "sgd", "adam"])
def test_a_state_stays_what_it_was(kind: str) -> None:
    """States share no memory with what the caller changes later, and a mini-batch can be repeated."""
    theta, Ws, gs, _ = instance(9)
    W = None if kind in ("sgd", "adam") else Ws[0]
    made, given, g = recursion(kind), theta.copy(), gs[0].copy()
    start = made.start(given)
    given[:] = 77.0
    np.testing.assert_array_equal(start.theta, theta)
    state = made.advance(start, W, g, 0.1)
    g[:] = 77.0
    np.testing.assert_array_equal(start.theta, theta)
    once, again = (
        made.advance(state, W, gs[1], 0.1),
        made.advance(made.advance(start, W, gs[0], 0.1), W, gs[1], 0.1),
    )
    np.testing.assert_array_equal(once.theta, again.theta)


def test_clip_rows_by_hand() -> None:
    g = np.array([[3.0, 4.0], [0.3, -0.4], [0.0, 0.0], [-6.0, 8.0], [0.0, 2.0]])
    wanted = [[1.2, 1.6], [0.3, -0.4], [0.0, 0.0], [-1.2, 1.6], [0.0, 2.0]]
    np.testing.assert_allclose(ref.clip_rows(g, 2.0), wanted, rtol=1e-15)
    np.testing.assert_allclose(ref.clip_rows(g[0], 2.0), wanted[0], rtol=1e-15)
    np.testing.assert_array_equal(ref.clip_rows(g, np.inf), g)
    np.testing.assert_array_equal(ref.clip_rows(g, 10.0), g)
    np.testing.assert_array_equal(g[0], [3.0, 4.0])


def test_clip_rows_keeps_directions() -> None:
    g = np.random.default_rng(0).normal(size=(50, 2))
    for (a, b), (c, d) in zip(g.tolist(), ref.clip_rows(g, 1.0).tolist(), strict=True):
        scale = min(1.0, 1.0 / hypot(a, b))
        assert (c, d) == pytest.approx((scale * a, scale * b), rel=1e-14)


A = np.array([[0, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0]])
MODEL = ref.Model((3, 2, 1), ("tanh", "sigmoid"), "receiver")


def training(seed: int, N: int = 5, epochs: int = 2) -> tuple[tuple[Any, ...], Any, Any]:
    """x_train, y_train, x_test, y_test; theta [V, p]; order."""
    rng = np.random.default_rng(seed)
    data = (
        rng.normal(size=(N, V, 3)),
        rng.random((N, V, 1)),
        rng.normal(size=(3, V, 3)),
        rng.random((3, V, 1)),
    )
    order = np.stack([rng.permutation(N) for _ in range(epochs)])
    return data, rng.normal(size=(V, MODEL.num_parameters)), order


def decay(t: int) -> float:
    return 0.3 / (1 + t)


@pytest.mark.parametrize("max_norm", [None, 0.4])
@pytest.mark.parametrize("kind", DISTRIBUTED)
def test_train_distributed_is_the_recursion(kind: str, max_norm: float | None) -> None:
    """Mini-batches of 2, 2, 1; the learning rate of each; local gradients clipped before they travel."""
    data, theta, order = training(1)
    made = recursion(kind, consensus_rounds=2)
    got, results = ref.train_distributed(
        MODEL, "gcn", "laplacian", 0.1, made, decay, A, *data, theta, order, 2, max_norm
    )
    S, W = ref.shift_matrix(A, "gcn"), ref.mixing_matrix(A, "laplacian", 0.1)
    state, t, norms = made.start(theta), 0, []
    for epoch in range(2):
        losses = []
        for chosen in (order[epoch, :2], order[epoch, 2:4], order[epoch, 4:]):
            x, y = data[0][chosen], data[1][chosen]
            losses.append(ref.mse(y, MODEL.forward(S, x, state.theta)))
            g = MODEL.local_gradients(S, x, y, state.theta)
            norms.extend(np.linalg.norm(g, axis=1))
            if max_norm is not None:
                g = np.array([row * min(1.0, max_norm / np.linalg.norm(row)) for row in g])
            state, t = made.advance(state, W, g, [0.3, 0.15, 0.1, 0.075, 0.06, 0.05][t]), t + 1
        test = ref.mse(data[3], MODEL.forward(S, data[2], state.theta))
        wanted = (np.mean(losses), test, ref.disagreement(state.theta))
        result = results[epoch]
        assert (result.mse_train, result.mse_test, result.disagreement) == pytest.approx(wanted, rel=1e-12)
    assert len(results) == 2
    close(got, state.theta)
    assert min(norms) < 0.4 < max(norms)


@pytest.mark.parametrize("max_norm", [None, 0.11])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_train_centralized_is_the_recursion(kind: str, max_norm: float | None) -> None:
    data, theta, order = training(2)
    made, shared = recursion(kind, epsilon_form="inside"), theta[0]
    told: list[tuple[int, ref.EpochResult]] = []
    got, results = ref.train_centralized(
        MODEL, "gcn", made, decay, A, *data, shared, order, 2, max_norm,
        lambda epoch, result: told.append((epoch, result)),
    )  # fmt: skip
    S = ref.shift_matrix(A, "gcn")
    state, t, norms = made.start(shared), 0, []
    for epoch in range(2):
        for chosen in (order[epoch, :2], order[epoch, 2:4], order[epoch, 4:]):
            g = MODEL.centralized_gradient(S, data[0][chosen], data[1][chosen], state.theta)
            norms.append(float(np.linalg.norm(g)))
            if max_norm is not None:
                g = g * min(1.0, max_norm / norms[-1])
            state, t = made.advance(state, None, g, decay(t)), t + 1
        test = ref.mse(data[3], MODEL.forward(S, data[2], state.theta))
        assert results[epoch].mse_test == pytest.approx(test, rel=1e-12)
    close(got, state.theta)
    assert told == list(enumerate(results))
    assert min(norms) < 0.11 < max(norms)


def test_the_learning_rate_is_asked_once_for_every_mini_batch() -> None:
    data, theta, order = training(3)
    asked: list[int] = []

    def rate(t: int) -> float:
        asked.append(t)
        return 0.1

    common = (A, *data, theta, order, 2)
    got, _ = ref.train_distributed(MODEL, "gcn", "metropolis", 0.0, recursion("d_adam"), rate, *common)
    assert asked == [0, 1, 2, 3, 4, 5]
    wanted, _ = ref.train_distributed(MODEL, "gcn", "metropolis", 0.0, recursion("d_adam"), 0.1, *common)
    np.testing.assert_array_equal(got, wanted)


def test_input_errors_are_named() -> None:
    theta, W = np.zeros((V, P)), np.eye(V)
    start = ref.Recursion("d_sgd").start(theta)
    data, nodes, order = training(4)
    common = (A, *data, nodes, order, 2)
    wrong = [
        lambda: ref.Recursion("dsgd"),
        lambda: ref.Recursion("adam", epsilon_form="between"),
        lambda: ref.Recursion("d_adam", consensus_rounds=0),
        lambda: ref.Recursion("d_sgd").advance(start, W, theta[:2], 0.1),
        lambda: ref.Recursion("d_sgd").advance(start, W[:2, :2], theta, 0.1),
        lambda: ref.Recursion("d_sgd").advance(start, None, theta, 0.1),
        lambda: ref.Recursion("adam").advance(start, W, theta, 0.1),
        lambda: ref.clip_rows(theta, 0.0),
        lambda: ref.clip_rows(theta, float("nan")),
        lambda: ref.train_distributed(MODEL, "gcn", "metropolis", 0.0, ref.Recursion("sgd"), 0.1, *common),
        lambda: ref.train_centralized(MODEL, "gcn", ref.Recursion("sgd"), 0.1, *common),
        lambda: ref.train_centralized(
            MODEL, "gcn", ref.Recursion("d_sgd"), 0.1, A, *data, nodes[0], order, 2
        ),
    ]
    for call in wrong:
        with pytest.raises(InputError, match=r"found|choose"):
            call()
