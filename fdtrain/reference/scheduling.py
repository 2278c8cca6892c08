"""Link scheduling (SPEC §6 C) on global matrices: local greedy solver, critic, published training, and its twin.

Symbols: B samples, V vertices (nodes), u utility, z the actor's output, all [B, V]; A [V, V] the conflict graph, 0/1,
perhaps with isolated vertices; S its shift; W mixing. theta: the actor's parameters, phi: the critic's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from fdtrain.errors import InputError
from fdtrain.reference.model import Array, Matrix, Model, check_shape
from fdtrain.reference.recursions import CENTRALIZED, Recursion, State

Flags: TypeAlias = NDArray[np.bool_]

# --- the conflict graph and the local greedy solver ---


def _conflicts(A: Matrix) -> csr_array[Any]:
    if A.ndim != 2 or A.shape[0] != A.shape[1]:
        raise InputError(f"a conflict graph is square, [V, V]; found shape {A.shape}")
    M: csr_array[Any] = csr_array(cast(Any, A), dtype=np.float64, copy=True)
    M.sum_duplicates()
    M.eliminate_zeros()
    if (M.data != 1).any() or M.diagonal().any() or abs(M - M.T).sum():
        raise InputError(
            "a conflict graph is symmetric, has entries 0 and 1 and no loops; found another matrix"
        )
    return M


def conflict_shift(A: Matrix) -> csr_array[Any]:
    """S [V, V]: normalized Laplacian I - D^-1/2 A D^-1/2; row and column of an isolated vertex are 0, S_ii too."""
    M = _conflicts(A)
    d = np.asarray(M.sum(axis=1), dtype=np.float64)
    root = diags_array(np.divide(1.0, np.sqrt(d), out=np.zeros_like(d), where=d > 0))
    return csr_array(diags_array((d > 0).astype(np.float64)) - root @ M @ root)


class _Contest(NamedTuple):
    """The directed edges e = (i, j) of A, and who wins: weights [B, V], ties to the lower id."""

    i: NDArray[np.integer[Any]]  # [E]
    j: NDArray[np.integer[Any]]  # [E]
    out: csr_array[Any]  # [V, E]: 1 where the edge starts
    beats: Flags  # [B, E]: i's weight beats j's

    @staticmethod
    def of(A: Matrix, weights: Array) -> _Contest:
        M = _conflicts(A)
        check_shape("weights", weights.shape, (len(weights), M.shape[0]))
        if not np.isfinite(weights).all():
            raise InputError("the greedy solver compares finite weights; found one that is not")
        i, j = M.nonzero()
        out: csr_array[Any] = csr_array(
            (np.ones(i.size, dtype=np.int64), (i, np.arange(i.size))), shape=(M.shape[0], i.size)
        )
        beats = (weights[:, i] > weights[:, j]) | ((weights[:, i] == weights[:, j]) & (i < j))
        return _Contest(i, j, out, beats)

    def any_edge(self, flags: Flags) -> Flags:
        """[B, V]: whether any edge that starts at the vertex has the flag; flags [B, E]."""
        return np.asarray(self.out @ flags.T.astype(np.int64)).T > 0


def greedy(A: Matrix, weights: Array) -> Flags:
    """chosen [B, V] by the local greedy solver, in synchronous steps; weights [B, V], any finite numbers.

    A vertex whose weight beats all undecided neighbours' joins, its neighbours leave; ties to the lower id.
    """
    contest = _Contest.of(A, weights)
    undecided = np.ones(weights.shape, dtype=bool)
    chosen = np.zeros(weights.shape, dtype=bool)
    while undecided.any():
        joins = undecided & ~contest.any_edge(undecided[:, contest.j] & ~contest.beats)
        chosen |= joins
        undecided &= ~(joins | contest.any_edge(joins[:, contest.j]))
    return chosen


class GreedyCost(NamedTuple):
    """What the local greedy solver sends for samples that share messages, the round of weights included."""

    rounds: int
    radio_messages: int  # vertices that send, summed over the rounds
    link_messages: int  # directed edges that carry, summed over the rounds


_UNDECIDED, _JOINED, _LEFT = 0, 1, 2


def greedy_by_messages(A: Matrix, weights: Array) -> tuple[Flags, GreedyCost]:
    """chosen [B, V] and the cost, as the vertices find it out by telling their neighbours.

    One round of weights from every vertex that has a neighbour. Then in turns: every undecided vertex leaves if it
    knows of a neighbour that joined, or joins if it beats every neighbour that it does not know to be decided; and
    states are told over the live edges, those whose ends both told 'undecided' in all rounds before. It ends when no
    edge is live. The B samples share messages: one is sent in a round where an edge is live in any of them.
    """
    contest = _Contest.of(A, weights)
    i, j = contest.i, contest.j
    state = np.full(weights.shape, _UNDECIDED)
    known = np.full(contest.beats.shape, _UNDECIDED)  # [B, E]: the state of j, as far as i knows
    live = np.ones(contest.beats.shape, dtype=bool)  # [B, E]
    rounds, radio, link = 1, np.unique(i).size, i.size
    while True:
        undecided = state == _UNDECIDED
        leaves = undecided & contest.any_edge(known == _JOINED)
        joins = undecided & ~leaves & ~contest.any_edge((known == _UNDECIDED) & ~contest.beats)
        state[leaves], state[joins] = _LEFT, _JOINED
        if not live.any():
            return state == _JOINED, GreedyCost(rounds, radio, link)
        rounds += 1
        radio += int(contest.any_edge(live).any(axis=0).sum())
        link += int(live.any(axis=0).sum())
        known = np.where(live, state[:, j], known)
        live &= (state[:, i] == _UNDECIDED) & (state[:, j] == _UNDECIDED)


def greedy_rounds(A: Matrix, weights: Array) -> GreedyCost:
    """(rounds, radio_messages, link_messages) of the samples weights [B, V] as one wave; see greedy_by_messages."""
    return greedy_by_messages(A, weights)[1]


def target(u: Array, chosen: Flags) -> Array:
    """[B, V, 2]: [u if chosen else 0, 1 - that]; u, chosen [B, V]."""
    check_shape("chosen", chosen.shape, u.shape)
    first = np.where(chosen, u, 0.0)
    return np.stack([first, 1.0 - first], axis=-1)


# --- actor and critic ---


def actor_model(form: str, sizes: tuple[int, ...] = (1, 32, 32, 1), negative_slope: float = 0.2) -> Model:
    """The actor, on the constant 1: leaky relu on all layers but the last, relu on the last."""
    return Model(sizes, ("leaky_relu",) * (len(sizes) - 2) + ("relu",), form, negative_slope)


def critic_model(
    form: str, sizes: tuple[int, ...] = (2, 64, 64, 64, 64, 2), negative_slope: float = 0.2
) -> Model:
    """The critic up to the softmax: leaky relu on all layers but the last."""
    return Model(sizes, ("leaky_relu",) * (len(sizes) - 2) + ("identity",), form, negative_slope)


def _softmax(h: Array) -> Array:
    with np.errstate(under="ignore"):  # a share too small to be told from 0
        e = np.exp(h - h.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _softmax_reverse(o: Array, do: Array) -> Array:
    """df/dh of o = softmax(h), from do = df/do; all [..., g]."""
    with np.errstate(under="ignore"):
        return np.asarray(o * (do - (do * o).sum(axis=-1, keepdims=True)))


def _joined(z: Array) -> Array:  # [1, z] at every vertex: [B, V, 2] of z [B, V]
    return np.stack([np.ones_like(z), z], axis=-1)


def _minus_first(o: Array) -> Array:  # df/do of f = -sum_j o_j0
    do = np.zeros_like(o)
    do[..., 0] = -1.0
    return do


@dataclass(frozen=True)
class Critic:
    """Centralized critic: X^l = sigma(X Theta0 + S X Theta1), leaky relu, then softmax over the last layer's outputs.

    Input per vertex xhat = (x - mean) / (6 sqrt(var + 1e-12)) + 1/2 for x = [1, z], mean and population variance over
    both entries of all vertices of a sample. phi [p_c], the same at all vertices: Theta0, Theta1 of each layer,
    row-major.
    """

    sizes: tuple[int, ...] = (2, 64, 64, 64, 64, 2)
    negative_slope: float = 0.2
    l2: float = 5e-4

    def __post_init__(self) -> None:
        check_shape("a critic's input", self.sizes[:1], (2,))
        _ = self._model  # checks the sizes

    @property
    def _model(self) -> Model:
        return critic_model("receiver", self.sizes, self.negative_slope)  # with equal phi, as the sender form

    @property
    def num_parameters(self) -> int:
        return self._model.num_parameters

    def predict(self, S: Matrix, z: Array, phi: Array) -> Array:
        """o [B, V, g_L] of z [B, V]."""
        return self._outputs(S, _standardised(z), phi)

    def _outputs(self, S: Matrix, x: Array, phi: Array) -> Array:
        check_shape("phi", phi.shape, (self.num_parameters,))
        return _softmax(self._model.forward(S, x, phi))

    def loss_and_gradient(self, S: Matrix, z: Array, target: Array, phi: Array) -> tuple[float, Array]:
        """RMSE + l2 sum phi^2, and its gradient [p_c]; z [B, V], target [B, V, g_L].

        RMSE^2 is the mean of (o - target)^2 over samples, vertices and outputs; where it is 0, its gradient is 0.
        """
        x = _standardised(z)
        o = self._outputs(S, x, phi)
        check_shape("target", target.shape, o.shape)
        rmse = np.sqrt(np.mean((o - target) ** 2))
        do = (o - target) / (o.size * rmse) if rmse > 0 else np.zeros_like(o)
        samples = self._model.shared_pullback(S, x, _softmax_reverse(o, do), phi)  # 1/|V| in it
        gradient = samples.sum(axis=0) * z.shape[1] + 2.0 * self.l2 * phi
        return float(rmse + self.l2 * np.sum(phi**2)), gradient

    def sensitivity(self, S: Matrix, z: Array, phi: Array) -> Array:
        """[B, V]: |V| d/dz_i(b) of -(1/|V|) sum_j o_j0(b), every sample by itself; z [B, V].

        |V| makes the mean over the nodes of the actor's local gradients the gradient of that objective.
        """
        x = _standardised(z)
        o = self._outputs(S, x, phi)
        dx = self._model.input_gradient(S, x, _softmax_reverse(o, _minus_first(o)), phi)
        return _standardised_reverse(z, dx)


def _moments(x: Array) -> tuple[Array, Array]:  # x - mean [B, V, 2], sqrt(var + 1e-12) [B, 1, 1]
    centred = x - x.mean(axis=(1, 2), keepdims=True)
    return centred, np.sqrt(np.mean(centred**2, axis=(1, 2), keepdims=True) + 1e-12)


def _standardised(z: Array) -> Array:  # xhat [B, V, 2] of z [B, V]
    centred, deviation = _moments(_joined(z))
    return centred / (6.0 * deviation) + 0.5


def _standardised_reverse(z: Array, dxhat: Array) -> Array:
    """df/dz [B, V] from df/dxhat [B, V, 2]: mean and variance depend on z too."""
    centred, deviation = _moments(_joined(z))
    unit, axes = centred / deviation, (1, 2)
    along = np.mean(dxhat * unit, axis=axes, keepdims=True)
    dx = (dxhat - dxhat.mean(axis=axes, keepdims=True) - unit * along) / (6.0 * deviation)
    return np.asarray(dx[..., 1])


# --- the published training, one mini-batch at a time ---


class SchedulingState(NamedTuple):
    """theta [V, p] (centralized: [p]) and phi [p_c], each with its optimizer's state."""

    actor: State
    critic: State


