"""Uniform numbers for links: Philox4x32-10, its keys, and that draws depend on nothing else."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from fdtrain.rng import philox4x32, uniforms

# Random123's known answers (kat_vectors): counter, key, output of philox4x32-10.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: str, key: str, answer: str) -> None:
    of = tuple(np.array([word], dtype=np.uint64) for word in words(counter))
    first, second = words(key)
    assert [int(word[0]) for word in philox4x32(of, (first, second))] == words(answer)


def grid(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    i, j = np.meshgrid(np.arange(n, dtype=np.int64), np.arange(n, dtype=np.int64), indexing="ij")
    return i, j


def test_numbers_are_uniform() -> None:
    u = uniforms(7, "channel/features/loss", 3, *grid(500)).ravel()
    assert u.min() >= 0.0
    assert u.max() < 1.0
    counts = np.bincount((u * 100).astype(int), minlength=100)
    chi2 = ((counts - u.size / 100) ** 2).sum() / (u.size / 100)
    assert abs(chi2 - 99) < 5 * np.sqrt(2 * 99)
    low_bits = (u * 2.0**53).astype(np.uint64) & np.uint64(1)
    assert abs(low_bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(u.size)


def test_neighbouring_draws_are_uncorrelated() -> None:
    n, bound = 400, 5.0 / np.sqrt(400 * 399)
    i, j = grid(n)
    u = uniforms(7, "channel/features/loss", 3, i, j)
    others = {
        "next receiver": (u[:-1], u[1:]),
        "next sender": (u[:, :-1], u[:, 1:]),
        "next step": (u, uniforms(7, "channel/features/loss", 4, i, j)),
        "much later step": (u, uniforms(7, "channel/features/loss", 3 + 2**32, i, j)),
        "next seed": (u, uniforms(8, "channel/features/loss", 3, i, j)),
        "other purpose": (u, uniforms(7, "channel/backward/loss", 3, i, j)),
        "the other way": (u[i < j], u.T[i < j]),
    }
    for name, (a, b) in others.items():
        bound = 5.0 / np.sqrt(a.size)
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < bound, name
        assert not np.isin(a, b).all(), name


def test_a_draw_depends_on_its_link_alone() -> None:
    i, j = (a.ravel() for a in grid(30))
    together = uniforms(11, "channel/parameters/delay", 12345, i, j)
    order = np.random.default_rng(0).permutation(i.size)
    np.testing.assert_array_equal(
        uniforms(11, "channel/parameters/delay", 12345, i[order], j[order]), together[order]
    )
    for k in order[:50]:
        alone = uniforms(11, "channel/parameters/delay", 12345, i[k : k + 1], j[k : k + 1])
        assert alone[0] == together[k]


def test_seeds_purposes_and_steps_have_numbers_of_their_own() -> None:
    i = j = np.zeros(1, dtype=np.int64)
    fields, whats = ("message", "features", "backward", "parameters"), ("loss", "delay", "state")
    purposes = [f"channel/{field}/{what}" for field in fields for what in whats]
    seeds, steps = (0, 1, 2**32, 2**64 - 1), (0, 1, 2**32, 2**64 - 1)
    drawn = {
        float(uniforms(seed, purpose, step, i, j)[0])
        for seed, purpose, step in itertools.product(seeds, purposes, steps)
    }
    assert len(drawn) == len(purposes) * 16


def test_no_link_gives_no_number() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert uniforms(0, "channel/message/loss", 0, none, none).shape == (0,)
