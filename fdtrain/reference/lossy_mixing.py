"""Mixing with rows that may be missing: what every node keeps, on every link, of the rows of its neighbours.

Arrays over links [V, V, ·] have the receiver first. The n numbers of a row are treated one by one, so that the same
formulas hold for slices, which are lost one by one, and for consensus, in which all numbers of a row have one fate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fdtrain.reference.fates import Mask
from fdtrain.reference.model import Array
from fdtrain.reference.rounding import nearest

LEAST = 1e-100  # a weight that would be less stays what it was, and so does the row


class _Owed(NamedTuple):
    """Mass of numbers `span` sent in round R that their receivers have not taken yet, where `open` [V, V, ·]."""

    R: int
    span: slice
    open: Mask
    rows: Array  # W_ij ω_j row_j, [V, V, ·]
    weights: Array  # W_ij ω_j


class Mixing:
    """mix(X) of n numbers per node under one of the policies of parameters, mixing after mixing.

    A row of numbers is sent (``send``), arrives or not (``arrive``), and is used (``mix``).

    push_sum: what j sent to i is W_ij ω_j row_j; what i has not taken of it is owed. A message of round R brings, of
    the numbers that it holds, all that was owed up to R: messages are running sums, of which i knows the last.
    """

    def __init__(self, policy: str, nodes: int, numbers: int, kind: str = "float64") -> None:
        """`kind`: the type of numbers in which rows travel; what rounding takes from its own, a node adds again."""
        links = (nodes, nodes, numbers)
        self._policy, self._links, self._kind = policy, links, kind
        self._held: dict[
            int, tuple[Array, Mask]
        ] = {}  # of a step of consensus, 0 of slices: rows, where any came
        self.weights = np.ones((nodes, numbers))  # ω, of every number
        self._owed: list[_Owed] = []
        self._newest = np.full(links, -1)  # the last round in which something was sent that has arrived

    def send(self, R: int, start: int, rows: Array, W: Array, links: Mask) -> None:
        """Send the numbers from `start` of rows [V, ·] in round R on `links` [V, V]: those of nodes that are up."""
        if self._policy != "push_sum":
            return
        span = slice(start, start + rows.shape[1])
        share, sent = W[:, :, None], self.weights[:, span]
        weights = share * nearest(sent, self._kind)[None]
        masses = share * nearest(sent * rows, self._kind)[None]
        wide = np.broadcast_to(links[:, :, None], weights.shape).copy()
        self._owed.append(_Owed(R, span, wide, masses, weights))

    def arrive(self, where: Mask, R: int, step: int, start: int, rows: Array) -> None:
        """What was sent in round R reaches the receivers `where` [V, V]."""
        span = slice(start, start + rows.shape[1])
        if self._policy == "hold":
            rows = nearest(rows, self._kind)
            held, any_came = self._held.setdefault(
                step, (np.zeros(self._links), np.zeros(self._links, dtype=bool))
            )
            held[:, :, span] = np.where(where[:, :, None], rows, held[:, :, span])
            any_came[:, :, span] |= where[:, :, None]
        newest = self._newest[:, :, span]
        newest[where] = np.maximum(newest[where], R)

    def forget(self, gone: Mask) -> None:
        """Hold nothing on the links `gone` [V, V] any more; what is owed on them stays so."""
        for held, any_came in self._held.values():
            held[gone], any_came[gone] = 0.0, False

    def mix(self, W: Array, rows: Array, heard: Mask, step: int, up: Mask) -> Array:
        """The mixed rows [V, n]; `heard` [V, V, n] are the numbers in time. Nodes that are not `up` keep theirs."""
        own = np.diag(W)[:, None]
        if self._policy == "push_sum":
            mass, weights = (self._own(own, all_) for all_ in (self.weights * rows, self.weights))
            for owed in self._owed:
                taken = owed.open & (self._newest[:, :, owed.span] >= owed.R) & up[:, None, None]
                mass[:, owed.span] += np.where(taken, owed.rows, 0.0).sum(axis=1)
                weights[:, owed.span] += np.where(taken, owed.weights, 0.0).sum(axis=1)
                owed.open[taken] = False
            self._owed = [owed for owed in self._owed if owed.open.any()]
            taking = up[:, None] & (weights >= LEAST)
            self.weights = np.where(taking, weights, self.weights)
            return np.where(taking, mass / np.where(taking, weights, 1.0), rows)
        sent = nearest(rows, self._kind)
        instead = np.broadcast_to(sent[:, None], self._links)  # the receiver's own
        if self._policy == "hold" and step in self._held:
            held, any_came = self._held[step]
            instead = np.where(any_came, held, instead)
        used = np.where(heard, sent, instead)
        off = W - np.diag(np.diag(W))
        mixed = self._own(own, rows) + np.einsum("ij,ijn->in", off, used)
        return np.where(up[:, None], mixed, rows)

    def _own(self, weight: Array, numbers: Array) -> Array:
        """A node's own share, with what rounding took."""
        sent = nearest(numbers, self._kind)
        return weight * sent + (numbers - sent)

    def total(self, rows: Array) -> tuple[Array, Array]:
        """Mass Σ ω row and weight Σ ω of every number [n], at nodes that have `rows` [V, n] and on links together."""
        mass, weights = (self.weights * rows).sum(axis=0), self.weights.sum(axis=0)
        for owed in self._owed:
            mass[owed.span] += np.where(owed.open, owed.rows, 0.0).sum(axis=(0, 1))
            weights[owed.span] += np.where(owed.open, owed.weights, 0.0).sum(axis=(0, 1))
        return mass, weights
