"""Data bundles: bring your own graph, features, labels, initial parameters and sample order (SPEC §8).

A row of ``order`` has the indices of an epoch, of its N samples or its M mini-batches. An index may stand in it more
than once, and others not at all: that is sampling with replacement.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.layers.gcnn import Gcnn
from fdtrain.npz import Archive
from fdtrain.tasks.base import Order, Samples

Array = NDArray[np.float64]


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file; nothing in it is ever executed.

    Raises:
        InputError: no such file, not an ``.npz``, damaged, or with pickled objects.
    """
    if not os.path.isfile(path):  # Path.is_file raises on a name that is too long
        raise InputError(f"bundle {path}: no such file")
    try:
        with path.open("rb") as stream:
            return dict(Archive(stream))
    except OSError as error:
        raise InputError(f"bundle {path}: cannot be read: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"bundle {path}: {error}") from None


class Bundle:
    """What the bundles of all tasks have in common: checked arrays, and the order of what they hold by epoch."""

    def __init__(self, path: str | Path, seed: int) -> None:
        """Read the file; what is in it is the business of the tasks' own bundles.

        Raises:
            InputError: as :func:`read_arrays`.
        """
        self._path, self._seed = Path(path), seed
        self._arrays = read_arrays(self._path)
        self._ordered = 0  # how many there are of what an epoch takes in some order
        self._orders: Order | None = None  # [epochs, that many]

    def check_epochs(self, epochs: int) -> None:
        """Refuse more epochs than the bundle has orders for."""
        if self._orders is not None and epochs > len(self._orders):
            raise InputError(
                f"training.epochs: {epochs}, but the bundle {self._path} has the order of {len(self._orders)} epochs; "
                "lower training.epochs or leave 'order' out of the bundle"
            )

    def _order(self, epoch: int) -> Order:
        """The epoch's row of ``order``, or a permutation by the seed."""
        if self._orders is None:
            drawn: Order = rng.generator(self._seed, "order", epoch).permutation(self._ordered)
            return drawn
        given: Order = self._orders[epoch]
        return given

    def _read_order(self, count: int, letter: str) -> None:
        """Take ``order`` [epochs, `count`], where there is one; `letter` is the count's name in messages."""
        self._ordered = count
        order = self._arrays.get("order")
        if order is None:
            return
        if order.ndim != 2 or order.shape[1] != count or not len(order) or order.dtype.kind not in "iu":
            wanted = f"[epochs, {letter}] with {letter} = {count}"
            raise self._error(
                "order", f"must be integers of shape {wanted}, found {order.dtype} {list(order.shape)}"
            )
        outside = np.argwhere((order < 0) | (order >= count))
        if len(outside):
            epoch, place = outside[0]
            raise self._error(
                "order", f"epoch {epoch} has index {order[epoch, place]}, must be 0 … {count - 1}"
            )
        self._orders = order.astype(np.int64)

    def _take(self, name: str, *shape: int | str | None, advice: str = "") -> Array:
        """The array `name` as float64, contiguous.

        None in `shape` stands for any size ≥ 1, and so does a letter, the same for every time it is used.
        `advice` ends the messages of errors.
        """
        wanted = "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
        if name not in self._arrays:
            raise self._error(name, f"is missing; it must have the shape {wanted}")
        array, advice = self._arrays[name], advice and f"; {advice}"
        if array.dtype.kind not in "iuf":
            raise self._error(name, f"must be numbers, found {array.dtype}{advice}")
        if not _fits(array.shape, shape):
            raise self._error(name, f"must have the shape {wanted}, found {list(array.shape)}{advice}")
        with np.errstate(all="ignore"):  # what overflows is not finite, and reported as such
            values = np.ascontiguousarray(array, dtype=np.float64)
        finite = np.isfinite(values)
        if not finite.all():
            bad = np.argwhere(~finite)[0]
            raise self._error(name, f"must be finite, found {values[tuple(bad)]} at {bad.tolist()}{advice}")
        return values

    def _error(self, name: str, problem: str) -> InputError:
        return InputError(f"bundle {self._path}: {name!r} {problem}")


def _fits(found: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> bool:
    """Whether an array's shape is the one that is wanted, as :meth:`Bundle._take` reads it."""
    sizes: dict[str, int] = {}
    return len(found) == len(wanted) and all(
        size >= 1
        and (want is None or size == (sizes.setdefault(want, size) if isinstance(want, str) else want))
        for size, want in zip(found, wanted, strict=True)
    )


class RegressionBundle(Bundle):
    """The samples of a bundle for node regression, checked against the model."""

    streamed = False

    def __init__(self, path: str | Path, model: Gcnn, seed: int) -> None:
        """Read and check the bundle.

        Raises:
            InputError: an array is missing, of a wrong shape or type, or not finite; an order index is out of range.
        """
        super().__init__(path, seed)
        self._model = model
        g_in, g_out = model.sizes[0], model.sizes[-1]
        x_train = self._take("x_train", None, None, g_in)
        self.train_samples, self.nodes = x_train.shape[:2]
        self._train = Samples(x_train, self._take("y_train", self.train_samples, self.nodes, g_out))
        x_test = self._take("x_test", None, self.nodes, g_in)
        self.test_samples = len(x_test)
        self._test = Samples(x_test, self._take("y_test", self.test_samples, self.nodes, g_out))
        self._theta = self._read_theta()
        self._read_order(self.train_samples, "N")
        known = {"x_train", "y_train", "x_test", "y_test", "edges", "order", *self._parameters()[1]}
        unknown = sorted(set(self._arrays) - known)
        if unknown:
            raise self._error(unknown[0], f"is not an array of this task; known: {', '.join(sorted(known))}")

    def graph(self) -> Graph:
        """The bundle's ``edges`` on its nodes.

        Raises:
            InputError: no edges, or edges that do not make a graph.
        """
        edges = self._arrays.get("edges")
        if edges is None:
            raise self._error("edges", "is missing; topology.kind: bundle needs it, [M, 2]")
        if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iu":
            raise self._error(
                "edges", f"must be integers of shape [M, 2], found {edges.dtype} {list(edges.shape)}"
            )
        try:
            return Graph.from_edges(self.nodes, edges)
        except InputError as error:
            raise self._error("edges", str(error)) from None

    def recipe(self, graph: Graph) -> None: ...

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        return self._train, self._test

    def order(self, epoch: int) -> Order:
        return self._order(epoch)

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        raise NotImplementedError("a bundle is served at once")

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        raise NotImplementedError("a bundle is served at once")

    def baselines(self, t: int) -> Mapping[str, float]:
        return {}

    def test_baselines(self, k: int) -> Mapping[str, float]:
        return {}

    def theta(self) -> Array | None:
        return self._theta

    def _parameters(self) -> tuple[Array, dict[str, Array]]:
        """An empty θ [p], and views of it by the names that they have in a bundle."""
        theta = np.zeros((1, self._model.num_parameters))
        return theta[0], {name.lower(): view[0] for name, view in self._model.views(theta).items()}

    def _read_theta(self) -> Array | None:
        theta, views = self._parameters()
        if not any(name in self._arrays for name in views):
            return None
        for name, view in views.items():
            view[...] = self._take(name, *view.shape)
        return theta
