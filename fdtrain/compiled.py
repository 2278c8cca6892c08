"""A pass of a graph convolutional network, compiled: the same rounds as :class:`fdtrain.passes.Pass`, in loops of
:mod:`fdtrain.kernels`.

A node's arrays of a wave lie together, and the gradient is added up wave by wave, so that memory does not grow with the
mini-batch. Where the transport's exchanges are persistent, whole mini-batches run without Python in between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.arrays import zeros
from fdtrain.kernels import loop
from fdtrain.kernels.arithmetic import IDENTITY, LEAKY_RELU, SIGMOID, TANH
from fdtrain.layers.gcnn import Gcnn
from fdtrain.networks import Sums
from fdtrain.passes import Rows, in_words
from fdtrain.precision import Arithmetic
from fdtrain.rounds import Round
from fdtrain.schedule import Schedule
from fdtrain.transport.base import Transport
from fdtrain.wire import Layout, Payload, Wire

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

_PATIENCE = 500  # looks for messages between two looks at the clock
_ACTIVATIONS = {
    "sigmoid": SIGMOID,
    "tanh": TANH,
    "relu": LEAKY_RELU,
    "leaky_relu": LEAKY_RELU,
    "identity": IDENTITY,
}
_OPERATIONS = {"features": loop.FEATURES, "backward": loop.BACKWARD, "slice": loop.SLICE}


class CompiledPass:
    """One schedule of a :class:`Gcnn` with squared error on the n nodes of a rank; see :class:`fdtrain.passes.Pass`."""

    def __init__(
        self, model: Gcnn, phase: str, schedule: Schedule, n: int, arithmetic: Arithmetic = "float64"
    ) -> None:
        self.model, self.phase, self.schedule, self.n = model, phase, schedule, n
        self.place = 0  # of the round that is under way
        trains, w = schedule.trains, schedule.waves[0]
        self.output = np.zeros((n, schedule.batch if phase == "test" else 0, model.outputs), arithmetic)
        self._loss = np.zeros(n)
        self._slopes = np.array(
            [0.0 if name == "relu" else model.negative_slope for name in model.activations]
        )
        self._own_gradient = schedule.exchange == "after_wave"  # of every wave apart
        self._sum = np.zeros((n, model.num_parameters if self._own_gradient else 0), arithmetic)
        self._layers, size = _layers(model, trains=trains)
        parities = 2 if _overlap(schedule) else 1
        sizes = {
            loop.NODES: n,
            loop.BATCH: schedule.batch,
            loop.FULL_WAVE: w,
            loop.KEPT: size,
            loop.PARITIES: parities,
            loop.SENDER: model.form == "sender",
            loop.TRAINS: trains,
            loop.RECORDS: phase == "test",
        }
        self._sizes = np.zeros(loop.OWN_THETA + 1, np.int64)  # the others are known with a topology
        self._sizes[[*sizes]] = [*sizes.values()]
        self._work = zeros(parities * n * size * w, dtype=arithmetic)
        widest = max(model.sizes)
        self._scratch = np.zeros((4, widest * w), arithmetic)
        self._wide = np.zeros((3, widest * w))
        self._mixed = np.zeros((n, schedule.travelling if self._own_gradient else 0), arithmetic)
        self._current: Array = self._mixed

    def bind(
        self,
        wire: Wire,
        sums: Sums,
        theta: Array,
        grad: Array,
        outgoing: Callable[[Any, int | None, Array], None],
        take: Callable[[Array], None] | None = None,
    ) -> None:
        """Lay the rounds out for a topology; as :meth:`Pass.bind`. The gradient is added up in `grad` [n, p]; where
        nothing is trained, `theta` may be one row [1, p] for all nodes."""
        self._wire, self._sums, self._outgoing = wire, sums, partial(outgoing, self)
        self._grad = zeros(*grad.shape, dtype=grad.dtype) if self._own_gradient else grad
        schedule, seen = self.schedule, wire.plan.seen
        self._sizes[loop.SEEN], self._sizes[loop.OWN_THETA] = seen, len(theta) == self.n
        along = schedule.travelling if schedule.exchange == "along" else 0
        self._incoming = zeros(seen, along, dtype=self._work.dtype)
        self._layouts = [
            wire.layout(Payload(self.phase, tuple((field.kind, field.width) for field in round_.fields)))
            for round_ in schedule.rounds
        ]
        self._plain = all(type(layout) is Layout for layout in self._layouts)
        self._sizes[loop.BY_SAMPLE] = not self._plain  # others look into the messages
        steps, ops = _plan(schedule.rounds, self._layouts)
        forward, backward = sums.shared("shift", transposed=False), sums.shared("shift", transposed=True)
        assert forward is not None
        assert backward is not None
        indptr, columns, weights = forward.csr
        own = self._work.dtype
        nothing = np.zeros((self.n, 0, 0), own)
        self._pack = loop.Pack(
            self._sizes, self._layers, self._slopes, steps, ops, wire.store, wire.outbox.store,
            wire.outbox.rows, indptr, columns, weights.astype(own, copy=False), backward.csr[2].astype(own, copy=False),
            theta, self._grad, self._work, self._scratch, self._wide, nothing, nothing, np.zeros(0, np.int64),
            self._loss, self.output, self._incoming,
        )  # fmt: skip
        self._link = loop.NO_LINK
        self._exchanges: dict[tuple[int, int], list[tuple[Layout, int]]] = {}
        self._sent: dict[tuple[int, int], tuple[int, int]] = {}
        kinds = [any(field.kind == "consensus" for field in round_.fields) for round_ in schedule.rounds]
        self._parts = [(mixes, [*part]) for mixes, part in groupby(range(len(kinds)), kinds.__getitem__)]

    def unbind(self) -> None:
        """Give back what belongs to the topology of before; :meth:`bind` comes next."""
        for name in ("_pack", "_wire", "_sums"):
            self.__dict__.pop(name, None)
        self._layouts, self._incoming = [], self._mixed[:0]

    def load(self, samples: Rows) -> None:
        """Take the samples of a mini-batch: views of them, and which ones.

        Raises:
            ValueError: arrays of another shape.
        """
        x, y = np.ascontiguousarray(samples.x), np.ascontiguousarray(samples.y)
        order = np.arange(x.shape[1]) if samples.order is None else samples.order
        batch, widths = self.schedule.batch, (self.model.inputs, self.model.outputs)
        known = x.shape[:2] == y.shape[:2] and len(x) == self.n and (x.shape[2], y.shape[2]) == widths
        if not known or len(order) != batch or not ((order >= 0) & (order < x.shape[1])).all():
            raise ValueError(
                f"samples {x.shape}, {y.shape}: need {self.n} nodes, {batch} samples and {widths} features"
            )
        self._pack = self._pack._replace(x=x, y=y, order=order)

    def run(self, transport: Transport) -> None:
        """Go through the rounds."""
        self._loss.fill(0.0)
        if self.schedule.trains:
            self._grad.fill(0.0)
        self._sum.fill(0.0)
        self._mixed.fill(0.0)
        if self.schedule.exchange == "along":
            self._outgoing(None, self._incoming[: self.n])
        for mixes, places in self._parts:
            if mixes:
                for self.place in places:
                    self._mix(transport)
            elif self._is_native(transport):
                self._run_natively(transport, places[0], places[-1] + 1)
            else:
                for self.place in places:
                    loop.work(self._pack, self.place, False)
                    self._layouts[self.place].exchange(transport, self.schedule.rounds[self.place])
                    loop.work(self._pack, self.place, True)
        if self.schedule.exchange == "along":
            self._wire.settle(self._incoming)

    def gradient(self, out: Array, wave: int | None = None) -> None:
        """As :meth:`Pass.gradient`; that of a wave can be had once, after its backward pass."""
        if not self._own_gradient:
            assert out is self._grad
        elif wave is None:
            np.copyto(out, self._sum)
            out += self._grad
        else:
            np.copyto(out, self._grad)
            self._sum += self._grad
            self._grad.fill(0.0)

    def mixed(self, first: int, stop: int) -> Array:
        """As :meth:`Pass.mixed`."""
        if self._own_gradient:
            return self._mixed[first:stop]
        rows = self._incoming if self.schedule.exchange == "along" else self._layouts[-1].rows
        return self._sums.mixing.of(rows, first, stop)

    def per_node_loss(self) -> Array:
        """Σ over the samples of ℓ_i, [n]."""
        return self._loss.copy()

    def finished(self) -> Array:
        """What the nodes made of the samples, [n, B, g_L], of a test."""
        return self.output

    def exchange(self, transport: Transport) -> None:
        """The messages of all rounds, without arithmetic."""
        if self._is_native(transport):
            self._run_natively(transport, 0, len(self._layouts), idle=True)
        else:
            for layout in self._layouts:
                layout.exchange(transport)

    def where(self) -> str:
        """The round that is under way, in words."""
        return in_words(self.schedule, self.phase, self.place)

    def _mix(self, transport: Transport) -> None:
        """A round of consensus."""
        layout, (field,) = self._layouts[self.place], self.schedule.rounds[self.place].fields
        own = layout.rows[: self.n]
        if field.step > 1:
            own[...] = self._current
        else:
            self._outgoing(field.wave if self._own_gradient else None, own)
        layout.exchange(transport, self.schedule.rounds[self.place])
        is_last = field.step == self.schedule.consensus
        if self._own_gradient or not is_last:  # the last sums of a mini-batch are made where they are used
            self._current = self._sums.mixing.of(layout.rows, 0, self.n)
        if self._own_gradient and is_last:
            self._mixed += self._current

    def _is_native(self, transport: Transport) -> bool:
        """Whether compiled code can exchange the messages itself."""
        numbered = all(layout.number is not None for layout in self._layouts)
        return self._plain and (transport.size == 1 or (numbered and transport.native() is not None))

    def _run_natively(self, transport: Transport, first: int, stop: int, *, idle: bool = False) -> None:
        if (first, stop) not in self._sent:
            self._count(first, stop)
        if transport.size == 1:
            loop.rounds(self._pack, loop.NO_LINK, first, stop, False, _PATIENCE, idle)
        else:
            if self._link is loop.NO_LINK:
                self._link = self._make_link(transport)
            self.place, started = first, False

            def advance() -> tuple[bool, int]:
                nonlocal started
                ended, self.place, code = loop.rounds(
                    self._pack, self._link, self.place, stop, started, _PATIENCE, idle
                )
                if ended == loop.FAILED:
                    raise RuntimeError(f"MPI failed with error code {code} in {self.where()}")
                started = ended == loop.WAITS
                return not started, self.place

            def waits_for(place: int) -> Any:
                layout = self._layouts[place]
                assert layout.number is not None
                return transport.prepare(layout.sends, layout.receives, layout.number)

            transport.drive(advance, waits_for)
        for layout, times in self._exchanges[first, stop]:
            layout.exchanges += times
        transport.count(stop - first, *self._sent[first, stop])

    def _count(self, first: int, stop: int) -> None:
        """Note what the rounds `first` … `stop` − 1 exchange."""
        counts = Counter(layout.payload for layout in self._layouts[first:stop])
        part = [(self._wire.layouts[payload], times) for payload, times in counts.items()]
        messages = sum(times * len(layout.sends) for layout, times in part)
        size = sum(times * buffer.nbytes for layout, times in part for _, buffer in layout.sends)
        self._exchanges[first, stop], self._sent[first, stop] = part, (messages, size)

    def _make_link(self, transport: Transport) -> loop.Link:
        """All requests of the transport's exchanges, one after another, and where those of each round are."""
        native, made, found = transport.native(), dict[int, tuple[int, int]](), list[Any]()
        assert native is not None
        for layout, step in zip(self._layouts, self._pack.steps, strict=True):
            assert layout.number is not None
            if layout.number not in made:
                prepared = transport.prepare(layout.sends, layout.receives, layout.number)
                made[layout.number] = len(found), len(prepared.requests)
                found += prepared.requests
            step[loop.REQUESTS], step[loop.REQUEST_COUNT] = made[layout.number]
        most = max(count for _, count in made.values())
        statuses = np.zeros(max(1, most) * native.status, np.uint8)
        handles = native.handles(found)
        return loop.Link(
            native.startall, native.testall, handles, native.handle, np.zeros(1, np.int32), statuses
        )


