"""The oracle against what is more elementary: matrices by hand, complex steps, node-wise loops (§2, §3)."""

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from fdtrain import reference as ref
from fdtrain.errors import InputError

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky_relu", "identity")
PATH = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])  # 0 - 1 - 2
LOPSIDED = np.array([[0.0, 4.0, 0.0], [1.0, 0.0, 3.0], [9.0, 0.0, 0.0]])  # row sums 4, 4, 9
STEP = 1e-30  # of the complex-step derivative: exact to rounding
D_SGD, SGD = ref.Recursion("d_sgd"), ref.Recursion("sgd")
r = np.sqrt(0.5)


@pytest.fixture(autouse=True)
def _strict_numpy():
    with np.errstate(all="raise"):
        yield


@pytest.mark.parametrize(
    ("A", "kind", "S"),
    [
        (PATH, "adjacency", PATH),
        (PATH, "laplacian", [[1, -1, 0], [-1, 2, -1], [0, -1, 1]]),
        (PATH, "normalized_adjacency", [[0, r, 0], [r, 0, r], [0, r, 0]]),
        (PATH, "normalized_laplacian", [[1, -r, 0], [-r, 1, -r], [0, -r, 1]]),
        (PATH, "gcn", [[1 / 2, 6**-0.5, 0], [6**-0.5, 1 / 3, 6**-0.5], [0, 6**-0.5, 1 / 2]]),
        (LOPSIDED, "adjacency", LOPSIDED),
        (LOPSIDED, "laplacian", [[4, -4, 0], [-1, 4, -3], [-9, 0, 9]]),
        (LOPSIDED, "normalized_adjacency", [[0, 1, 0], [1 / 4, 0, 1 / 2], [3 / 2, 0, 0]]),
        (LOPSIDED, "normalized_laplacian", [[1, -1, 0], [-1 / 4, 1, -1 / 2], [-3 / 2, 0, 1]]),
        (
            LOPSIDED,
            "gcn",
            [[1 / 5, 4 / 5, 0], [1 / 5, 1 / 5, 3 / 50**0.5], [9 / 50**0.5, 0, 1 / 10]],
        ),
        # the isolated node 1: D^-1/2 counts as 0
        ([[0, 0, 1], [0, 0, 0], [1, 0, 0]], "normalized_laplacian", [[1, 0, -1], [0, 0, 0], [-1, 0, 1]]),
        ([[0, 0, 1], [0, 0, 0], [1, 0, 0]], "normalized_adjacency", [[0, 0, 1], [0, 0, 0], [1, 0, 0]]),
    ],
)
@pytest.mark.parametrize("container", [np.array, csr_array])
def test_shift_by_hand(A: Any, kind: str, S: Any, container: Any) -> None:
    given = container(np.array(A))
    got = ref.shift_matrix(given, kind)
    assert isinstance(got, csr_array)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got.toarray(), np.array(S), rtol=1e-15, atol=1e-15)


