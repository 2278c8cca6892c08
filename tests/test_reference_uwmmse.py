"""The oracle of power allocation (SPEC §6 B) against loops over single nodes, complex steps and hand calculations."""

from __future__ import annotations

from math import log2, sqrt
from typing import Any

import numpy as np
import pytest

from fdtrain import reference as ref
from fdtrain.errors import InputError

NOISE, POWER = 10**-13.687, 5.0  # published
STEP = 1e-40  # of complex steps: nothing of second order is left


@pytest.fixture(autouse=True)
def _strict_numpy():
    with np.errstate(all="raise"):
        yield


def published_channels(seed: int, B: int, n: int = 25) -> ref.Array:
    """H [B, n, n] of one draw of locations."""
    rng = np.random.default_rng(seed)
    sender, receiver = rng.uniform(0, 1000, (2, n, 2))
    distance = np.linalg.norm(sender[:, None] - receiver, axis=2)
    loss = 32.4 + 20 * np.log10(0.9) + 30 * np.log10(distance)
    loss = loss + np.clip(rng.normal(0, 7.2, (B, n, n)), -14.4, 14.4)
    H = 10 ** (-loss / 20) * rng.rayleigh(sqrt(0.5), (B, n, n))
    return np.where(H < 10 ** (-(36.99 + 106.87 - 10 + 5) / 20), 0.0, H)


def strong_channels(seed: int, B: int, n: int) -> ref.Array:
    """Gains near 1, so that messages weigh as much as biases; a third of the cross links is 0, one way only."""
    rng = np.random.default_rng(seed)
    H = rng.uniform(0.2, 1.0, (B, n, n)) * (rng.random((B, n, n)) > 0.3)
    H[:, np.arange(n), np.arange(n)] = rng.uniform(0.8, 1.6, (B, n))
    assert ((H != 0) != (H.swapaxes(1, 2) != 0)).any()
    return H


def start(model: ref.Uwmmse, seed: int, nodes: int | None = None, size: float = 1.0) -> ref.Array:
    """theta [p], or different at all nodes [n, p]; biases about 0.1."""
    rng = np.random.default_rng(seed)
    theta = np.empty((model.num_parameters,) if nodes is None else (nodes, model.num_parameters))
    for name, part in model.split(theta).items():
        part[...] = (
            size * rng.uniform(-1, 1, part.shape) if "_w" in name else 0.1 * rng.uniform(0.5, 1.5, part.shape)
        )
    return theta


def loop(H: Any, theta: Any, noise: Any, power: Any, layers: int, hidden: int) -> tuple[list[Any], list[Any]]:
    """v_i and rate_i of one channel H [n][n], node by node; theta[i][k], numbers or rows of them (directions)."""
    n, top = len(H), np.sqrt(power)
    cursor = 0

    def take(count: int) -> list[list[Any]]:  # the next parameters, [node][count]
        nonlocal cursor
        cursor += count
        return [[theta[i][k] for k in range(cursor - count, cursor)] for i in range(n)]

    def network() -> list[Any]:
        w1, w0, b1, b0 = (take(hidden) for _ in range(4))
        message = [[1.0 * w1[j][k] for k in range(hidden)] for j in range(n)]
        x = []
        for i in range(n):
            h = [sum(H[i][j] * message[j][k] for j in range(n)) + b1[i][k] for k in range(hidden)]
            h = [h[k] + H[i][i] * w0[i][k] + b0[i][k] for k in range(hidden)]
            x.append([np.where(np.real(z) > 0, z, 0.0) for z in h])
        w1, w0, b1, b0 = take(hidden), take(hidden), take(1), take(1)
        message2 = [sum(x[j][k] * w1[j][k] for k in range(hidden)) for j in range(n)]
        out = []
        for i in range(n):
            z = sum(H[i][j] * message2[j] for j in range(n)) + b1[i][0]
            z = z + H[i][i] * sum(x[i][k] * w0[i][k] for k in range(hidden)) + b0[i][0]
            out.append(1.0 / (1.0 + np.exp(-z)))
        return out

    def heard(i: int) -> Any:  # noise and the others
        return noise + sum(H[j][i] ** 2 * v[j] ** 2 for j in range(n) if j != i)

    v = [top + 0.0 * theta[0][0]] * n
    for _ in range(layers):
        a, b = network(), network()
        u = [H[i][i] * v[i] / (heard(i) + (H[i][i] * v[i]) ** 2) for i in range(n)]
        w = [1.0 + (H[i][i] * v[i]) ** 2 / heard(i) for i in range(n)]
        omega = [a[i] * w[i] + b[i] for i in range(n)]
        below = [sum(H[i][j] ** 2 * u[j] ** 2 * omega[j] for j in range(n)) for i in range(n)]
        v = [H[i][i] * u[i] * omega[i] / np.where(below[i] == 0, 1.0, below[i]) for i in range(n)]
        v = [np.where(np.real(x) > top, top, x) for x in v]
    assert cursor == len(theta[0])
    return v, [np.log1p((H[i][i] * v[i]) ** 2 / heard(i)) / np.log(H[0][0] * 0 + 2.0) for i in range(n)]


