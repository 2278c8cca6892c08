"""Counter-based random generators, keyed by what a draw is for and not by when it happens.

Every draw comes from a Philox generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011)
whose key is (seed, purpose) and whose counter starts at (item, step). The same draw has the same bits on whatever
rank and in whatever order it is made.
"""

import zlib

import numpy as np


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
