"""Training over channels that lose and delay messages, on global matrices.

    training = LossyTraining(model, recursion, theta, channel)
    for x, y, S, W in minibatches:  # x [B, V, g_0], y [B, V, g_L]; S, W [V, V] may be others each time
        gradients = training.minibatch(x, y, S, W, waves, rounds, lr)
    training.theta, training.lost["features"], training.late["slice"]

`waves` are the numbers of samples of the waves; `rounds` the schedule of the mini-batch as plain data, e.g. of two
waves in receiver form, L = 2, with one step of consensus after them:

    [[Sent("features", layer=1, wave=0)], [Sent("features", layer=2, wave=0)], [Sent("backward", layer=2, wave=0)],
     [Sent("features", layer=1, wave=1)], [Sent("features", layer=2, wave=1)], [Sent("backward", layer=2, wave=1)],
     [Sent("consensus", wave=1, width=p, step=1)]]

From a schedule of the package: `[[Sent(f.kind, f.layer, f.wave, f.start, f.width, f.step) for f in r.fields] for r in
schedule.rounds]`, and `schedule.waves`.

Everything is done in the order in which it happens, round by round, with a matrix [V, V] of what every receiver heard
of every sender. The only code shared with the messages' side are the draws, `fdtrain.rng.uniforms`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from fdtrain.errors import InputError
from fdtrain.reference.fates import Channel, Fate, Fates, Mask, Rounds
from fdtrain.reference.lossy_mixing import Mixing
from fdtrain.reference.lossy_passes import HeldRows, Wave
from fdtrain.reference.model import Array, Matrix, Model, check_choice, check_shape
from fdtrain.reference.recursions import DISTRIBUTED, Recursion, State, clip_rows

KINDS = ("features", "backward", "slice", "consensus")


class Sent(NamedTuple):
    """What every node sends to its neighbours in a round, of one kind."""

    kind: str
    layer: int = 0  # features, backward: 1 ... L
    wave: int = 0  # consensus: the last wave whose gradient it carries
    start: int = 0  # slice: first number of the row that travels
    width: int = 0  # numbers
    step: int = 0  # consensus: 1 ... K


class _Flight(NamedTuple):
    """A message on its way, late on the links [V, V] where `due` is not -1: the round in which it arrives there."""

    due: Rounds
    arrive: Callable[[Mask], None]


@dataclass
class _Minibatch:
    """A mini-batch as it goes on."""

    W: Array
    links: Mask
    last: int  # the number of its last round
    waves: list[Wave]
    rows: Array  # d_*: what is mixed, [V, n]
    in_time: Mask  # of the numbers of slices, [V, V, n]
    mixed: list[Array] = field(default_factory=list)  # of every consensus, so far
    carried: int = 0  # naive_*: waves whose gradient a consensus has carried


class LossyTraining:
    """The trajectory of θ [V, p] under one recursion and one channel, mini-batch by mini-batch.

    naive_* under push_sum are refused; recursion.consensus_rounds is not read: the rounds have the steps. max_norm
    clips the rows of gradients, of every consensus where it is they that are mixed.
    """

    def __init__(
        self,
        model: Model,
        recursion: Recursion,
        theta: Array,
        channel: Channel,
        max_norm: float | None = None,
    ) -> None:
        check_choice("training approach", recursion.kind, *DISTRIBUTED)
        check_shape("theta", theta.shape, (len(theta), model.num_parameters))
        self._naive, policy = recursion.kind.startswith("naive_"), channel.policy("parameters")
        if self._naive and policy == "push_sum":
            raise InputError(
                f"{recursion.kind} mixes gradients; push_sum needs rows that stay, such as d_sgd's"
            )
        self._model, self._recursion, self._channel, self._max_norm = model, recursion, channel, max_norm
        self._fates = Fates(channel, len(theta))
        self.state: State = recursion.start(theta)
        shape = self._rows(self.state.theta).shape
        self._mixing = Mixing(policy, shape[0], shape[1], model.rounding.parameters)
        self._held = HeldRows()
        self._late: list[_Flight] = []
        self._coming: list[_Flight] = []  # slices in time, in a later round than they were sent
        self._R = 0
        self.lost = dict.fromkeys(KINDS, 0)  # messages so far
        self.late = dict.fromkeys(KINDS, 0)
        self.output = np.zeros((0, len(theta), model.sizes[-1]))  # [B, V, g_L] of the last mini-batch
        self.up = self._fates.up  # [V], in the last mini-batch

    @property
    def theta(self) -> Array:
        """[V, p]."""
        return self.state.theta

    @property
    def weights(self) -> Array:
        """omega [V, n] of push_sum, of every number that travels; 1 under another policy."""
        return self._mixing.weights

    def mass(self) -> tuple[Array, Array]:
        """push_sum: sum of omega row, and of omega, over nodes and links, of every number that travels [n]."""
        return self._mixing.total(self._rows(np.zeros_like(self.state.theta)))

    def minibatch(
        self, x: Array, y: Array, S: Matrix, W: Matrix, waves: Sequence[int],
        rounds: Sequence[Sequence[Sent]], lr: float, links: Matrix | None = None,
    ) -> Array:  # fmt: skip
        """The local gradients [V, p] of one mini-batch, 0 at nodes that are down; then theta is the next.

        links [V, V]: where links are, in both directions; None: wherever S or W has an entry, either way.
        """
        S, W = _dense(S), _dense(W)
        used = ((S != 0) | (W != 0)) & ~np.eye(len(S), dtype=bool)
        pattern = used if links is None else (_dense(links) != 0) & ~np.eye(len(S), dtype=bool)
        pattern = pattern | pattern.T
        if (used & ~pattern).any():
            i, j = np.argwhere(used & ~pattern)[0]
            raise InputError(f"S or W weighs what node {i} hears from {j}; links has no link between them")
        check_shape("x", x.shape, (sum(waves), len(S), self._model.sizes[0]))
        self._forget(self._fates.links & ~pattern)
        self._fates.begin(self.state.t, pattern)
        self.up = self._fates.up
        parts = [
            Wave(self._model, S, x[a:b], y[a:b], self.theta)
            for a, b in pairwise(accumulate(waves, initial=0))
        ]
        rows = self._rows(np.zeros_like(self.theta))
        heard = np.zeros((*S.shape, rows.shape[1]), dtype=bool)
        now = _Minibatch(W, pattern, self._R + len(rounds) - 1, parts, rows, heard)
        for sent in rounds:
            self._round(now, sent)
        self.output = np.concatenate([wave.output for wave in parts])
        gradients = self._gradients(parts)
        if any(part.kind == "slice" for sent in rounds for part in sent):
            now.mixed.append(self._mixing.mix(W, rows, now.in_time, 0, self.up))
        self._step(now.mixed, self._clipped(gradients), lr)
        return gradients

    def _round(self, now: _Minibatch, sent: Sequence[Sent]) -> None:
        self._fates.advance(self._R)
        self._late, self._coming = self._deliver(self._late), self._deliver(self._coming)
        for part in sent:
            check_choice("kind of message", part.kind, *KINDS)
            name = part.kind if part.kind in ("features", "backward") else "parameters"
            {
                "features": self._features,
                "backward": self._backward,
                "slice": self._slice,
                "consensus": self._consensus,
            }[part.kind](now, part, self._fates.of(name, self._R))
        self._R += 1

    def _forget(self, gone: Mask) -> None:
        """Links [V, V] that vanish take what is held of them, and under way on them, with them."""
        self._held.forget(gone)
        self._mixing.forget(gone)
        for due, _ in (*self._late, *self._coming):
            due[gone] = -1

    def _deliver(self, flights: list[_Flight]) -> list[_Flight]:
        """Let arrive what is due in this round; a node that is down does not hear it. What is still under way."""
        for due, arrive in flights:
            arrive((due == self._R) & self.up[:, None])
        return [flight for flight in flights if flight.due.max() > self._R]

    def _send(self, now: _Minibatch, part: Sent, fate: Fate, arrive: Callable[[Mask], None]) -> Mask:
        """Send on all links, and note who is late; the links [V, V] on which it is in time."""
        used = now.last if part.kind == "slice" else self._R
        sent = now.links & ~fate.lost
        in_time = sent & (self._R + fate.delay <= used)
        self.lost[part.kind] += int((now.links & fate.lost).sum())
        self.late[part.kind] += int((sent & ~in_time).sum())
        arrive(in_time & (fate.delay == 0))
        for flights, which in ((self._late, sent & ~in_time), (self._coming, in_time & (fate.delay > 0))):
            if which.any():
                flights.append(_Flight(np.where(which, self._R + fate.delay, -1), arrive))
        return in_time

    def _features(self, now: _Minibatch, part: Sent, fate: Fate) -> None:
        wave, policy = now.waves[part.wave], self._channel.policy("features")
        message = wave.features(part.layer)

        def arrive(where: Mask) -> None:
            if policy == "hold":
                self._held.keep(part.layer, where, message)

        heard = self._send(now, part, fate, arrive)
        wave.receive(part.layer, message, heard, policy, self._held)

    def _backward(self, now: _Minibatch, part: Sent, fate: Fate) -> None:
        wave = now.waves[part.wave]
        heard = self._send(now, part, fate, lambda where: None)
        wave.receive_back(part.layer, wave.backward(part.layer), heard)

    def _slice(self, now: _Minibatch, part: Sent, fate: Fate) -> None:
        span = slice(part.start, part.start + part.width)
        in_time = self._send_rows(now, part, fate, now.rows[:, span])
        now.in_time[:, :, span] = in_time[:, :, None]

    def _consensus(self, now: _Minibatch, part: Sent, fate: Fate) -> None:
        if part.step == 1:
            now.mixed.append(self._outgoing(now, part.wave))
        row = now.mixed[-1]
        check_shape("rows of consensus", (len(row), part.width), row.shape)
        in_time = self._send_rows(now, part, fate, row)
        heard = np.broadcast_to(in_time[:, :, None], now.in_time.shape)
        now.mixed[-1] = self._mixing.mix(now.W, row, heard, part.step, self.up)

    def _send_rows(self, now: _Minibatch, part: Sent, fate: Fate, rows: Array) -> Mask:
        R, senders = self._R, now.links & self.up[None, :]
        self._mixing.send(R, part.start, rows, now.W, senders)
        return self._send(
            now, part, fate, lambda where: self._mixing.arrive(where, R, part.step, part.start, rows)
        )

    def _outgoing(self, now: _Minibatch, last: int) -> Array:
        """What a consensus begins with: d_*: the row; naive_*: the gradients of the waves since the one before."""
        if self._naive:
            first, now.carried = now.carried, last + 1
            return self._clipped(self._gradients(now.waves[first : now.carried]))
        if now.mixed or last != len(now.waves) - 1:
            raise InputError(
                f"{self._recursion.kind} mixes once, after the last wave; found one after wave {last}"
            )
        return now.rows

    def _step(self, mixed: list[Array], gradients: Array, lr: float) -> None:
        if not mixed:
            raise InputError(f"{self._recursion.kind} mixes rows; found rounds that carry none")
        after = self._recursion.advance_mixed(self.state, sum(mixed[1:], mixed[0]), gradients, lr)
        arrays = {f.name for f in fields(State)} - {"t"}
        kept = {
            name: np.where(self.up[:, None], getattr(after, name), getattr(self.state, name))
            for name in arrays
        }
        self.state = replace(after, **kept)

    def _rows(self, gradients: Array) -> Array:
        return self._recursion.rows(self.state, gradients)

    def _clipped(self, gradients: Array) -> Array:
        return gradients if self._max_norm is None else clip_rows(gradients, self._max_norm)

    def _gradients(self, waves: Sequence[Wave]) -> Array:
        return np.where(self.up[:, None], sum(wave.gradients() for wave in waves), 0.0)


def _dense(M: Matrix) -> Array:
    return np.asarray(M if isinstance(M, np.ndarray) else M.toarray(), dtype=np.float64)