def test_names_and_views():
    model = ref.Uwmmse(NOISE, POWER)
    names = model.names()
    assert model.num_parameters == 256 == sum(int(np.prod(shape)) for _, shape in names)
    assert names[:5] == [
        ("k1_a_1_w1", (1, 5)),
        ("k1_a_1_w0", (1, 5)),
        ("k1_a_1_b1", (5,)),
        ("k1_a_1_b0", (5,)),
        ("k1_a_2_w1", (5, 1)),
    ]
    assert [names[at][0] for at in (7, 8, 16, -1)] == ["k1_a_2_b0", "k1_b_1_w1", "k2_a_1_w1", "k4_b_2_b0"]
    theta = np.arange(3.0 * 256).reshape(3, 256)
    views = model.split(theta)
    assert list(views) == [name for name, _ in names]
    np.testing.assert_array_equal(views["k1_a_2_w1"][1], 256 + np.arange(20.0, 25.0)[:, None])
    assert all(np.shares_memory(view, theta) for view in views.values())


def test_sum_rate_by_hand():
    H = np.array([[[2.0, 0.5], [0.0, 3.0]]])  # receiver 1 hears both, receiver 0 only its own
    wanted = [log2(1 + 4 * 4 / 0.1), log2(1 + 9 / (0.1 + 0.25 * 4))]
    np.testing.assert_allclose(ref.rates(H, np.array([[2.0, 1.0]]), 0.1), [wanted], rtol=1e-15)


def test_wmmse_is_the_textbook_loop():
    B, n, noise, power = 3, 5, 0.2, 3.0
    H = strong_channels(1, B, n)
    H[1, 2, 2] = 0.0
    for iterations in (0, 1, 6):
        found = ref.wmmse(H, noise, power, iterations)
        for h, row in zip(H.tolist(), found, strict=True):
            v = [sqrt(power)] * n
            for _ in range(iterations):
                u = [
                    h[i][i] * v[i] / (noise + sum(h[j][i] ** 2 * v[j] ** 2 for j in range(n)))
                    for i in range(n)
                ]
                w = [1 / (1 - u[i] * h[i][i] * v[i]) for i in range(n)]
                below = [sum(h[i][j] ** 2 * u[j] ** 2 * w[j] for j in range(n)) for i in range(n)]
                v = [min(max(h[i][i] * u[i] * w[i] / below[i], 0.0), sqrt(power)) for i in range(n)]
            np.testing.assert_allclose(row, v, rtol=1e-13)
    assert ref.wmmse(H, noise, power, 6)[1, 2] == 0
    assert 0 < np.mean(ref.wmmse(H, noise, power, 6) == sqrt(power)) < 1


def test_wmmse_never_lowers_the_sum_rate():
    H = published_channels(5, B=8)
    totals = [ref.rates(H, ref.wmmse(H, NOISE, POWER, k), NOISE).sum(axis=1) for k in range(12)]
    assert (np.diff(totals, axis=0) > -1e-9).all()


@pytest.mark.parametrize("published", [False, True])
def test_allocation_is_the_loop_with_different_theta_at_every_node(published: bool):
    noise, power, n = (NOISE, POWER, 25) if published else (0.3, 6.0, 5)
    H = published_channels(2, B=1) if published else strong_channels(2, B=3, n=n)
    model = ref.Uwmmse(noise, power, layers=3, hidden=4)
    theta = start(model, 3, nodes=n)
    v = model.allocate(H, theta)
    found = ref.rates(H, v, noise)
    np.testing.assert_array_equal(model.local_pass(H, theta)[0], found)
    for b in range(len(H)):
        wanted = loop(H[b], theta, noise, power, 3, 4)
        np.testing.assert_allclose(v[b], wanted[0], rtol=1e-12)
        np.testing.assert_allclose(found[b], wanted[1], rtol=1e-12)
    tiled = np.tile(theta[0], (n, 1))
    np.testing.assert_allclose(model.allocate(H, theta[0]), model.allocate(H, tiled), rtol=1e-12)


