"""Messages in narrower numbers than those of arithmetic: rounded once, by their sender, to the nearest, ties to even.

Every node sums the rounded rows, wherever their nodes live, and its own among them: so the bits do not depend on
packing, and sums of differences, such as those of a Laplacian, vanish where all rows are equal. Of what is mixed a node
keeps what rounding took from its own rows, and adds it afterwards: where W is doubly stochastic, mixing conserves the
mean over the nodes whatever the rounding (Carli, Fagnani, Frasca and Zampieri, Automatica 46, 2010).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.arrays import zeros
from fdtrain.partition import ExchangePlan
from fdtrain.precision import TYPES, Number, Precision
from fdtrain.rounds import Round
from fdtrain.transport.base import Transport
from fdtrain.wire import Layout, Outbox, Payload, Wire

Array = NDArray[np.float64]
_DROPPED = TYPES["float64"].bits - TYPES["bfloat16"].bits  # bits of a float64 that bfloat16 has no place for


def dtype_of(number: Number) -> Any:
    """NumPy's type; bfloat16 is that of ml_dtypes."""
    if number == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(number)


class Encoder:
    """Rounds the rows of n nodes to the nearest numbers of a type. What is too large for it becomes infinite."""

    def __init__(self, number: Number, nodes: int, width: int, arithmetic: Any = np.float64) -> None:
        """For rows [n, width] of `arithmetic`."""
        self._twice = number == "bfloat16" and np.dtype(arithmetic) == np.float64
        self._rows = np.zeros((nodes, width)) if self._twice else None
        self._last = np.zeros((nodes, width), dtype=np.uint64) if self._twice else None

    def __call__(self, rows: Array, out: NDArray[Any]) -> None:
        """Write `rows` [n, width], rounded, to `out` of the narrower type."""
        if self._rows is None or self._last is None:
            out[...] = rows
            return
        # ml_dtypes rounds to float32 and then to bfloat16: here to 8 bits at once, and those it leaves as they are
        self._rows[...] = rows
        bits = self._rows.view(np.uint64)
        np.right_shift(bits, _DROPPED, self._last)
        np.bitwise_and(self._last, 1, self._last)
        np.add(bits, (1 << (_DROPPED - 1)) - 1, bits)
        np.add(bits, self._last, bits)
        np.bitwise_and(bits, (1 << 64) - (1 << _DROPPED), bits)
        out[...] = self._rows


class NarrowLayout(Layout):
    """A layout whose rows travel as bytes: a node's fields side by side, each in the type of its kind."""

    def __init__(
        self, wire: NarrowWire, payload: Payload, below: Layout, keep: Callable[[Array], None]
    ) -> None:
        """A layout of the `wire`; `below` exchanges the bytes [seen, ·], and `keep` takes what rounding took from rows
        of consensus [n, width]."""
        plan, store, precision = wire.plan, wire.store, wire.precision
        super().__init__(plan, payload, store, wire.outbox)
        self.sends, self.receives = below.sends, below.receives
        kinds = [kind for kind, _ in payload.fields]
        sizes = [precision.size([field]) for field in payload.fields]
        self.narrow = tuple(k for k, kind in enumerate(kinds) if precision.of(kind) != precision.arithmetic)
        self._below, self._keep, n = below, keep, plan.nodes
        types = [precision.of(kind) for kind in kinds]
        self._coded = [
            below.rows[:, a:b].view(dtype_of(number))
            for number, (a, b) in zip(types, pairwise(accumulate(sizes, initial=0)), strict=True)
        ]
        self._encode = [
            Encoder(number, n, width, store.dtype)
            for number, (_, width) in zip(types, payload.fields, strict=True)
        ]
        self._remainders = {
            k: np.zeros((n, width), dtype=store.dtype)
            for k, (kind, width) in enumerate(payload.fields)
            if kind == "consensus" and k in self.narrow
        }

    def exchange(self, transport: Transport, round_: Round | None = None) -> None:
        n = len(self._own)
        if round_ is not None:
            self._go_on(round_)
        for field, coded, encode in zip(self.fields, self._coded, self._encode, strict=True):
            encode(field[:n], coded[:n])
        self._below.exchange(transport, round_)
        for k, remainder in self._remainders.items():
            remainder[...] = self.fields[k][:n]
        for field, coded in zip(self.fields, self._coded, strict=True):
            field[...] = coded
        for k, remainder in self._remainders.items():
            remainder -= self.fields[k][:n]
            self._keep(remainder)
        self.exchanges += 1

    def _go_on(self, round_: Round) -> None:
        """Into another step of consensus goes what the step before it took from the own rows."""
        for k, remainder in self._remainders.items():
            if round_.fields[k].step > 1:
                self.fields[k][: len(self._own)] += remainder
                np.negative(remainder, remainder)
                self._keep(remainder)


