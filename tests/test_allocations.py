"""What learned power allocation is compared with, against plain loops."""

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from fdtrain.tasks import allocations
from fdtrain.tasks.channel_data import SyntheticChannels
from fdtrain.tasks.power_allocation import PowerAllocation

Array = NDArray[np.float64]
NOISE, PMAX = 10**-13.687, 5.0


def channels(pairs: int = 4, batch: int = 6, t: int = 0) -> Array:
    return SyntheticChannels(PowerAllocation(pairs=pairs, max_path_loss=120.0), batch, 3).channels(t)


def plain_rate(H: Array, v: Array, noise: float) -> float:
    rate = 0.0
    for i in range(len(v)):
        interference = sum(H[j, i] ** 2 * v[j] ** 2 for j in range(len(v)) if j != i)
        rate += math.log2(1 + H[i, i] ** 2 * v[i] ** 2 / (noise + interference))
    return rate


def plain_wmmse(H: Array, noise: float, iterations: int) -> list[float]:
    """SPEC §6 B as it is written, with a = 1 and b = 0."""
    nodes = range(len(H))
    v = [math.sqrt(PMAX)] * len(H)
    for _ in range(iterations):
        heard = [noise + sum(H[j, i] ** 2 * v[j] ** 2 for j in nodes) for i in nodes]
        u = [H[i, i] * v[i] / heard[i] for i in nodes]
        w = [1 / (1 - u[i] * H[i, i] * v[i]) for i in nodes]
        for i in nodes:
            harm = sum(H[i, j] ** 2 * u[j] ** 2 * w[j] for j in nodes)
            best = H[i, i] * u[i] * w[i] / harm if harm else 0.0
            v[i] = min(max(best, 0.0), math.sqrt(PMAX))
    return v


@pytest.mark.parametrize("pairs", [1, 2, 5])
@pytest.mark.parametrize("iterations", [0, 1, 4, 100])
def test_wmmse_is_the_plain_loop(pairs: int, iterations: int) -> None:
    H = channels(pairs)
    v = allocations.wmmse(H, NOISE, PMAX, iterations)
    for sample, found in zip(H, v, strict=True):
        expected = plain_wmmse(sample, NOISE, iterations)
        # 1 − uHv cancels in the plain loop: it has about this much precision left
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    again = allocations.wmmse(H, NOISE, PMAX, iterations, start=v)
    np.testing.assert_array_equal(again, allocations.wmmse(H, NOISE, PMAX, 2 * iterations))


def test_wmmse_where_nothing_cancels_is_the_plain_loop_to_the_last_digits() -> None:
    H = np.random.default_rng(0).uniform(0.1, 1, (8, 6, 6))
    expected = [plain_wmmse(sample, 0.3, 20) for sample in H]
    np.testing.assert_allclose(allocations.wmmse(H, 0.3, PMAX, 20), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_sum_rate_is_the_plain_loop(pairs: int) -> None:
    H = channels(pairs)
    v = np.random.default_rng(0).uniform(0, 2, H.shape[:2])
    expected = [plain_rate(*sample, NOISE) for sample in zip(H, v, strict=True)]
    np.testing.assert_allclose(allocations.sum_rate(H, v, NOISE), expected, rtol=1e-12)


def test_the_rate_of_one_pair_alone() -> None:
    rate = allocations.sum_rate(np.full((1, 1, 1), 0.5), np.full((1, 1), 2.0), 0.25)
    assert rate.tolist() == pytest.approx([math.log2(5)], rel=1e-15)


def test_wmmse_gets_better_with_iterations_on_average() -> None:
    H = channels(25, 200)
    rates = [
        allocations.sum_rate(H, allocations.wmmse(H, NOISE, PMAX, k), NOISE).mean()
        for k in (0, 1, 2, 4, 8, 20, 100)
    ]
    assert all(later > earlier for earlier, later in pairwise(rates)), rates
    assert rates[-1] > 2 * rates[0]


def test_an_allocation_keeps_to_the_limit() -> None:
    H = channels(25, 20)
    v = allocations.wmmse(H, NOISE, PMAX, 50)
    assert v.shape == (20, 25)
    assert (v >= 0).all()
    assert v.max() == math.sqrt(PMAX)


def test_a_pair_without_its_own_link_sends_nothing() -> None:
    H = channels(5).copy()
    H[:, 2, 2] = 0.0
    H[0] = 0.0
    with np.errstate(all="raise", under="ignore"):
        for iterations in (1, 4, 100):
            v = allocations.wmmse(H, NOISE, PMAX, iterations)
            assert np.isfinite(v).all()
            assert not v[:, 2].any()
            assert not v[0].any()
            assert v[1:].any(axis=1).all()
        assert np.isfinite(allocations.sum_rate(H, v, NOISE)).all()


def test_a_link_a_million_times_better_than_the_noise() -> None:
    """1 − uHv is 0 in float64; the pair alone should send with all it has."""
    H = np.full((1, 1, 1), 1e3)
    with np.errstate(all="raise"):
        v = allocations.wmmse(H, 1e-14, PMAX, 10)
    assert v.tolist() == [[pytest.approx(math.sqrt(PMAX), rel=1e-12)]]


def test_full_and_random_power() -> None:
    H = channels(50, 200)
    np.testing.assert_array_equal(allocations.full_power(H, PMAX), np.full((200, 50), math.sqrt(PMAX)))
    v = allocations.random_power(H, PMAX, np.random.default_rng(0))
    power = np.sort((v**2).ravel()) / PMAX
    assert v.shape == (200, 50)
    np.testing.assert_allclose(power, np.linspace(0, 1, power.size), atol=0.02)  # uniform: the power


def test_baselines_are_means_over_the_batch() -> None:
    H = channels(8, 16)
    made: Callable[[], np.random.Generator] = lambda: np.random.default_rng(4)  # noqa: E731
    found = allocations.baselines(H, NOISE, PMAX, made())
    expected = {
        "wmmse_4": allocations.wmmse(H, NOISE, PMAX, 4),
        "wmmse_100": allocations.wmmse(H, NOISE, PMAX, 100),
        "full_power": allocations.full_power(H, PMAX),
        "random_power": allocations.random_power(H, PMAX, made()),
    }
    assert list(found) == list(expected)
    for name, v in expected.items():
        assert type(found[name]) is float
        assert found[name] == allocations.sum_rate(H, v, NOISE).mean()
    assert found["wmmse_100"] > found["wmmse_4"] > found["full_power"]