def test_local_gradients_are_complex_steps_with_different_theta_at_every_node():
    n, B, noise, power = 6, 3, 0.3, 6.0
    H = strong_channels(7, B, n)
    model = ref.Uwmmse(noise, power, layers=3, hidden=3)
    p = model.num_parameters
    theta = start(model, 8, nodes=n)
    v = model.allocate(H, theta)
    assert np.mean((v > 0) & (v < sqrt(power))) > 0.5
    assert ((v > 0) & (v < sqrt(power))).any(axis=1).all()
    _, found = model.local_pass(H, theta)
    steps = theta[..., None] + 1j * STEP * np.eye(n * p).reshape(n, p, n * p)
    for b in range(B):
        rate = np.sum(loop(H[b], steps, noise, power, 3, 3)[1], axis=0)
        wanted = (-n / B * rate.imag / STEP).reshape(n, p)
        assert np.abs(found[b] - wanted).max() <= 1e-13 * np.abs(wanted).max()
        np.testing.assert_allclose(found[b], wanted, rtol=1e-9, atol=1e-14 * np.abs(wanted).max())
    for name, part in model.split(found).items():
        assert part.any(), name


@pytest.mark.parametrize("published", [False, True])
def test_mean_of_local_gradients_is_the_shared_gradient(published: bool):
    H = published_channels(11, B=64) if published else strong_channels(11, B=6, n=7)
    model = ref.Uwmmse(NOISE, POWER) if published else ref.Uwmmse(0.3, 6.0)
    theta = start(model, 12)
    rates, local = model.local_pass(H, np.tile(theta, (H.shape[1], 1)))
    shared_rates, shared = model.shared_pass(H, theta)
    np.testing.assert_allclose(rates, shared_rates, rtol=1e-12)
    mean = model.split(local.sum(axis=0).mean(axis=0))
    for name, part in model.split(shared).items():  # parts differ by decades
        assert np.abs(mean[name] - part).max() <= 1e-12 * np.abs(part).max(), name


@pytest.mark.parametrize(("seed", "nearer"), [(21, 1.0), (22, 1.0), (21, 1e3), (23, 1e3), (24, 1e3)])
def test_gradients_keep_their_digits_on_published_channels(seed: int, nearer: float):
    """Against complex steps in extended precision; a direction for every part of theta, random signs in it.

    Nearer: five of the pairs stand close together; there w = 1 / (1 - u H v) would leave 7 to 11 digits.
    """
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("no extended precision here")
    n, model = 25, ref.Uwmmse(NOISE, POWER)
    H, theta = published_channels(seed, B=1), start(model, seed, nodes=n, size=0.5)
    H[:, range(5), range(5)] *= nearer
    parts, p = model.names(), model.num_parameters
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (n, p))
    directions = np.zeros((n, p, len(parts)))
    for k, view in enumerate(np.moveaxis(directions, 2, 0)):
        model.split(view)[parts[k][0]][...] = 1.0
    steps = theta[..., None].astype(np.clongdouble) + 1j * np.longdouble(STEP) * directions * signs[..., None]
    long = np.longdouble
    rates = loop(H[0].astype(long), steps, long(NOISE), long(POWER), model.layers, model.hidden)[1]
    wanted = -n * np.sum(rates, axis=0).imag / long(STEP)
    _, found = model.local_pass(H, theta)
    for k, (name, _) in enumerate(parts):
        terms = found[0] * signs * directions[..., k]
        assert abs(terms.sum() - wanted[k]) <= 1e-13 * np.abs(terms).sum(), name


def test_mixing_of_mutual_links():
    H = np.array(
        [[[1.0, 2.0, 3.0, 0.0], [4.0, 1.0, 0.0, 0.0], [5.0, 6.0, 0.0, 7.0], [8.0, 0.0, 9.0, 1.0]]] * 2
    )
    H[1] = np.eye(4)
    wanted = np.array([[1, 1, 1, 0], [1, 2, 0, 0], [1, 0, 1, 1], [0, 0, 1, 2]]) / 3  # 1 - 0, 0 - 2, 2 - 3
    W = ref.mutual_mixing(H)
    np.testing.assert_allclose(W, [wanted, np.eye(4)], atol=1e-16)
    wanted = np.eye(4) - 0.1 * np.array([[2, -1, -1, 0], [-1, 1, 0, 0], [-1, 0, 2, -1], [0, 0, -1, 1]])
    np.testing.assert_allclose(ref.mutual_mixing(H, "laplacian", 0.1), [wanted, np.eye(4)], atol=1e-16)