class NarrowWire(Wire):
    """The layouts of one topology, with messages in the types of a precision."""

    def __init__(
        self, plan: ExchangePlan, max_width: int, precision: Precision, *, numbered: bool = False
    ) -> None:
        super().__init__(plan, max_width, precision, numbered=numbered)
        self._most = max_width * max(precision.bytes(kind) for kind in ("features", "backward", "slice"))
        self._remainder: Array = np.zeros((plan.nodes, 0), dtype=self.store.dtype)
        self._slices: tuple[Encoder, NDArray[Any]] | None = None

    @cached_property
    def _coded(self) -> tuple[NDArray[Any], Outbox]:
        """Where the bytes are, of all rows and packed, once there are layouts of shorter numbers."""
        return zeros(self.plan.seen * self._most, dtype=np.uint8), Outbox(self.plan, self._most, np.uint8)

    def _make(self, payload: Payload, number: int | None) -> Layout:
        precision = self.precision
        types = {precision.of(kind) for kind, _ in payload.fields}
        if types == {precision.arithmetic}:
            return super()._make(payload, number)
        if types == {"float64"}:  # of degrees, whatever arithmetic is
            width = sum(width for _, width in payload.fields)
            return Layout(self.plan, payload, zeros(self.plan.seen * width), Outbox(self.plan, width), number)
        whole = Payload(payload.phase, (("bytes", precision.size(payload.fields)),))
        below = Layout(self.plan, whole, *self._coded, number)
        return NarrowLayout(self, payload, below, self._keep)

    def settle(self, rows: Array) -> None:
        """Round the own slices too, `rows` [seen, travelling]."""
        if self.precision.parameters == self.precision.arithmetic:
            return
        n, travelling = self.plan.nodes, rows.shape[1]
        if self._slices is None or self._slices[1].shape[1] != travelling:
            coded = np.zeros((n, travelling), dtype=dtype_of(self.precision.parameters))
            self._slices = Encoder(self.precision.parameters, n, travelling, rows.dtype), coded
        encode, coded = self._slices
        own = rows[:n]
        encode(own, coded)
        self._keep(own)
        own[...] = coded
        self._remainder[:, :travelling] -= own

    def _keep(self, remainder: Array) -> None:
        n, width = remainder.shape
        if self._remainder.shape[1] < width:
            wider = np.zeros((n, width), dtype=remainder.dtype)
            wider[:, : self._remainder.shape[1]] = self._remainder
            self._remainder = wider
        self._remainder[:, :width] += remainder

    def give_back(self, mixed: Array, first: int = 0) -> None:
        kept, travelling = self._remainder[first : first + len(mixed)], mixed.shape[-1]
        for start in range(0, kept.shape[1], travelling):
            part = kept[:, start : start + travelling]
            if mixed.ndim == 2:
                mixed += part
            elif start // travelling < mixed.shape[1]:
                mixed[:, start // travelling] += part
        kept.fill(0.0)
