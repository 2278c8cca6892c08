"""Channels for power allocation, drawn by the recipe (SPEC §6 B) or from a bundle (§8), and how they are served.

H[b, i, j] is the amplitude from transmitter i to receiver j in sample b. The B samples of a mini-batch belong together:
what has an order is the mini-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain import rng
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.tasks.allocations import baselines
from fdtrain.tasks.base import Order, Samples
from fdtrain.tasks.bundle import Bundle
from fdtrain.tasks.channels import Drawing
from fdtrain.tasks.power_allocation import PowerAllocation
from fdtrain.topology.channels import ChannelTopology

Array = NDArray[np.float64]
Shapes = Sequence[tuple[str, tuple[int, ...]]]  # names of parameters and their shapes

_ADVICE = "save the amplitudes |H| of n transmitters (rows) to as many receivers (columns), 0 for no link"


class ChannelService(Protocol):
    """Serves channels mini-batch by mini-batch. It runs on rank 0, which cuts them into the nodes' own rows."""

    pairs: int  # n
    batch: int  # B, samples of a mini-batch
    minibatches: int  # M, per epoch
    test_minibatches: int
    test_batch: int  # samples of a test mini-batch
    train_samples: int  # M·B
    streamed: bool

    def order(self, epoch: int) -> Order:
        """The order of the training samples in this epoch (from 0), [M·B]: mini-batch m has m·B … m·B + B − 1."""

    def channels(self, t: int) -> Array:
        """H [B, n, n] of the run's mini-batch t (from 0), read-only."""

    def test_channels(self, k: int) -> Array:
        """H [test_batch, n, n] of test mini-batch k, read-only."""

    def theta(self, names: Shapes) -> Array | None:
        """Initial parameters [p] that come with the data, if any, in the order of their names."""

    def check_epochs(self, epochs: int) -> None:
        """Refuse more epochs than there is data for."""


class _Epochs:
    """The order of mini-batches in the epochs, and that of their samples."""

    def __init__(self, of: Callable[[int], Order], minibatches: int, batch: int) -> None:
        """`of` gives the mini-batches [M] of an epoch."""
        self._of, self._minibatches, self._batch = of, minibatches, batch
        self._last: tuple[int, Order] | None = None

    def at(self, t: int) -> int:
        """The mini-batch that comes as number t of the run."""
        epoch, place = divmod(t, self._minibatches)
        return int(self._in(epoch)[place])

    def samples(self, epoch: int) -> Order:
        """The epoch's samples, [M·B]: those of mini-batch m are m·B … m·B + B − 1."""
        return (self._in(epoch)[:, None] * self._batch + np.arange(self._batch)).reshape(-1)

    def _in(self, epoch: int) -> Order:
        if self._last is None or self._last[0] != epoch:
            self._last = epoch, self._of(epoch)
        return self._last[1]


class SyntheticChannels:
    """Channels of the published recipe, every mini-batch from draws of its own."""

    streamed = True

    def __init__(self, config: PowerAllocation, batch: int, seed: int) -> None:
        self.pairs, self.minibatches, self.test_minibatches = (
            config.pairs, config.minibatches, config.test_minibatches,
        )  # fmt: skip
        self.batch = self.test_batch = batch
        self.train_samples = config.minibatches * batch
        self._online, self._seed = config.online, seed
        self._train = Drawing(config, config.mobility, batch, seed, "channels")
        self._test = Drawing(config, None, batch, seed, "channels/test")
        self._epochs = _Epochs(self._minibatches_of, self.minibatches, batch)
        self._served: tuple[int, Array] | None = None
        self._tested: tuple[int, Array] | None = None

    def order(self, epoch: int) -> Order:
        return self._epochs.samples(epoch)

    def channels(self, t: int) -> Array:
        number = t if self._online else self._epochs.at(t)
        if self._served is None or self._served[0] != number:
            self._served = number, self._train.draw(number)
        return self._served[1]

    def test_channels(self, k: int) -> Array:
        if self._tested is None or self._tested[0] != k:
            self._tested = k, self._test.draw(k)
        return self._tested[1]

    def theta(self, names: Shapes) -> Array | None:
        return None

    def check_epochs(self, epochs: int) -> None:
        """Channels can be drawn for ever."""

    def _minibatches_of(self, epoch: int) -> Order:
        if self._online:
            return np.arange(self.minibatches)
        return rng.generator(self._seed, "order", epoch).permutation(self.minibatches)