def test_mixing_by_hand() -> None:
    A = np.array(
        [[7, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    )  # the loop of node 0 does not count
    t, q = 1 / 3, 1 / 4
    metropolis = [[q, q, q, q], [q, 1 - q - t, t, 0], [q, t, 1 - q - t, 0], [q, 0, 0, 1 - q]]
    np.testing.assert_allclose(ref.mixing_matrix(A, "metropolis").toarray(), metropolis, atol=1e-15)
    laplacian = [[0.7, 0.1, 0.1, 0.1], [0.1, 0.8, 0.1, 0], [0.1, 0.1, 0.8, 0], [0.1, 0, 0, 0.9]]
    np.testing.assert_allclose(ref.mixing_matrix(A, "laplacian", 0.1).toarray(), laplacian, atol=1e-15)


@pytest.mark.parametrize("kind", ["metropolis", "laplacian"])
@pytest.mark.parametrize("seed", range(5))
def test_mixing_is_symmetric_and_its_rows_sum_to_1(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = np.where(rng.random((12, 12)) < 0.2, rng.normal(size=(12, 12)), 0.0)  # weight, direction: ignored
    W = ref.mixing_matrix(csr_array(A), kind, 0.01).toarray()
    np.testing.assert_array_equal(W, W.T)
    np.testing.assert_allclose(W.sum(axis=1), 1.0, rtol=1e-15)
    linked = ((A != 0) | (A.T != 0)) & ~np.eye(12, dtype=bool)
    np.testing.assert_array_equal((W != 0) & ~np.eye(12, dtype=bool), linked)
    assert kind == "laplacian" or (W >= -1e-15).all()


def test_metropolis_on_a_complete_graph_is_the_average() -> None:
    W = ref.mixing_matrix(1 - np.eye(5), "metropolis").toarray()
    np.testing.assert_allclose(W, 0.2, rtol=1e-15)


def sigma(name: str, h: Any, slope: float) -> Any:
    """Activations that also take complex numbers."""
    match name:
        case "sigmoid":
            return 1 / (1 + np.exp(-h))
        case "tanh":
            return np.tanh(h)
        case "relu":
            return np.where(h.real > 0, h, 0)
        case "leaky_relu":
            return np.where(h.real > 0, h, slope * h)
    return h


def blocks(model: ref.Model, theta_i: Any) -> list[tuple[Any, Any]]:
    """(Theta0, Theta1) of every layer of one node, cut off the front of a flat list one number at a time."""
    numbers = list(theta_i)
    take = lambda g, h: np.array([[numbers.pop(0) for _ in range(h)] for _ in range(g)])  # noqa: E731
    return [(take(g, h), take(g, h)) for g, h in pairwise(model.sizes)]


def node_wise(model: ref.Model, S: Any, x: Any, thetas: list[Any]) -> Any:
    """§2's forward formulas, one node after another; x [B, V, g_0], thetas: the blocks of every node."""
    V = len(S)
    X = [x[:, i] for i in range(V)]
    for layer, name in enumerate(model.activations):
        hear = model.form == "receiver"
        H = []
        for i in range(V):
            h = X[i] @ thetas[i][layer][0]
            for j in range(V):
                h = h + S[i, j] * (X[j] @ thetas[i if hear else j][layer][1])
            H.append(h)
        X = [sigma(name, h, model.negative_slope) for h in H]
    return np.stack(X, axis=1)


def total_loss(model: ref.Model, S: Any, x: Any, y: Any, thetas: list[Any]) -> Any:
    return ((y - node_wise(model, S, x, thetas)) ** 2).sum()


def instance(model: ref.Model, seed: int = 0, V: int = 4, B: int = 3) -> tuple[Any, Any, Any, Any]:
    """Asymmetric dense S, x, y, and a different theta on every node."""
    rng = np.random.default_rng(seed)
    S = rng.normal(size=(V, V)) * (rng.random((V, V)) < 0.7)
    x, y = rng.normal(size=(B, V, model.sizes[0])), rng.normal(size=(B, V, model.sizes[-1]))
    return S, x, y, rng.normal(size=(V, model.num_parameters))


MODELS = [
    ref.Model((3, 2, 4, 2)[: depth + 1], (name,) * depth, form, 0.2)
    for depth, name, form in product((1, 2, 3), ACTIVATIONS, ("receiver", "sender"))
] + [ref.Model((3, 4, 2, 1), ("leaky_relu", "tanh", "sigmoid"), form, 0.3) for form in ("receiver", "sender")]


def name_of(model: ref.Model) -> str:
    return f"{model.form}-{'-'.join(model.activations)}"


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_forward_and_local_gradients(model: ref.Model) -> None:
    S, x, y, theta = instance(model)
    thetas = [blocks(model, theta_i) for theta_i in theta]
    np.testing.assert_allclose(
        model.forward(csr_array(S), x, theta), node_wise(model, S, x, thetas), rtol=1e-12, atol=1e-13
    )
    expected = np.empty_like(theta)
    for i, k in np.ndindex(*theta.shape):
        moved = theta[i].astype(complex)
        moved[k] += 1j * STEP
        nodes = [*thetas[:i], blocks(model, moved), *thetas[i + 1 :]]
        with np.errstate(under="ignore"):  # products of two steps
            expected[i, k] = total_loss(model, S, x, y, nodes).imag / STEP
    for shift in (S, csr_array(S)):
        got = model.local_gradients(shift, np.asfortranarray(x), y, np.asfortranarray(theta))
        assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()
    assert np.abs(expected).max() > 0.01  # the instance says something


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_centralized_gradient(model: ref.Model) -> None:
    S, x, y, theta = instance(model, seed=1, V=5)
    shared = theta[0]
    got = model.centralized_gradient(csr_array(S), x, y, shared)
    expected = np.empty_like(shared)
    for k in range(len(shared)):
        moved = shared.astype(complex)
        moved[k] += 1j * STEP
        with np.errstate(under="ignore"):
            expected[k] = total_loss(model, S, x, y, [blocks(model, moved)] * 5).imag / 5 / STEP
    assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()
    mean = model.local_gradients(S, x, y, np.tile(shared, (5, 1))).mean(axis=0)
    assert np.abs(got - mean).max() <= 1e-12 * np.abs(got).max()
    np.testing.assert_array_equal(model.forward(S, x, shared), model.forward(S, x, np.tile(shared, (5, 1))))


@pytest.mark.parametrize("model", [m for m in MODELS if len(m.sizes) == 3], ids=name_of)
def test_gradients_agree_with_central_differences_of_the_models_own_loss(model: ref.Model) -> None:
    S, x, y, theta = instance(model, seed=2)
    direction = np.random.default_rng(3).normal(size=theta.shape)

    def difference(
        point: Any, along: Any
    ) -> float:  # both losses are the model's own, no test code in between
        plus, minus = (model.forward(S, x, point + s * along) for s in (1e-6, -1e-6))
        return float((((y - plus) ** 2).sum() - ((y - minus) ** 2).sum()) / 2e-6)

    local = (model.local_gradients(S, x, y, theta) * direction).sum()
    assert difference(theta, direction) == pytest.approx(local, rel=1e-6)
    central = (model.centralized_gradient(S, x, y, theta[0]) * direction[0]).sum()
    assert difference(theta[0], direction[0]) / len(S) == pytest.approx(central, rel=1e-6)


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.2])
def test_leaky_relu_slope(slope: float) -> None:
    model = ref.Model((1, 1), ("leaky_relu",), "receiver", slope)
    S, theta = np.zeros((2, 2)), np.array([[1.0, 5.0], [3.0, 5.0]])
    x = np.array([[[-2.0], [2.0]]])
    np.testing.assert_array_equal(model.forward(S, x, theta), [[[-2 * slope], [6.0]]])
    # d (x theta slope)^2 / d theta = 2 slope^2 x^2 theta on the negative side
    expected = [[2 * slope**2 * 4.0, 0.0], [2 * 4.0 * 3.0, 0.0]]
    np.testing.assert_allclose(model.local_gradients(S, x, np.zeros((1, 2, 1)), theta), expected, rtol=1e-15)


def test_sigmoid_stays_finite_and_accurate_far_out() -> None:
    model = ref.Model((1, 1), ("sigmoid",), "receiver")
    h = np.array([-600.0, -40.0, 0.0, 40.0, 600.0])
    got = model.forward(np.eye(1), h.reshape(5, 1, 1), np.array([1.0, 0.0])).ravel()
    np.testing.assert_allclose(got, [np.exp(-600.0), np.exp(-40.0), 0.5, 1.0, 1.0], rtol=1e-15)


def test_split_and_num_parameters() -> None:
    model = ref.Model((2, 3, 1), ("tanh", "identity"), "sender")
    assert model.num_parameters == 2 * 6 + 2 * 3
    theta = np.arange(2 * 18.0).reshape(2, 18)
    (a0, a1), (b0, b1) = model.split(theta)
    np.testing.assert_array_equal(a0[0], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(a1[1], [[24, 25, 26], [27, 28, 29]])
    np.testing.assert_array_equal(b0[:, :, 0], [[12, 13, 14], [30, 31, 32]])
    np.testing.assert_array_equal(b1[0], [[15], [16], [17]])
    assert [p.shape for pair in model.split(theta[0]) for p in pair] == [(2, 3), (2, 3), (3, 1), (3, 1)]


def test_measures_and_step_by_hand() -> None:
    assert ref.mse(np.array([[[1.0, 2.0]]]), np.array([[[0.0, 4.0]]])) == 2.5
    assert ref.disagreement(np.array([[0.0, 0.0], [6.0, 8.0]])) == 5.0
    assert ref.disagreement(np.array([[0.0], [0.0], [3.0]])) == pytest.approx(np.sqrt(2.0))
    theta, g = np.array([[1.0], [3.0]]), np.array([[10.0], [20.0]])
    W = np.array([[0.75, 0.25], [0.25, 0.75]])
    recursion = ref.Recursion("d_sgd")
    after = recursion.advance(recursion.start(theta), W, g, 0.1)
    np.testing.assert_allclose(after.theta, [[0.5], [0.5]], rtol=1e-15)


A5 = np.array([[0, 1, 1, 0, 0], [1, 0, 1, 0, 0], [1, 1, 0, 1, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 0]])
NEIGHBOURS = [(1, 2), (0, 2), (0, 1, 3), (2, 4), (3,)]


def node_gradients(S: Any, x: Any, y: Any, thetas: list[Any], form: str) -> tuple[Any, list[Any]]:
    """§2 by hand, one sample, sigmoid layers: yhat and gradients from own and neighbours' terms."""
    V, L = len(S), len(thetas[0])
    near = [(i, *NEIGHBOURS[i]) for i in range(V)]
    xs, hs, a = [list(x)], [], []
    for l in range(L):  # noqa: E741
        a.append([sum(S[i, j] * xs[l][j] for j in near[i]) for i in range(V)])
        if form == "receiver":
            heard = [a[l][i] @ thetas[i][l][1] for i in range(V)]
        else:
            heard = [sum(S[i, j] * (xs[l][j] @ thetas[j][l][1]) for j in near[i]) for i in range(V)]
        hs.append([xs[l][i] @ thetas[i][l][0] + heard[i] for i in range(V)])
        xs.append([1 / (1 + np.exp(-h)) for h in hs[l]])
    z = [2 * (xs[L][i] - y[i]) for i in range(V)]
    grads: list[Any] = [[None] * L for _ in range(V)]
    for l in reversed(range(L)):  # noqa: E741
        q = [z[i] * xs[l + 1][i] * (1 - xs[l + 1][i]) for i in range(V)]
        if form == "receiver":
            p = [q[i] @ thetas[i][l][1].T for i in range(V)]
            for i in range(V):
                grads[i][l] = (np.outer(xs[l][i], q[i]), np.outer(a[l][i], q[i]))
                z[i] = q[i] @ thetas[i][l][0].T + sum(S[j, i] * p[j] for j in near[i])
        else:
            for i in range(V):
                c = sum(S[j, i] * q[j] for j in near[i])
                grads[i][l] = (np.outer(xs[l][i], q[i]), np.outer(xs[l][i], c))
                z[i] = q[i] @ thetas[i][l][0].T + c @ thetas[i][l][1].T
    return np.array(xs[L]), grads


def weight(mixing: str, beta: float, i: int, j: int) -> float:
    return beta if mixing == "laplacian" else 1 / (1 + max(len(NEIGHBOURS[i]), len(NEIGHBOURS[j])))


def training_data(model: ref.Model, V: int, N: int, seed: int = 4) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    inputs = (rng.normal(size=(n, V, model.sizes[0])) for n in (N, 3))
    labels = (rng.random((n, V, model.sizes[-1])) for n in (N, 3))
    (x_train, x_test), (y_train, y_test) = inputs, labels
    return x_train, y_train, x_test, y_test


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize(("mixing", "beta"), [("metropolis", 0.0), ("laplacian", 0.05)])
def test_train_distributed_node_by_node(form: str, mixing: str, beta: float) -> None:
    model = ref.Model((3, 2, 1), ("sigmoid", "sigmoid"), form)
    V, N, lr, batch = 5, 7, 0.3, 3  # mini-batches of 3, 3, 1
    data = training_data(model, V, N)
    x_train, y_train, x_test, y_test = data
    rng = np.random.default_rng(5)
    start = rng.normal(size=(V, model.num_parameters))
    order = np.stack([rng.permutation(N) for _ in range(3)])
    got, results = ref.train_distributed(
        model, "normalized_laplacian", mixing, beta, D_SGD, lr, A5, *data, start.copy(), order, batch
    )

    d = [len(n) for n in NEIGHBOURS]
    S = np.eye(V)
    for i in range(V):
        for j in NEIGHBOURS[i]:
            S[i, j] = -1 / np.sqrt(d[i] * d[j])
    theta = start.copy()
    for epoch in range(3):
        losses = []
        for chosen in (order[epoch, :3], order[epoch, 3:6], order[epoch, 6:]):
            thetas = [blocks(model, theta_i) for theta_i in theta]
            g, errors = np.zeros_like(theta), []
            for b in chosen:
                yhat, grads = node_gradients(S, x_train[b], y_train[b], thetas, form)
                errors.extend((yhat - y_train[b]).ravel() ** 2)
                for i in range(V):
                    g[i] += np.concatenate([block.ravel() for pair in grads[i] for block in pair])
            losses.append(np.mean(errors))
            mixed = [
                theta[i] + sum(weight(mixing, beta, i, j) * (theta[j] - theta[i]) for j in NEIGHBOURS[i])
                for i in range(V)
            ]
            theta = np.array(mixed) - lr * g
        thetas = [blocks(model, theta_i) for theta_i in theta]
        test = np.mean((node_wise(model, S, x_test, thetas) - y_test) ** 2)
        spread = np.sqrt(np.mean([np.linalg.norm(theta_i - theta.mean(axis=0)) ** 2 for theta_i in theta]))
        wanted = (np.mean(losses), test, spread)
        result = results[epoch]
        assert (result.mse_train, result.mse_test, result.disagreement) == pytest.approx(wanted, rel=1e-12)
    assert len(results) == 3
    np.testing.assert_allclose(got, theta, rtol=1e-12, atol=1e-14)


def test_train_centralized_step_by_step() -> None:
    model = ref.Model((3, 2, 2), ("tanh", "sigmoid"), "receiver")
    V, N, lr = 5, 5, 0.2
    data = training_data(model, V, N)
    x_train, y_train, x_test, y_test = data
    rng = np.random.default_rng(6)
    start, order = rng.normal(size=model.num_parameters), np.stack([rng.permutation(N) for _ in range(2)])
    told: list[tuple[int, ref.EpochResult]] = []
    got, results = ref.train_centralized(
        model,
        "gcn",
        SGD,
        lr,
        csr_array(A5),
        *data,
        start,
        order,
        2,
        on_epoch=lambda epoch, result: told.append((epoch, result)),
    )
    S, theta = ref.shift_matrix(A5, "gcn").toarray(), start
    for epoch in range(2):
        losses = []
        for chosen in (order[epoch, :2], order[epoch, 2:4], order[epoch, 4:]):
            x, y = x_train[chosen], y_train[chosen]
            losses.append(np.mean((node_wise(model, S, x, [blocks(model, theta)] * V) - y) ** 2))
            theta = theta - lr * model.local_gradients(S, x, y, np.tile(theta, (V, 1))).mean(axis=0)
        test = np.mean((node_wise(model, S, x_test, [blocks(model, theta)] * V) - y_test) ** 2)
        result = results[epoch]
        assert (result.mse_train, result.mse_test) == pytest.approx((np.mean(losses), test), rel=1e-12)
        assert result.disagreement == 0.0
    np.testing.assert_allclose(got, theta, rtol=1e-12)
    assert told == list(enumerate(results))


def test_complete_graph_average_is_centralized_for_one_mini_batch_from_consensus() -> None:
    """§7.4 holds for the average and one update; then nodes differ by lr g_i, so their gradients do too."""
    model = ref.Model((3, 4, 1), ("sigmoid", "sigmoid"), "receiver")
    V, N = 6, 4
    data, A = training_data(model, V, N), 1 - np.eye(V)
    start, order = np.random.default_rng(7).random(model.num_parameters), np.arange(N)[None]
    shared, _ = ref.train_centralized(model, "normalized_laplacian", SGD, 0.1, A, *data, start, order, N)
    theta, _ = ref.train_distributed(
        model, "normalized_laplacian", "metropolis", 0.0, D_SGD, 0.1, A, *data,
        np.tile(start, (V, 1)), order, N,
    )  # fmt: skip
    np.testing.assert_allclose(theta.mean(axis=0), shared, rtol=1e-13)
    assert ref.disagreement(theta) > 1e-3


def test_input_errors_are_named() -> None:
    model = ref.Model((2, 1), ("tanh",), "receiver")
    S, x, y, theta = np.eye(3), np.zeros((2, 3, 2)), np.zeros((2, 3, 1)), np.zeros((3, 4))
    x2, y2 = np.zeros((2, 4, 2)), np.zeros((2, 3))
    wrong = [
        lambda: ref.shift_matrix(PATH, "laplace"),
        lambda: ref.shift_matrix(PATH[:2], "laplacian"),
        lambda: ref.shift_matrix(-PATH, "normalized_laplacian"),
        lambda: ref.mixing_matrix(PATH, "metro"),
        lambda: ref.Model((2,), (), "receiver"),
        lambda: ref.Model((2, 1), ("tanh", "tanh"), "receiver"),
        lambda: ref.Model((2, 1), ("softmax",), "receiver"),
        lambda: ref.Model((2, 1), ("tanh",), "both"),
        lambda: model.forward(S, x2, theta),
        lambda: model.forward(S, x, theta[:2]),
        lambda: model.forward(S, x, np.zeros((3, 5))),
        lambda: model.local_gradients(S, x, y2, theta),
        lambda: model.centralized_gradient(S, x, y, theta),
        lambda: ref.mse(y, y[..., 0]),
        lambda: ref.train_distributed(
            model, "gcn", "metropolis", 0.0, D_SGD, 0.1, PATH, x, y, x, y, theta[0], np.array([[0, 1]]), 1
        ),
        lambda: ref.train_distributed(
            model, "gcn", "metropolis", 0.0, D_SGD, 0.1, PATH, x, y, x, y, theta, np.array([[0, 1]]), 0
        ),
    ]
    for call in wrong:
        with pytest.raises(InputError, match=r"found|choose"):
            call()
