"""The nodes' side of push-sum: rows with weights, so that what is lost for a while does not bias their mean."""

from __future__ import annotations

import numpy as np

from fdtrain.channel.spec import Array, Flags


class Weights:
    """ω_i = 1 + δ_i of this rank's nodes: a node sends ω_i row_i and δ_i, and divides the sum of the first by that of
    the weights (Kempe, Dobra and Gehrke, FOCS 2003; in training, Assran et al., ICML 2019).

    δ travels, and not ω, since it stays exactly 0 as long as nothing is lost: the bits are those without push-sum.
    """

    def __init__(self, nodes: int, rows: int, *, along: bool) -> None:
        """For `rows` numbers per node, in slices `along` with a weight each, or whole with one."""
        self._rows, self._along = rows, along
        self.deficit = np.zeros((nodes, rows if along else 1))  # δ

    @property
    def unit(self) -> Array:
        """What of a row that travels is a weight, 1 or 0."""
        if self._along:
            return np.tile([0.0, 1.0], self._rows)
        return np.concatenate([np.zeros(self._rows), [1.0]])

    def send(self, rows: Array, out: Array) -> None:
        """Write what travels of `rows` [n, rows] to `out` [n, travelling]."""
        mass = (1.0 + self.deficit) * rows
        if self._along:
            out[:, ::2], out[:, 1::2] = mass, self.deficit
        else:
            out[:, : self._rows], out[:, self._rows :] = mass, self.deficit

    def receive(self, mixed: Array, down: Flags) -> Array:
        """The mixed rows [n, rows] from the mixed masses [n, travelling]; `down` nodes [n] keep their weights."""
        mass, deficit = (
            (mixed[:, ::2], mixed[:, 1::2]) if self._along else np.split(mixed, [self._rows], axis=1)
        )
        rows: Array = mass / (1.0 + deficit)
        self.deficit = np.where(down[:, None], self.deficit, deficit)
        return rows
