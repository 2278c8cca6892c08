"""Counter-based random generators, keyed by what a draw is for and not by when it happens.

Every draw comes from a Philox generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
whose key is (seed, purpose) and whose counter starts at (item, step). The same draw has the same bits on whatever
rank and in whatever order it is made.
"""

import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray


def generator(seed: int, purpose: str, step: int = 0, item: int = 0) -> np.random.Generator:
    """The generator of one draw.

    Args:
        seed: the experiment's seed, 0 ≤ seed < 2**64.
        purpose: what is drawn, e.g. ``"topology"``, ``"features"``.
        step: mini-batch or epoch number.
        item: node, edge or attempt number.
    """
    key = np.array([seed, zlib.crc32(purpose.encode())], dtype=np.uint64)
    # The lowest word is left to the generator itself: it counts the blocks drawn.
    counter = np.array([0, item, step, 0], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def each(seed: int, purpose: str, step: int, items: Iterable[int]) -> Iterator[np.random.Generator]:
    """The :func:`generator` of every item, one after another: the same object, so that each is used up before the next.

    Where items are many, that is ten times faster than to make them.
    """
    draws = generator(seed, purpose, step)
    philox, fresh = draws.bit_generator, draws.bit_generator.state
    counter = fresh["state"]["counter"]
    for item in items:
        counter[1] = item
        philox.state = fresh
        yield draws


_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85  # added to the words of the key from round to round
_ROUNDS = 10

Words = tuple[NDArray[np.uint64], ...]  # each below 2**32


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Philox4x32-10 of Salmon et al. (2011): four words of 32 bits for each counter.

    Args:
        counter: four arrays of one shape (or that broadcast to one), of words below 2**32.
        key: two words below 2**32.
    """
    a, b, c, d = counter
    first, second = key
    for _ in range(_ROUNDS):
        ab, cd = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            (cd >> _HALF) ^ b ^ np.uint64(first),
            cd & _LOW,
            (ab >> _HALF) ^ d ^ np.uint64(second),
            ab & _LOW,
        )
        first, second = (first + _WEYL[0]) % 2**32, (second + _WEYL[1]) % 2**32
    return a, b, c, d


def _key(seed: int, purpose: str) -> tuple[int, int]:
    """Philox4x32 has a key of 64 bits: seed + crc32(purpose)·⌊2**64/φ⌋, through the finalizer of SplitMix64.

    The finalizer is a bijection, so that with one purpose different seeds have different keys, and with one seed
    different purposes (of different crc32) do.
    """
    mixed = (seed + zlib.crc32(purpose.encode()) * 0x9E3779B97F4A7C15) % 2**64
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
    mixed ^= mixed >> 31
    return mixed % 2**32, mixed >> 32


def uniforms(
    seed: int, purpose: str, step: int, receivers: NDArray[np.int64], senders: NDArray[np.int64]
) -> NDArray[np.float64]:
    """One uniform number in [0, 1), of 53 bits, for each directed link.

    Each comes from a counter (receiver, sender, step) of its own, so it depends neither on which other links are asked
    for, nor on their order.

    Args:
        seed: the experiment's seed, 0 ≤ seed < 2**64.
        purpose: what is drawn, e.g. ``"channel/features/loss"``.
        step: e.g. the number of a round, 0 ≤ step < 2**64.
        receivers: numbers of nodes, 0 ≤ i < 2**32; any shape.
        senders: likewise, of the same shape.
    """
    i, j = receivers.astype(np.uint64), senders.astype(np.uint64)
    low, high = np.full_like(i, step % 2**32), np.full_like(i, step >> 32)
    first, second, _, _ = philox4x32((i, j, low, high), _key(seed, purpose))
    bits = (first << _HALF | second) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53
