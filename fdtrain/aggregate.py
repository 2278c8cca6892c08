"""Weighted sums over neighbours: the one operation in which a node's arithmetic meets its neighbours' rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.partition import ExchangePlan

Array = NDArray[np.float64]


class NeighbourSum:
    """out_i = w_ii row_i + Σ_j w_ij row_j, added one after another in ascending order of the global node number.

    The order does not depend on where a node lives, so the bits of the sum do not either: it is SciPy's product of a
    sparse matrix and a dense one, which adds a row's terms as they are stored.
    """

    def __init__(self, plan: ExchangePlan, ids: NDArray[np.int64], indices: NDArray[np.int64]) -> None:
        """Plan the sums over the `plan`'s rows; `ids` [n] and `indices` [m] are global node numbers."""
        n, m = plan.nodes, len(indices)
        later = indices > ids[plan.own]  # than the node itself
        before = np.concatenate([[0], np.cumsum(~later)])[plan.indptr]
        self._order = np.empty(m + n, dtype=np.int64)
        self._order[np.arange(m) + plan.own + later] = np.arange(m)
        self._order[plan.indptr[:-1] + np.arange(n) + np.diff(before)] = m + np.arange(n)
        self._columns = np.concatenate([plan.columns, np.arange(n)])[self._order]
        self._indptr = plan.indptr + np.arange(n + 1)  # every row gained its own node
        self._seen = plan.seen

    def weigh(self, edges: Array, diagonal: Array) -> WeightedSum:
        """The sum with the weights w_ij of the plan's `edges` [m] and w_ii [n]."""
        weights = np.concatenate([edges, diagonal])[self._order]
        return WeightedSum(self._indptr, self._columns, weights, self._seen, edges)

    def per_sample(self, samples: int, *, by_sample: bool = False) -> SampleSum:
        """The sum of rows that hold so many samples, each with weights of its own: a sparse matrix with a row for
        every node and sample. Its sums are in order of nodes or, for long rows faster, of samples."""
        n, lengths = len(self._indptr) - 1, np.diff(self._indptr)
        entry = np.tile(np.arange(len(self._order)), samples)
        sample = np.repeat(np.arange(samples), len(self._order))
        if by_sample:
            lengths = np.tile(lengths, samples)
        else:
            order = np.argsort(np.tile(np.repeat(np.arange(n), lengths), samples), kind="stable")
            entry, sample, lengths = entry[order], sample[order], np.repeat(lengths, samples)
        small: Any = np.int32 if max(len(entry), self._seen * samples) < 2**31 else np.int64
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(small)
        columns = (self._columns[entry] * samples + sample).astype(small)
        return SampleSum(indptr, columns, self._order[entry] * samples + sample, (n, self._seen, samples))