def test_published_mixing_is_doubly_stochastic():
    H = published_channels(31, B=16)
    assert (H == 0).any()
    W = ref.mutual_mixing(H)
    np.testing.assert_array_equal(W, W.swapaxes(1, 2))
    np.testing.assert_allclose(W.sum(axis=2), 1.0, rtol=1e-14)
    assert (W >= 0).all()
    off = ~np.eye(25, dtype=bool)
    np.testing.assert_array_equal((W != 0) & off, (H != 0) & (H.swapaxes(1, 2) != 0) & off)


def test_a_pair_without_its_own_link_is_silent():
    H = strong_channels(41, B=2, n=4)
    H[0, 1, 1] = 0.0
    H[1] = 0.0  # nobody hears anybody
    model = ref.Uwmmse(0.3, 6.0)
    theta = start(model, 42, nodes=4)
    rates, gradient = model.local_pass(H, theta)
    assert rates[0, 1] == model.allocate(H, theta)[0, 1] == 0
    assert rates[0, [0, 2, 3]].all()
    assert not rates[1].any()
    assert not gradient[1].any()
    # its messages still reach its neighbours' networks, its own a and b move nothing
    own = {name: part[0, 1] for name, part in model.split(gradient).items()}
    assert not any(own[f"k{k}_{net}_2_b0"].any() for k in (1, 2, 3, 4) for net in "ab")
    assert own["k4_a_1_w1"].any()


def metropolis(h: ref.Array) -> list[list[float]]:
    n = len(h)
    linked = [[i != j and h[i, j] != 0 and h[j, i] != 0 for j in range(n)] for i in range(n)]
    W = [
        [1 / (1 + max(sum(linked[i]), sum(linked[j]))) if linked[i][j] else 0.0 for j in range(n)]
        for i in range(n)
    ]
    return [[W[i][j] if i != j else 1 - sum(W[i]) for j in range(n)] for i in range(n)]


def test_published_training_is_the_loop_over_samples():
    n, B, M, lr, K, eps, largest = 4, 3, 2, 0.05, 2, 0.01, 0.2
    H, H_test = (
        strong_channels(51, M * B, n).reshape(M, B, n, n),
        strong_channels(52, 4, n).reshape(1, 4, n, n),
    )
    model = ref.Uwmmse(0.3, 6.0, layers=2, hidden=2)
    recursion = ref.Recursion("naive_adam", 0.6, 0.7, eps, "inside", consensus_rounds=K)
    order = np.array([[0, 1], [1, 0], [0, 1]])
    theta0 = start(model, 53, nodes=n)
    found, results = ref.train_uwmmse(
        model, recursion, lr, H, H_test, theta0, order, centralized=False, max_norm=largest
    )

    theta, m, v, t, clips = theta0.copy(), 0.0 * theta0, 0.0 * theta0, 0, 0
    for epoch, wanted in zip(order, results, strict=True):
        seen = []
        for draw in epoch:
            rates, samples = model.local_pass(H[draw], theta)
            seen.append(rates.sum() / B)
            g = np.zeros_like(theta)
            for b in range(B):
                W = metropolis(H[draw, b])
                rows = [row * min(1.0, largest / sqrt(row @ row)) for row in samples[b]]
                clips += sum(row @ row > largest**2 for row in samples[b])
                for _ in range(K):
                    rows = [sum(W[i][j] * rows[j] for j in range(n)) for i in range(n)]
                g += rows
            t += 1
            m, v = 0.6 * m + 0.4 * g, 0.7 * v + 0.3 * g**2
            theta = theta - lr * sqrt(1 - 0.7**t) / (1 - 0.6**t) * m / (np.sqrt(v) + eps)
        assert wanted[0] == pytest.approx(np.mean(seen), rel=1e-12)
        assert wanted[1] == pytest.approx(model.local_pass(H_test[0], theta)[0].sum() / 4, rel=1e-12)
    assert 0 < clips < order.size * B * n
    np.testing.assert_allclose(found, theta, rtol=1e-10)