class Seen(NamedTuple):
    """What a mini-batch saw before its updates."""

    z: Array  # [B, V], the actor's clean output
    chosen: Flags  # [B, V]
    critic_loss: float


@dataclass(frozen=True)
class Scheduling:
    """The published training (SPEC §6 C): actor_steps naive_adam (or adam: centralized), critic_steps adam.

    sample_by_sample: the actor's optimizer steps once per sample, in their order; else once with the samples' sum.
    """

    actor: Model
    critic: Critic
    actor_steps: Recursion
    critic_steps: Recursion
    sample_by_sample: bool = True

    def start(self, theta: Array, phi: Array) -> SchedulingState:
        """theta [V, p], a row per node, or, centralized, [p]; phi [p_c]."""
        return SchedulingState(self.actor_steps.start(theta), self.critic_steps.start(phi))

    def actor_gradients(self, S: Matrix, theta: Array, phi: Array, explore: Array) -> tuple[Array, Array]:
        """z [B, V] and every sample's local gradients [B, V, p] (centralized: [B, p]); explore [B, V].

        They are of -(1/|V|) sum_j o_j0, with the critic at z + explore, times |V| (centralized: as it is).
        """
        one = np.ones((*explore.shape, 1))
        z = self.actor.forward(S, one, theta)[..., 0]
        dz = self.critic.sensitivity(S, z + explore, phi)[..., None]
        centralized = self.actor_steps.kind in CENTRALIZED
        pullback = self.actor.shared_pullback if centralized else self.actor.pullback
        return z, pullback(S, one, dz, theta)

    def advance(
        self, state: SchedulingState, A: Matrix, W: Matrix | None, u: Array, noise: Array, explore: Array,
        *, actor_lr: float, critic_lr: float,
    ) -> tuple[SchedulingState, Seen]:  # fmt: skip
        """One mini-batch on the graph A with its mixing W (centralized: None); u, noise, explore [B, V]."""
        check_shape("u", u.shape, explore.shape)
        check_shape("noise", noise.shape, explore.shape)
        S, phi = conflict_shift(A), state.critic.theta
        z, gradients = self.actor_gradients(S, state.actor.theta, phi, explore)
        actor = state.actor
        for gradient in gradients if self.sample_by_sample else [gradients.sum(axis=0)]:
            actor = self.actor_steps.advance(actor, W, gradient, actor_lr)
        chosen = greedy(A, (z + noise) * u)
        loss, gradient = self.critic.loss_and_gradient(S, z + noise, target(u, chosen), phi)
        critic = self.critic_steps.advance(state.critic, None, gradient, critic_lr)
        return SchedulingState(actor, critic), Seen(z, chosen, loss)