class ChannelBundle(Bundle):
    """The channels of a bundle: ``H_train`` [M, B, n, n], ``H_test`` [M', B', n, n] or [T, n, n], and what may come
    with them: ``order`` [epochs, M] and initial parameters."""

    streamed = True

    def __init__(self, config: PowerAllocation, batch: int, seed: int) -> None:
        """Read and check the bundle, but for the parameters: only :meth:`theta` is told what they are.

        Raises:
            InputError: an array is missing, of a wrong shape or type, or with values that no channel has; an order
                index is out of range; `batch` or ``pairs`` is another than the bundle's.
        """
        assert config.bundle is not None
        super().__init__(config.bundle, seed)
        self._names = set(self._arrays)
        self._train = self._channels("H_train", ("M", "B", "n", "n"), _ADVICE, config.allow_outages)
        self.minibatches, self.batch, self.pairs = self._train.shape[:3]
        if batch != self.batch:
            raise InputError(
                f"training.batch: {batch}, but 'H_train' of the bundle {self._path} has mini-batches of {self.batch}; "
                f"set training.batch: {self.batch}"
            )
        # A run's resolved configuration spells out the default, whatever the bundle has.
        if config.pairs not in (self.pairs, type(config).model_fields["pairs"].default):
            raise InputError(
                f"task.pairs: {config.pairs}, but 'H_train' of the bundle {self._path} has n = {self.pairs} pairs; "
                "remove task.pairs"
            )
        self._test = self._read_test(config.allow_outages)
        self.test_minibatches, self.test_batch = self._test.shape[:2]
        self.train_samples = self.minibatches * self.batch
        self._read_order(self.minibatches, "M")
        self._epochs = _Epochs(self._order, self.minibatches, self.batch)

    def order(self, epoch: int) -> Order:
        return self._epochs.samples(epoch)

    def channels(self, t: int) -> Array:
        H: Array = self._train[self._epochs.at(t)]
        return H

    def test_channels(self, k: int) -> Array:
        H: Array = self._test[k]
        return H

    def theta(self, names: Shapes) -> Array | None:
        """The parameters called `names`, one after another.

        Raises:
            InputError: some are missing or of a wrong shape, or the bundle has an array that is none of this task's.
        """
        parameters = [name for name, _ in names]
        known = ["H_train", "H_test", "order", f"{parameters[0]} … {parameters[-1]}"]
        unknown = sorted(self._names - {*known, *parameters})
        if unknown:
            raise self._error(unknown[0], f"is not an array of this model; known: {', '.join(known)}")
        if not any(name in self._names for name, _ in names):
            return None
        return np.concatenate([self._take(name, *shape).reshape(-1) for name, shape in names])

    def _read_test(self, allow_outages: bool) -> Array:
        n, found = self.pairs, self._arrays.get("H_test")
        as_one = found is not None and found.ndim == 3
        shape = ("T", n, n) if as_one else ("M'", "B'", n, n)
        H = self._channels("H_test", shape, f"{_ADVICE}; H_train has n = {n}", allow_outages)
        return H[None] if as_one else H

    def _channels(self, name: str, shape: tuple[int | str, ...], advice: str, allow_outages: bool) -> Array:
        H = self._take(name, *shape, advice=advice)
        self._arrays.pop(name)  # if it was converted, one of the two is enough
        if H.min() < 0:
            bad = np.argwhere(H < 0)[0]
            raise self._error(name, f"must be ≥ 0, found {H[tuple(bad)]} at {bad.tolist()}; {advice}")
        own = np.diagonal(H, axis1=-2, axis2=-1)
        if not allow_outages and not own.all():
            *sample, pair = np.argwhere(own == 0)[0].tolist()
            raise self._error(
                name,
                f"has H_ii = 0 in sample {sample} for i = {pair}, a pair without its own link; "
                "set task.allow_outages: true, or remove the sample",
            )
        H.flags.writeable = False
        return H


class ChannelData:
    """Channels as samples: every node starts from its own H_ii, and has no label."""

    streamed = True

    def __init__(
        self, channels: ChannelService, topology: ChannelTopology, task: PowerAllocation, seed: int
    ) -> None:
        self.train_samples, self.test_samples = channels.train_samples, channels.test_batch
        self._channels, self._topology, self._task, self._seed = channels, topology, task, seed

    def recipe(self, graph: Graph) -> None: ...

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        raise NotImplementedError("channels are streamed")

    def order(self, epoch: int) -> Order:
        return self._channels.order(epoch)

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        return _samples(self._channels.channels(t))

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        return self._topology.test_graph(k), _samples(self._channels.test_channels(k))

    def baselines(self, t: int) -> Mapping[str, float]:
        every = self._task.baselines_every
        return {} if every == 0 or t % every else self._reached(self._channels.channels(t), "random_power", t)

    def test_baselines(self, k: int) -> Mapping[str, float]:
        if self._task.baselines_every == 0:
            return {}
        return self._reached(self._channels.test_channels(k), "random_power/test", k)

    def _reached(self, H: Array, purpose: str, number: int) -> Mapping[str, float]:
        draws = rng.generator(self._seed, purpose, number)
        return baselines(H, self._task.noise_power, self._task.max_power, draws)


def _samples(H: Array) -> Samples:
    own = np.ascontiguousarray(np.diagonal(H, axis1=1, axis2=2))[..., None]
    return Samples(own, np.zeros((*own.shape[:2], 0)), H)