@pytest.mark.parametrize(
    "kind", ["naive_sgd", "naive_adam", "d_sgd", "d_adam", "d_amsgrad", "gradient_tracking"]
)
def test_mixing_once_per_mini_batch(kind: str):
    H = strong_channels(61, 6, 4).reshape(2, 3, 4, 4)
    model = ref.Uwmmse(0.3, 6.0, layers=2, hidden=2)
    recursion, theta0 = ref.Recursion(kind), start(model, 62, nodes=4)
    found, _ = ref.train_uwmmse(
        model,
        recursion,
        0.01,
        H,
        H[:1],
        theta0,
        np.array([[1, 0]]),
        centralized=False,
        consensus="per_batch",
        mixing="laplacian",
        beta=0.1,
        max_norm=0.2,
    )
    state = recursion.start(theta0)
    for m in (1, 0):
        linked = (H[m] != 0) & (H[m].swapaxes(1, 2) != 0) & ~np.eye(4, dtype=bool)
        W = np.mean([np.eye(4) - 0.1 * (np.diag(A.sum(axis=1)) - A) for A in linked], axis=0)
        gradient = model.local_pass(H[m], state.theta)[1].sum(axis=0)
        norms = np.sqrt((gradient**2).sum(axis=1, keepdims=True))
        assert (norms > 0.2).any()
        state = recursion.advance(state, W, gradient * np.minimum(1.0, 0.2 / norms), 0.01)
    np.testing.assert_allclose(found, state.theta, rtol=1e-12)
    once, _ = ref.train_uwmmse(
        model, recursion, 0.01, H, H[:1], theta0, np.array([[1, 0]]), centralized=False
    )
    assert np.abs(once - found).max() > 1e-6


def test_centralized_adam_with_epsilon_inside():
    H = published_channels(71, B=6, n=10).reshape(2, 3, 10, 10)
    model, lr, eps, largest = ref.Uwmmse(NOISE, POWER), 1e-2, 1e-8, 0.021
    theta = theta0 = start(model, 72)
    order = np.array([[0, 1], [0, 1]])
    recursion = ref.Recursion("adam", epsilon_form="inside")
    found, results = ref.train_uwmmse(
        model, recursion, lr, H, H, theta0, order, centralized=True, max_norm=largest
    )
    m = v = np.zeros_like(theta)
    seen, norms = [], []
    for t, draw in enumerate(order.ravel(), start=1):
        rates, g = model.shared_pass(H[draw], theta)
        seen.append(rates.sum() / 3)
        norms.append(sqrt(g @ g))
        g = g * min(1.0, largest / norms[-1])
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta - lr * sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + eps)
    np.testing.assert_allclose(found, theta, rtol=1e-10)
    np.testing.assert_allclose([r for r, _ in results], np.reshape(seen, (2, 2)).mean(axis=1), rtol=1e-12)
    assert min(norms) < largest < max(norms)
    final = np.mean([ref.rates(h, model.allocate(h, theta), NOISE).sum(axis=1) for h in H])
    assert results[-1][1] == pytest.approx(final, rel=1e-12)


def test_what_does_not_fit_is_named():
    model = ref.Uwmmse(0.3, 6.0)
    H, theta = strong_channels(81, 2, 3), start(model, 82, nodes=3)
    order = np.zeros((1, 1), int)
    with pytest.raises(InputError, match="H needs the shape"):
        ref.wmmse(H[:, :2], 0.3, 6.0, 1)
    with pytest.raises(InputError, match="v needs the shape"):
        ref.rates(H, np.ones((2, 4)), 0.3)
    with pytest.raises(InputError, match="theta needs the shape"):
        model.local_pass(H, theta[:2])
    with pytest.raises(InputError, match="theta's last axis"):
        model.allocate(H, theta[0, :-1])
    with pytest.raises(InputError, match="unknown mixing"):
        ref.mutual_mixing(H, "uniform")
    with pytest.raises(InputError, match="noise and max_power"):
        ref.Uwmmse(0.0, 5.0)
    with pytest.raises(InputError, match="layers and hidden"):
        ref.Uwmmse(0.1, 5.0, layers=0)
    with pytest.raises(InputError, match="does not fit the training approach d_sgd"):
        ref.train_uwmmse(
            model, ref.Recursion("d_sgd"), 0.1, H[None], H[None], theta[0], order, centralized=True
        )
    with pytest.raises(InputError, match="theta needs the shape"):
        ref.train_uwmmse(
            model, ref.Recursion("d_sgd"), 0.1, H[None], H[None], theta[0], order, centralized=False
        )
