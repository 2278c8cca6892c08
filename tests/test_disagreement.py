"""The disagreement: exact, in the same bits for every packing, without all of θ in one place; θ block by block."""

from fractions import Fraction

import numpy as np
import pytest

from fdtrain import scans
from fdtrain.disagreement import MAX_NODES, Sums, mean_of, root_mean_square, squared_distances, sums_of
from fdtrain.scans import Largest

Array = np.ndarray


def disagreement(theta: Array, *stops: int) -> tuple[Array, float]:
    """θ̄ and the disagreement, of nodes that are cut into ranks at the stops."""
    parts = np.split(theta, stops)
    mean = mean_of([sums_of(part) for part in parts], len(theta))
    return mean, root_mean_square(np.concatenate([squared_distances(part, mean) for part in parts]))


def spread(seed: int, nodes: int = 40, p: int = 6) -> Array:
    """Numbers of many sizes; some nodes are all 0."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(nodes, p)) * 10.0 ** rng.integers(-30, 5, (nodes, p))
    theta[rng.random(nodes) < 0.2] = 0.0
    return theta


CUTS = [(), (1,), (20,), (0, 0, 39, 40), (7, 8, 9, 30), tuple(range(1, 40))]


@pytest.mark.parametrize("scale", [1.0, 1e-290, 1e290, 2.0**-36, 2.0**35, 2.0**36])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_bits_for_every_packing(seed: int, scale: float) -> None:
    with np.errstate(under="ignore"):
        theta = spread(seed) * scale
    mean, found = disagreement(theta)
    for stops in CUTS[1:]:
        other, value = disagreement(theta, *stops)
        assert other.tobytes() == mean.tobytes(), stops
        assert value.hex() == found.hex(), stops
    order = np.random.default_rng(seed).permutation(len(theta))
    assert mean_of([sums_of(theta[order])], len(theta)).tobytes() == mean.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_is_that_of_exact_arithmetic(seed: int) -> None:
    theta = spread(seed)
    mean, found = disagreement(theta, 5, 11)
    exact = [sum(map(Fraction, column)) / len(theta) for column in theta.T.tolist()]
    largest = np.abs(theta).max()
    for value, wanted in zip(mean.tolist(), exact, strict=True):
        assert (
            abs(Fraction(value) - wanted)
            <= Fraction(float(largest)) * Fraction(2) ** -72 + abs(wanted) * Fraction(2) ** -51
        )
    direct = np.sqrt(np.mean(np.sum(np.square(theta - theta.mean(axis=0)), axis=1)))
    assert found == pytest.approx(direct, rel=1e-13)


def test_nodes_that_agree() -> None:
    row = np.random.default_rng(0).normal(size=220)
    mean, found = disagreement(np.tile(row, (77, 1)), 3, 50)
    assert mean == pytest.approx(row, rel=1e-15)
    assert found <= 1e-14
    assert disagreement(np.zeros((5, 3)), 2)[1] == 0.0
    mean, found = disagreement(np.array([[0.0, 0.0], [6.0, 8.0]]), 1)
    assert (mean.tolist(), found) == ([3.0, 4.0], 5.0)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_parameters_that_are_not_finite(bad: float) -> None:
    theta = spread(0)
    theta[33, 2] = bad
    mean, found = disagreement(theta, 10, 20)
    assert np.isnan(mean).all()
    assert np.isnan(found)


def test_more_nodes_than_integers_can_count() -> None:
    with pytest.raises(ValueError, match="of at most 134,217,728 nodes, found 134,217,729"):
        mean_of([Sums(0, np.zeros((3, 1), dtype=np.int64), finite=True)], MAX_NODES + 1)


LONG = (3 * scans.BLOCK // 7 + 5, 7)  # more than three blocks


def test_blocks_are_all_rows_in_their_order() -> None:
    rows = np.arange(float(np.prod(LONG))).reshape(LONG)
    parts = [*scans.blocks(rows)]
    assert len(parts) > 3
    assert all(np.shares_memory(part, rows) and part.size <= scans.BLOCK for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    assert [*scans.blocks(np.zeros((0, 3)))] == []


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("place", [(0, 0), (LONG[0] - 1, 6), (LONG[0] // 2, 3)])
def test_what_is_not_finite_is_found(bad: float, place: tuple[int, int]) -> None:
    rows = np.ones(LONG)
    assert scans.is_finite(rows)
    with pytest.raises(ValueError, match="finite"):
        scans.first_not_finite(rows)
    rows[place] = bad
    assert not scans.is_finite(rows)
    assert scans.first_not_finite(rows) == place
    assert scans.largest(rows)[1:] == place
    assert scans.largest(rows).size == np.inf


def test_large_numbers_are_finite_although_their_sum_is_not() -> None:
    assert scans.is_finite(np.full((3, 5), 1e308))


def test_the_largest_by_size_and_the_first_that_has_it() -> None:
    rows = np.zeros(LONG)
    assert scans.largest(rows) == Largest(0.0, 0, 0)
    rows[LONG[0] - 2, 4] = rows[5, 1] = -3.0
    rows[LONG[0] - 1, 0] = 2.0
    assert scans.largest(rows) == Largest(3.0, 5, 1)
    parts = [Largest(3.0, 9, 0), Largest(3.0, 7, 2), Largest(1.0, 0, 0), Largest(-1.0, 0, 0)]
    assert scans.largest_of(parts) == Largest(3.0, 7, 2)
    assert scans.largest_of([*parts, Largest(np.inf, 8, 1)]).node == 8
