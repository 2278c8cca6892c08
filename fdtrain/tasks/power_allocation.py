"""Power allocation in a wireless network (SPEC §6 B): its settings, and its channels, drawn or from a bundle (§8).

H[b, i, j] is the amplitude from transmitter i to receiver j in sample b. The B samples of a mini-batch belong together:
what has an order is the mini-batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from fdtrain import rng
from fdtrain.errors import InputError
from fdtrain.section import Positive, Section, beside
from fdtrain.tasks.base import Order
from fdtrain.tasks.bundle import Bundle
from fdtrain.tasks.channels import Drawing

Array = NDArray[np.float64]
Shapes = Sequence[tuple[str, tuple[int, ...]]]  # names of parameters and their shapes

# What has a meaning beside a bundle; all else says how to draw.
_BESIDE_A_BUNDLE = {
    "kind", "bundle", "pairs", "noise_power", "max_power", "baselines_every", "allow_outages",
}  # fmt: skip
_ADVICE = "save the amplitudes |H| of n transmitters (rows) to as many receivers (columns), 0 for no link"


class Mobility(Section):
    """Terminals that move between mini-batches, each in a straight line of its own, reflected at the edges."""

    speed: float = Field(description="Metres per mini-batch.", gt=0, le=1e4)
    decorrelation: float = Field(
        default=50.0, description="Metres after which shadowing has become another draw.", ge=0.1, le=1e9
    )


class PowerAllocation(Section):
    """Unsupervised: transmitters choose their power so that the sum of all pairs' rates is large."""

    kind: Literal["power_allocation"] = Field(default="power_allocation", description="The task.")
    pairs: int = Field(default=25, description="n, transmitter-receiver pairs.", ge=1, le=10_000)
    area: float = Field(
        default=1000.0, description="Side of the square in which terminals are, in metres.", gt=0, le=1e9
    )
    carrier: float = Field(default=0.9, description="Carrier frequency in GHz.", ge=1e-6, le=1e6)
    path_loss_exponent: float = Field(
        default=3.0, description="PL = 32.4 + 20 log10(f_GHz) + 10·exponent·log10(d_m) dB.", gt=0, le=10
    )
    shadowing: float = Field(
        default=7.2,
        description="Standard deviation of the shadowing in dB, one draw per mini-batch.",
        ge=0,
        le=50,
    )
    shadowing_clip: float = Field(
        default=2.0, description="Shadowing is clipped at so many standard deviations.", gt=0, le=10
    )
    fading: Literal["rayleigh", "none"] = Field(
        default="rayleigh", description="Of every sample: a Rayleigh(1/√2) factor of the amplitude, or none."
    )
    max_path_loss: Annotated[float, Field(gt=0)] = Field(
        default=138.86,
        description="Links whose amplitude is below 10^(−max_path_loss/20) are none; .inf: no threshold.",
    )
    noise_power: Positive = Field(default=10**-13.687, description="σ², noise power at a receiver, in W.")
    max_power: Positive = Field(default=5.0, description="Pmax, the most that a transmitter may send, in W.")
    minibatches: int = Field(default=10_000, description="M, mini-batches per epoch.", ge=1, le=10_000_000)
    test_minibatches: int = Field(default=10, description="Mini-batches for testing.", ge=1)
    online: bool = Field(
        default=True,
        description="Fresh channels for every mini-batch of every epoch; false: the same in a new order.",
    )
    mobility: Mobility | None = Field(
        default=None, description="Let terminals move between mini-batches, instead of drawing new places."
    )
    baselines_every: int = Field(
        default=10,
        description="Compare with WMMSE, full and random power on every so many mini-batches; 0: never.",
        ge=0,
    )
    bundle: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="An .npz file with your own channels, instead of the settings that draw them.",
    )
    allow_outages: bool = Field(
        default=False,
        description="Whether a pair's own link may be 0 in a bundle, as it may in drawn channels.",
    )

    @field_validator("max_path_loss", mode="before")
    @classmethod
    def _none_is_no_threshold(cls, value: Any) -> Any:
        return math.inf if value is None else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mobility is not None and not self.online:
            raise ValueError(
                "online: false has no meaning beside mobility, where time runs on through the epochs; remove one"
            )
        if self.bundle is not None:
            given = sorted(self.model_fields_set - _BESIDE_A_BUNDLE)
            changed = [key for key in given if getattr(self, key) != type(self).model_fields[key].default]
            if changed:
                raise ValueError(
                    f"{changed[0]}: has no meaning beside a bundle, which brings its own channels; remove it"
                )
        return self

    def resolved(self, base: Path | None) -> Self:
        """The same task with the bundle's path made absolute: from `base`, or else from the working directory."""
        if self.bundle is None:
            return self
        return self.model_copy(update={"bundle": beside(self.bundle, base)})


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
        known = ["H_train", "H_test", "order", *(name for name, _ in names)]
        unknown = sorted(self._names - set(known))
        if unknown:
            raise self._error(unknown[0], f"is not an array of this task; known: {', '.join(known)}")
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