def _layers(model: Gcnn, *, trains: bool) -> tuple[Integers, int]:
    """The table of layers, and how many numbers of a node have to be kept per sample."""
    rows, size, receiver = list[list[int]](), 0, model.form == "receiver"
    for k, (layer, part) in enumerate(zip(model.convolutions, model.offsets, strict=True)):
        kept = [k > 0, receiver and trains and k < model.depth - 1, True]  # x, a, and σ'(h) or q
        places = list[int]()
        for width, is_kept in zip((layer.g_in, layer.g_in, layer.g_out), kept, strict=True):
            places.append(size if is_kept else -1)
            size += width * is_kept
        rows.append([layer.g_in, layer.g_out, part.start, *places, _ACTIVATIONS[model.activations[k]]])
    return np.array(rows, np.int64), size


def _overlap(schedule: Schedule) -> bool:
    """Whether a wave begins before the one before it has ended."""
    begins, ends = dict[int, int](), dict[int, int]()
    for place, round_ in enumerate(schedule.rounds):
        for field in round_.fields:
            if field.kind in ("features", "backward"):
                begins.setdefault(field.wave, place)
                ends[field.wave] = place
    return any(begins[wave + 1] <= ends[wave] for wave in range(len(schedule.waves) - 1))


def _plan(rounds: Sequence[Round], layouts: Sequence[Layout]) -> tuple[Integers, Integers]:
    """The rounds as numbers: steps and operations of :mod:`fdtrain.kernels.loop`."""
    steps, ops = list[list[int]](), list[list[int]]()
    for round_, layout in zip(rounds, layouts, strict=True):
        first, column = len(ops), 0
        for field in round_.fields:
            if field.kind != "consensus":
                ops.append(
                    [_OPERATIONS[field.kind], field.layer - 1, field.wave, column, field.width, field.start]
                )
            column += field.width
        steps.append([first, len(ops) - first, layout.rows.shape[1], 0, 0])
    return np.array(steps, np.int64).reshape(-1, 5), np.array(ops, np.int64).reshape(-1, 6)