# --- the twin: actor and critic both by messages ---


@dataclass(frozen=True)
class Twin:
    """Actor and critic at every node (beyond the paper): theta [V, p], a row is [theta^i | phi^i].

    z_i: the actor's output from x, by default the constant 1; o_i: softmax of the critic on [1, z_i + e_i], not
    standardised. Both are GCNNs (§2), the critic's before the softmax.
    """

    actor: Model
    critic: Model
    l2: float = 0.0

    def __post_init__(self) -> None:
        ends = tuple(model.sizes[end] for model in (self.actor, self.critic) for end in (0, -1))
        if ends != (1, 1, 2, 2):
            raise InputError(
                f"actor and critic of a twin have 1 and 1, 2 and 2 as first and last size; found {ends}"
            )

    @property
    def num_parameters(self) -> int:
        return self.actor.num_parameters + self.critic.num_parameters

    def split(self, theta: Array) -> tuple[Array, Array]:
        """theta^i [V, p_a] and phi^i [V, p_c] of theta [V, p]."""
        check_shape("theta", theta.shape, (len(theta), self.num_parameters))
        return theta[:, : self.actor.num_parameters], theta[:, self.actor.num_parameters :]

    def forward(self, S: Matrix, e: Array, theta: Array, x: Array | None = None) -> tuple[Array, Array]:
        """z [B, V] and o [B, V, 2] of the noise e [B, V]; x [B, V, 1]."""
        actor, critic = self.split(theta)
        z = self.actor.forward(S, _features(e, x), actor)[..., 0]
        return z, _softmax(self.critic.forward(S, _joined(z + e), critic))

    def local_gradients(self, S: Matrix, e: Array, u: Array, theta: Array, x: Array | None = None) -> Array:
        """[B, V, p] per sample; e, u [B, V]. To phi^i: sum_j d l_j / d phi^i, to theta^i: sum_j d(-o_j0) / d theta^i.

        l_j = (o_j0 - t_j0)^2 + (o_j1 - t_j1)^2 + l2 |phi^j|^2, t = target(u, greedy((z + e) u)) a constant, on the
        graph where S_ij or S_ji is not 0. theta is not trained by l, phi not by o.
        """
        seen, dh, dz = self._reverse(S, e, u, theta, x)
        actor, critic = self.split(theta)
        first = self.actor.pullback(S, _features(e, x), dz, actor)
        second = self.critic.pullback(S, seen, dh, critic) + 2.0 * self.l2 * critic
        return np.concatenate([first, second], axis=2)

    def summed_gradients(self, S: Matrix, e: Array, u: Array, theta: Array, x: Array | None = None) -> Array:
        """[V, p]: local_gradients summed over the samples; at the published sizes those would fill gigabytes."""
        seen, dh, dz = self._reverse(S, e, u, theta, x)
        actor, critic = self.split(theta)
        first = self.actor.summed_pullback(S, _features(e, x), dz, actor)
        second = self.critic.summed_pullback(S, seen, dh, critic) + 2.0 * self.l2 * len(e) * critic
        return np.concatenate([first, second], axis=1)

    def shared_gradients(self, S: Matrix, e: Array, u: Array, theta: Array, x: Array | None = None) -> Array:
        """[B, p]: mean over the nodes of local_gradients with one theta [p] for all of them; e, u [B, V]."""
        seen, dh, dz = self._reverse(S, e, u, np.tile(theta, (S.shape[0], 1)), x)
        actor, critic = np.split(theta, [self.actor.num_parameters])
        first = self.actor.shared_pullback(S, _features(e, x), dz, actor)
        second = self.critic.shared_pullback(S, seen, dh, critic) + 2.0 * self.l2 * critic
        return np.concatenate([first, second], axis=1)

    def _reverse(
        self, S: Matrix, e: Array, u: Array, theta: Array, x: Array | None
    ) -> tuple[Array, Array, Array]:
        """The critic's input, d(sum l)/dh of its last layer [B, V, 2], and d(-sum o_0)/dz [B, V, 1]."""
        z, o = self.forward(S, e, theta, x)
        seen, critic = _joined(z + e), self.split(theta)[1]
        t = target(u, greedy(_pattern(S), (z + e) * u))
        dx = self.critic.input_gradient(S, seen, _softmax_reverse(o, _minus_first(o)), critic)
        return seen, _softmax_reverse(o, 2.0 * (o - t)), dx[..., 1:]


def _features(e: Array, x: Array | None) -> Array:  # [B, V, 1]
    return np.ones((*e.shape, 1)) if x is None else x


def _pattern(S: Matrix) -> csr_array[Any]:
    """A [V, V]: i ~ j when S_ij or S_ji is not 0, i != j."""
    M: csr_array[Any] = csr_array(cast(Any, S))
    i, j = np.asarray((abs(M) + abs(M).T).nonzero())
    i, j = i[i != j], j[i != j]
    return csr_array((np.ones(i.size), (i, j)), shape=M.shape)
