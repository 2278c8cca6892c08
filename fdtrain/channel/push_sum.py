"""The nodes' side of push-sum: rows with weights, so that what is lost for a while does not bias their mean."""

from __future__ import annotations

import numpy as np

from fdtrain.channel.spec import Array, Flags

LEAST = 1e-100  # a weight below it stays what it was: who hears nobody for long would divide 0 by 0


class Weights:
    """ω_i of this rank's nodes, at first 1: a node sends ω_i row_i and ω_i, and divides the sum of the first by that
    of the second (Kempe, Dobra and Gehrke, FOCS 2003; in training, Assran et al., ICML 2019).

    Sums of weights are divided by Σ_j W_ij, which is 1 but for rounding: as long as nothing is lost, ω is exactly 1,
    and the bits are those without push-sum.
    """

    def __init__(self, nodes: int, rows: int, *, along: bool) -> None:
        """For `rows` numbers per node, in slices `along` with a weight each, or whole with one."""
        self._rows, self._along = rows, along
        self.values = np.ones((nodes, rows if along else 1))  # ω
        self._whole = np.ones((nodes, 1))  # Σ_j W_ij
        self._sent = np.zeros((nodes, rows))

    @property
    def travelling(self) -> int:
        """Numbers that travel."""
        return self._rows + self.values.shape[1]

    def split(self, numbers: Array) -> tuple[Array, Array]:
        """Masses [n, rows] and weights, of what travels [n, travelling]: views."""
        if self._along:
            return numbers[:, ::2], numbers[:, 1::2]
        return numbers[:, : self._rows], numbers[:, self._rows :]

    def weigh(self, whole: Array) -> None:
        """Take the sums of W's rows [n], as they are summed when mixing."""
        self._whole = whole[:, None]

    def send(self, rows: Array, out: Array) -> None:
        """Write what travels of `rows` [n, rows] to `out` [n, travelling]."""
        masses, weights = self.split(out)
        masses[...], weights[...] = self.values * rows, self.values
        self._sent = rows

    def send_again(self, numbers: Array) -> None:
        """What was mixed once, `numbers` [n, travelling], is going to be mixed again."""
        _, weights = self.split(numbers)
        weights /= self._whole

    def receive(self, mixed: Array, down: Flags) -> Array:
        """The mixed rows [n, rows] from what was mixed [n, travelling]; `down` nodes [n] keep their weights."""
        masses, weights = self.split(mixed)
        weights = weights / self._whole
        kept = weights < LEAST
        rows: Array = np.where(kept, self._sent, masses / np.where(kept, 1.0, weights))
        self.values = np.where(kept | down[:, None], self.values, weights)
        return rows