class WeightedSum:
    """A :class:`NeighbourSum` with its weights; :meth:`into` binds it to the arrays that it works on."""

    def __init__(
        self, indptr: NDArray[np.int64], columns: NDArray[np.int64], weights: Array, seen: int, edges: Array
    ) -> None:
        self._csr = indptr, columns, weights
        self.edges = edges  # [m] in the order of the neighbourhood
        self._shape = len(indptr) - 1, seen

    def into(self, rows: Array, out: Array) -> Callable[[], None]:
        """An action that adds the sums of `rows` [seen, k] to `out` [n, k]; both must be contiguous.

        Raises:
            ValueError: an array of another shape, or not contiguous.
        """
        n, seen = self._shape
        k = rows.shape[1]
        if (
            rows.shape != (seen, k)
            or out.shape != (n, k)
            or not (rows.flags.c_contiguous and out.flags.c_contiguous)
        ):
            raise ValueError(
                f"sums from {rows.shape} to {out.shape}: need contiguous [{seen}, k] and [{n}, k]"
            )
        return partial(_csr_matvecs, n, seen, k, *self._csr, rows.reshape(-1), out.reshape(-1))

    def __call__(self, rows: Array) -> Array:
        """The sums of `rows` [seen, k]: [n, k]."""
        return self.of(np.ascontiguousarray(rows), 0, self._shape[0])

    def of(self, rows: Array, first: int, stop: int) -> Array:
        """Those of the nodes `first` … `stop` − 1, [stop − first, k]; `rows` are contiguous."""
        (indptr, columns, weights), k = self._csr, rows.shape[1]
        out = np.zeros((stop - first, k))
        part = indptr[first : stop + 1]
        _csr_matvecs(
            stop - first, self._shape[1], k, part, columns, weights, rows.reshape(-1), out.reshape(-1)
        )
        return out

    @property
    def csr(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """Row pointers [n + 1], columns and weights, those of a row in the order in which they are added."""
        return self._csr

    def same_as(self, other: WeightedSum) -> bool:
        """Whether the weights are equal."""
        return np.array_equal(self._csr[2], other._csr[2])

    def assign(self, other: WeightedSum) -> None:
        """Take the weights of `other`, on the same links, wherever this sum is bound already."""
        np.copyto(self._csr[2], other._csr[2])
        self.edges = other.edges


class SampleSum:
    """Weighted sums with weights of their own for every sample; see :meth:`NeighbourSum.per_sample`."""

    def __init__(
        self,
        indptr: NDArray[np.int32 | np.int64],
        columns: NDArray[np.int32 | np.int64],
        source: NDArray[np.int64],
        shape: tuple[int, int, int],
    ) -> None:
        """`source` are the places of the entries' weights among those of all edges, then of all nodes [m + n, w];
        `shape` is (n, seen, w)."""
        self._indptr, self._columns, self._source = indptr, columns, source
        self._shape = shape

    def arrange(self, edges: Array, diagonal: Array, out: Array) -> None:
        """Write the weights of `edges` [m, w] and nodes [n, w] to `out` [entries], as :meth:`into` wants them."""
        np.concatenate([edges, diagonal]).take(self._source, out=out, mode="clip")

    @property
    def entries(self) -> int:
        """How many weights there are."""
        return len(self._columns)

    def into(self, rows: Array, out: Array, weights: Sequence[Array]) -> Callable[[int], None]:
        """An action that, for a wave, sets `out` to the sums of `rows`, with `weights[wave]`.

        Args:
            rows: [seen, w·k], the samples one after another; columns of a wider array are copied.
            out: contiguous, [n, w, k] or, by samples, [w, n, k].
            weights: [entries] per wave.
        """
        n, seen, w = self._shape
        k = out.shape[-1]
        contiguous = rows if rows.flags.c_contiguous else np.empty(rows.shape)
        flat_rows, flat_out = contiguous.reshape(-1), out.reshape(-1)
        indptr, columns = self._indptr, self._columns

        def add(wave: int) -> None:
            if contiguous is not rows:
                np.copyto(contiguous, rows)
            out.fill(0.0)
            _csr_matvecs(n * w, seen * w, k, indptr, columns, weights[wave], flat_rows, flat_out)

        return add


def edge_sums(indptr: NDArray[np.int64], values: Array) -> Array:
    """Sums over every node's edges, one after another: `values` [m, w] → [n, w]; `indptr` [n + 1]."""
    n, (edges, w) = len(indptr) - 1, values.shape
    out = np.zeros((n, w))
    everything = np.arange(edges), np.ones(edges)
    _csr_matvecs(n, edges, w, indptr, *everything, np.ascontiguousarray(values).reshape(-1), out.reshape(-1))
    return out


def _load_sparsetools() -> Any:
    """SciPy's compiled sparse kernels alone: to import ``scipy.sparse`` takes 0.15 s, a hundred times in a pure run."""
    name = "scipy.sparse._sparsetools"
    scipy = find_spec("scipy")
    if name not in sys.modules and scipy is not None and scipy.submodule_search_locations:
        folder = Path(scipy.submodule_search_locations[0]) / "sparse"
        spec = PathFinder.find_spec(name, [str(folder)])
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    from scipy.sparse import _sparsetools

    return _sparsetools


_csr_matvecs = _load_sparsetools().csr_matvecs
