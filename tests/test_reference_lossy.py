"""The oracle of unreliable channels: against the oracle of reliable ones, finite differences, examples by hand, and
message logs that are read by definition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from lossy import ROWS, Array, Problem, during

from fdtrain import reference as ref
from fdtrain.errors import InputError
from fdtrain.reference.lossy_mixing import Mixing
from fdtrain.reference.lossy_passes import HeldRows, Wave, renormalized
from fdtrain.rng import uniforms

SCHEMES = dict.fromkeys(ref.DISTRIBUTED[:4], ("per_batch", "piggyback", "piggyback_do"))
SCHEMES |= dict.fromkeys(ref.DISTRIBUTED[4:], ("per_sample", "per_batch", "piggyback"))
PAIRS = [(kind, scheme) for kind, schemes in SCHEMES.items() for scheme in schemes]
LOSSY = ref.FieldChannel(ref.Independent(0.3), ref.Geometric(0.5, 4))
BURSTS = ref.GilbertElliott(0.2, 0.5, 0.05, 0.9)
FEATURES, PARAMETERS = ("zero", "hold", "drop_edge"), ("keep_own", "hold", "push_sum")


@pytest.fixture(autouse=True)
def _strict_numpy() -> Iterator[None]:
    with np.errstate(all="raise", under="ignore"):
        yield


def close(found: Any, wanted: Any, tolerance: float = 1e-13) -> None:
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


# ---- nothing lost


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize(("kind", "scheme"), PAIRS)
def test_with_nothing_lost_it_is_the_oracle_of_reliable_channels(kind: str, scheme: str, form: str) -> None:
    problem, steps = Problem(form, (2, 3, 2, 1), ("tanh", "leaky_relu", "sigmoid")), 2
    recursion = problem.recursion(kind, consensus_rounds=1 if scheme == "piggyback_do" else steps)
    for features in FEATURES:
        for parameters in PARAMETERS[: 2 if kind.startswith("naive") else 3]:
            channel = ref.Channel(
                3,
                ref.Independent(0.0),
                ref.FieldChannel(ref.GilbertElliott(0.5, 0.5, 0.0, 0.0), ref.Fixed(0), features),
                ref.FieldChannel(delay=ref.Uniform(0, 0)),
                ref.FieldChannel(delay=ref.Geometric(0.0, 5), policy=parameters),
            )
            state = recursion.start(problem.theta)
            for t, (training, gradients) in enumerate(problem.train(kind, scheme, channel, 4, steps=steps)):
                (x, y), (S, W) = problem.samples(t), problem.network(t)
                output, wanted = problem.model.local_pass(S, x, y, state.theta)
                state = recursion.advance(state, W, wanted, 0.05)
                close(gradients, wanted, 1e-12)
                close(training.output, output)
                close(training.theta, state.theta)
                close(training.weights, np.ones_like(training.weights))
            assert not any(training.lost.values())
            assert not any(training.late.values())


@pytest.mark.parametrize("kind", ["naive_adam", "d_amsgrad"])
def test_gradients_are_clipped_as_they_are_mixed(kind: str) -> None:
    problem = Problem()
    training = problem.training(kind, ref.Channel(0), 0.5)
    waves, rounds = problem.schedule(kind, "per_sample" if kind == "naive_adam" else "per_batch")
    (x, y), (S, W) = problem.samples(0), problem.network(0)
    training.minibatch(x, y, S, W, waves, rounds, 0.1)
    cuts = (0, 2, 4, 5) if kind == "naive_adam" else (0, 5)
    gradient = sum(
        ref.clip_rows(problem.model.local_gradients(S, x[a:b], y[a:b], problem.theta), 0.5)
        for a, b in pairwise(cuts)
    )
    recursion = problem.recursion(kind)
    close(
        training.theta, recursion.advance(recursion.start(problem.theta), W, np.asarray(gradient), 0.1).theta
    )


# ---- fates


def full(nodes: int) -> Array:
    return ~np.eye(nodes, dtype=bool)


def test_losses_and_delays_are_the_given_draws() -> None:
    """Read off, link by link, from one uniform number of each."""
    channel = ref.Channel(
        9,
        ref.Independent(0.2),
        ref.FieldChannel(BURSTS, ref.Uniform(1, 3)),
        ref.FieldChannel(ref.Independent(0.5), ref.Geometric(2.0, 6)),
    )
    fates, links = ref.Fates(channel, 5), full(5)

    def u(purpose: str, R: int, i: int, j: int) -> float:
        return float(uniforms(9, f"channel/{purpose}", R, np.array([i]), np.array([j]))[0])

    bad: dict[tuple[int, int], bool] = {}
    for R in range(40):
        if R % 8 == 0:
            here = links & ~(np.arange(5) == R // 8)  # node R // 8 is heard by nobody
            fates.begin(R // 8, here)
        fates.advance(R)
        features, backward = fates.of("features", R), fates.of("backward", R)
        for i, j in np.argwhere(~here):
            bad.pop((i, j), None)
        for i, j in np.argwhere(here):
            move = u("features/state", R, i, j)
            if (i, j) not in bad:
                bad[i, j] = move < 0.2 / (0.2 + 0.5)
            else:
                bad[i, j] = move >= 0.5 if bad[i, j] else move < 0.2
            whole = u("message/loss", R, i, j) < 0.2
            own = u("features/loss", R, i, j) < (0.9 if bad[i, j] else 0.05)
            assert features.lost[i, j] == (whole or own)
            assert features.delay[i, j] == 1 + int(u("features/delay", R, i, j) * 3)
            assert backward.lost[i, j] == (whole or u("backward/loss", R, i, j) < 0.5)
            # the number of failures before a success with probability 1/(1 + mean)
            trial, rounds = 1.0 - u("backward/delay", R, i, j), 0
            while trial < (2 / 3) ** (rounds + 1) and rounds < 6:
                rounds += 1
            assert backward.delay[i, j] == rounds
    assert fates.bad("features").sum() == sum(bad.values())


def test_a_draw_does_not_depend_on_other_links_or_fields() -> None:
    channel = ref.Channel(4, None, ref.FieldChannel(BURSTS, ref.Uniform(0, 2)))
    many, few = ref.Fates(channel, 12), ref.Fates(replace(channel, backward=LOSSY), 6)
    chosen = full(6) & (np.random.default_rng(0).random((6, 6)) < 0.5)
    for R in range(30):
        if R % 5 == 0:
            many.begin(R // 5, full(12))
            few.begin(R // 5, chosen)
        many.advance(R)
        few.advance(R)
        few.of("backward", R)
        a, b = many.of("features", R), few.of("features", R)
        np.testing.assert_array_equal(a.lost[:6, :6][chosen], b.lost[chosen])
        np.testing.assert_array_equal(a.delay[:6, :6][chosen], b.delay[chosen])


def test_gilbert_elliott_has_its_rate_and_its_bursts() -> None:
    """A chain is bad a share to_bad/(to_bad + to_good) of the rounds, and 1/to_good rounds in a row; from its first
    round on."""
    to_bad, to_good, rounds, nodes = 0.1, 0.25, 400, 30
    channel = ref.Channel(5, None, ref.FieldChannel(ref.GilbertElliott(to_bad, to_good)))
    fates, links = ref.Fates(channel, nodes), full(nodes)
    fates.begin(0, links)
    bad = np.zeros((rounds, links.sum()), dtype=bool)
    for R in range(rounds):
        fates.advance(R)
        bad[R] = fates.bad("features")[links]
        np.testing.assert_array_equal(fates.of("features", R).lost[links], bad[R])
    rate = to_bad / (to_bad + to_good)
    spread = np.sqrt(rate * (1 - rate))
    assert abs(bad[0].mean() - rate) < 5 * spread / np.sqrt(bad.shape[1])
    correlated = (1 + (1 - to_bad - to_good)) / (to_bad + to_good)  # rounds that count as one
    assert abs(bad.mean() - rate) < 5 * spread * np.sqrt(correlated / bad.size)
    starts = (bad[1:] & ~bad[:-1]).sum()
    assert abs(bad[1:].sum() / starts - 1 / to_good) < 0.1
    assert abs((bad[:-1] & ~bad[1:]).sum() / bad[:-1].sum() - to_good) < 5 * 0.5 / np.sqrt(bad[:-1].sum())


def test_delays_have_their_means() -> None:
    channel = ref.Channel(
        6,
        features=ref.FieldChannel(delay=ref.Geometric(1.5, 100)),
        backward=ref.FieldChannel(delay=ref.Uniform(2, 5)),
        parameters=ref.FieldChannel(delay=ref.Geometric(1.5, 2)),
    )
    fates = ref.Fates(channel, 300)
    fates.begin(0, full(300))
    fates.advance(0)
    geometric, uniform, cut = (fates.of(name, 0).delay for name in ("features", "backward", "parameters"))
    assert abs(geometric.mean() - 1.5) < 5 * np.sqrt(1.5 * 2.5) / 300
    np.testing.assert_allclose(np.bincount(uniform.ravel())[2:], 300**2 / 4, rtol=0.05)
    assert (uniform.min(), uniform.max(), cut.max()) == (2, 5, 2)


def test_outages_partitions_and_crashes_take_links_down_for_their_mini_batches() -> None:
    channel = ref.Channel(
        0,
        outages=(ref.Outage(0, 1, during(1, 2)),),
        partitions=(ref.Partition((0, 1), during(2, 3)),),
        crashes=(ref.Crash(3, during(3)),),
    )
    fates, links = ref.Fates(channel, 4), full(4)
    expected = [
        set(),
        {(0, 1), (1, 0)},
        {(0, 2), (0, 3), (1, 2), (1, 3), (2, 0), (3, 0), (2, 1), (3, 1)},
        {(3, 0), (3, 1), (3, 2), (0, 3), (1, 3), (2, 3)},
    ]
    for t, down in enumerate([*expected, expected[-1]]):
        fates.begin(t, links)
        fates.advance(t)
        for name in ("features", "backward", "parameters"):
            assert set(map(tuple, np.argwhere(fates.of(name, t).lost & links).tolist())) == down
        assert fates.up.tolist() == [True, True, True, t < 3]


# ---- passes


@pytest.mark.parametrize("form", ["receiver", "sender"])
def test_gradients_of_drop_edge_are_the_derivatives_of_what_was_computed(form: str) -> None:
    """Each node's own θ, in numerical differences of Σ ℓ over the nodes, with the same messages lost."""
    problem = Problem(form, (2, 3, 2, 1), ("tanh", "identity", "sigmoid"), batch=3, seed=2)
    channel = ref.Channel(8, None, ref.FieldChannel(ref.Independent(0.3), policy="drop_edge"))
    waves, rounds = problem.schedule("d_sgd", "piggyback")
    (x, y), (S, W) = problem.samples(0), problem.network(0)

    def run(theta: Array) -> tuple[float, Array, int]:
        training = ref.LossyTraining(problem.model, ref.Recursion("d_sgd"), theta, channel)
        gradients = training.minibatch(x, y, S, W, waves, rounds, 0.0)
        return float(((training.output - y) ** 2).sum()), gradients, training.lost["features"]

    _, gradients, lost = run(problem.theta)
    assert lost > 10
    numeric, h = np.empty_like(gradients), 1e-5
    for at in np.ndindex(*gradients.shape):
        move = np.zeros_like(gradients)
        move[at] = h
        numeric[at] = (run(problem.theta + move)[0] - run(problem.theta - move)[0]) / (2 * h)
    np.testing.assert_allclose(gradients, numeric, rtol=1e-6, atol=1e-8)
    plain = problem.model.local_gradients(S, x, y, problem.theta)
    assert np.abs(gradients - plain).max() > 0.1


def test_drop_edge_keeps_the_weight_of_a_neighbourhood() -> None:
    """Three nodes; node 0 hears 1 and not 2, node 1 hears nobody, node 2 everybody."""
    S = np.array([[7.0, -1.0, 3.0], [2.0, 5.0, 2.0], [1.0, 1.0, 9.0]])
    heard = np.array([[0, 1, 0], [0, 0, 0], [1, 1, 0]], dtype=bool)
    close(renormalized(S, heard), np.array([[7.0, -4.0, 0.0], [0.0, 5.0, 0.0], [1.0, 1.0, 9.0]]))


@pytest.mark.parametrize("form", ["receiver", "sender"])
def test_zero_leaves_terms_out_forward_and_backward(form: str) -> None:
    """Two nodes, one layer, by hand: 0 hears nothing of 1 in either direction, 1 hears 0."""
    model, S = ref.Model((1, 1), ("identity",), form), np.array([[2.0, 3.0], [5.0, 7.0]])
    theta, x, y = np.array([[0.5, 1.5], [-1.0, 0.25]]), np.array([[[1.0], [4.0]]]), np.zeros((1, 2, 1))
    one_way = np.array([[False, False], [True, False]])
    wave = Wave(model, S, x, y, theta)
    wave.receive(1, wave.features(1), one_way, "zero", HeldRows())
    (a, b), (c, d) = theta  # Θ0, Θ1 of node 0 and of node 1
    sent = (1.0, 4.0) if form == "receiver" else (1.0 * b, 4.0 * d)
    sums = 2.0 * sent[0], 5.0 * sent[0] + 7.0 * sent[1]
    h = (a + sums[0] * b, 4 * c + sums[1] * d) if form == "receiver" else (a + sums[0], 4 * c + sums[1])
    close(wave.output[0, :, 0], np.array(h))
    q = 2 * h[0], 2 * h[1]
    if form == "receiver":
        wanted = [[q[0], sums[0] * q[0]], [4 * q[1], sums[1] * q[1]]]
    else:
        wave.receive_back(1, wave.backward(1), one_way)
        backs = S[0, 0] * q[0], S[0, 1] * q[0] + S[1, 1] * q[1]
        wanted = [[q[0], backs[0]], [4 * q[1], 4 * backs[1]]]
    close(wave.gradients(), np.array(wanted))


def by_nodes(problem: Problem, channel: ref.Channel, scheme: str) -> Array:
    """The gradients of the first mini-batch [V, p] as its nodes compute them, each for itself (SPEC §2)."""
    model, policy, nodes = problem.model, channel.policy("features"), range(problem.nodes)
    (x, y), (S, W) = problem.samples(0), problem.network(0)
    receiver, L = problem.form == "receiver", len(problem.activations)
    thetas = [model.split(row) for row in problem.theta]
    near = [[j for j in nodes if j != i and W[i, j] != 0] for i in nodes]
    waves, rounds = problem.schedule("d_sgd", scheme)
    fates = ref.Fates(channel, problem.nodes)
    fates.begin(0, (W != 0) & full(problem.nodes))
    X, H, a, q, c = ({} for _ in range(5))  # of (wave, layer, node): rows of samples
    used: dict[tuple[int, int, int], dict[int, float]] = {}  # S~_ij of those that i heard, and S_ii
    rho: dict[tuple[int, int, int], float] = {}
    held: dict[tuple[int, int, int], Array] = {}  # of (layer, i, j)
    on_the_way: list[tuple[int, tuple[int, int, int], Array]] = []
    stops = np.cumsum([0, *waves])
    for b in range(len(waves)):
        for i in nodes:
            X[b, 1, i] = x[stops[b] : stops[b + 1], i]

    def keep(link: tuple[int, int, int], row: Array) -> None:
        before = held.get(link, row)
        held[link] = np.concatenate([row, before[len(row) :]])

    def sigma(layer: int, h: Array, which: int) -> Array:
        return ref.ACTIVATIONS[problem.activations[layer - 1]][which](h, 0.01)

    for R, round_ in enumerate(rounds):
        fates.advance(R)
        for due, link, row in on_the_way:
            if due == R:
                keep(link, row)
        for sent in round_:
            if sent.kind not in ("features", "backward"):
                continue
            b, layer, fate = sent.wave, sent.layer, fates.of(sent.kind, R)
            in_time = ~fate.lost & (fate.delay == 0)
            if sent.kind == "features":
                m = [X[b, layer, i] @ (np.eye(problem.sizes[layer - 1]) if receiver else thetas[i][layer - 1][1])
                     for i in nodes]  # fmt: skip
                for i in nodes:
                    heard = [j for j in near[i] if in_time[i, j]]
                    row = S[i, i] * m[i]
                    rho[b, layer, i] = 1.0
                    if policy == "drop_edge" and heard:
                        rho[b, layer, i] = sum(abs(S[i, near[i]])) / sum(abs(S[i, heard]))
                    used[b, layer, i] = {i: S[i, i]} | {
                        j: S[i, j] * rho[b, layer, i] for j in (heard if policy == "drop_edge" else near[i])
                    }
                    for j in near[i]:
                        link = layer, i, j
                        if in_time[i, j]:
                            keep(link, m[j])
                            row = row + rho[b, layer, i] * S[i, j] * m[j]
                        elif policy == "hold" and link in held:
                            there = held[link][: len(row)]
                            row = row + S[i, j] * np.pad(there, ((0, len(row) - len(there)), (0, 0)))
                        if not fate.lost[i, j] and fate.delay[i, j] > 0:
                            on_the_way.append((R + int(fate.delay[i, j]), link, m[j]))
                    a[b, layer, i] = row
                    zero, one = thetas[i][layer - 1]
                    h = H[b, layer, i] = X[b, layer, i] @ zero + (row @ one if receiver else row)
                    X[b, layer + 1, i] = sigma(layer, h, 0)
                    if layer == L:
                        error = X[b, layer + 1, i] - y[stops[b] : stops[b + 1], i]
                        q[b, layer, i] = 2 * error * sigma(layer, h, 1)
            else:
                p = [q[b, layer, i] @ (thetas[i][layer - 1][1].T if receiver else np.eye(problem.sizes[layer]))
                     for i in nodes]  # fmt: skip
                for j in nodes:
                    row = S[j, j] * p[j]
                    for i in near[j]:
                        if in_time[j, i] and j in used[b, layer, i]:
                            row = row + S[i, j] * (rho[b, layer, i] * p[i])
                    c[b, layer, j] = row
                    zero, one = thetas[j][layer - 1]
                    if layer > 1:
                        z = q[b, layer, j] @ zero.T + (row if receiver else row @ one.T)
                        q[b, layer - 1, j] = z * sigma(layer - 1, H[b, layer - 1, j], 1)
    gradient = np.zeros_like(problem.theta)
    for i in nodes:
        for layer, (zero, one) in enumerate(model.split(gradient[i]), start=1):
            for b in range(len(waves)):
                at = b, layer, i
                zero += X[at].T @ q[at]
                one += a[at].T @ q[at] if receiver else X[at].T @ c[at]
    return gradient


@pytest.mark.parametrize("scheme", ["per_batch", "piggyback"])
@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("policy", FEATURES)
def test_gradients_are_those_of_nodes_that_compute_for_themselves(
    policy: str, form: str, scheme: str
) -> None:
    problem = Problem(form, (2, 3, 2, 1), ("tanh", "leaky_relu", "sigmoid"), nodes=6, seed=7)
    channel = ref.Channel(
        1,
        ref.Independent(0.1),
        ref.FieldChannel(BURSTS, ref.Geometric(0.7, 4), policy),
        ref.FieldChannel(ref.Independent(0.3), ref.Uniform(0, 1)),
    )
    ((training, gradients),) = problem.train("d_sgd", scheme, channel, 1)
    close(gradients, by_nodes(problem, channel, scheme), 1e-12)
    assert min(training.lost["features"], training.late["features"], training.lost["backward"]) > 10


def pair(channel: ref.Channel, *, waves: tuple[int, ...], kind: str = "d_sgd") -> Any:
    """Two nodes with one linear layer, Θ0 = 0 and Θ1 = 1, that hear only each other: the output is the sum of what
    arrived. A function from x [B] of node 1 to what node 0 puts out."""
    model = ref.Model((1, 1), ("identity",), "receiver")
    theta, S = np.array([[0.0, 1.0]] * 2), np.array([[0.0, 1.0], [1.0, 0.0]])
    training = ref.LossyTraining(model, ref.Recursion(kind), theta, channel)
    rounds = [[ref.Sent("features", 1, wave)] for wave in range(len(waves))]
    rounds.append([ref.Sent("consensus", wave=len(waves) - 1, width=2, step=1)])

    def minibatch(*x: float) -> list[float]:
        given = np.array([[[0.0], [value]] for value in x])
        training.minibatch(given, 0 * given, S, np.eye(2) / 2 + S / 2, waves, rounds, 0.0)
        return [float(v) for v in training.output[:, 0, 0]]

    return minibatch


def test_hold_uses_the_row_that_arrived_last() -> None:
    lost = ref.Outage(0, 1, during(1, 2))
    at = pair(ref.Channel(0, features=ref.FieldChannel(policy="hold"), outages=(lost,)), waves=(2, 1))
    assert at(1.0, 2.0, 3.0) == [1.0, 2.0, 3.0]
    assert at(4.0, 5.0, 6.0) == [3.0, 2.0, 3.0]  # the last wave had one sample, the one before it a second
    assert at(7.0, 8.0, 9.0) == [7.0, 8.0, 9.0]
    first = ref.Outage(0, 1, during(0, 1))
    at = pair(ref.Channel(0, features=ref.FieldChannel(policy="hold"), outages=(first,)), waves=(1, 1))
    assert at(1.0, 2.0) == [0.0, 0.0]  # 0 before anything came


def test_late_features_are_what_hold_uses_from_the_round_in_which_they_come() -> None:
    """In rounds 0, 1 features, 2 consensus; 3, 4; ... With a delay of 2 what is sent in round 1 is there in round 3."""
    held = ref.FieldChannel(delay=ref.Fixed(2), policy="hold")
    at = pair(ref.Channel(0, features=held), waves=(1, 1))
    assert at(1.0, 2.0) == [0.0, 0.0]  # what comes in round 2 nobody needs then
    assert at(3.0, 4.0) == [2.0, 2.0]
    assert at(5.0, 6.0) == [4.0, 4.0]
    at = pair(ref.Channel(0, features=replace(held, delay=ref.Fixed(1))), waves=(1, 1))
    assert at(1.0, 2.0) == [0.0, 1.0]
    at = pair(ref.Channel(0, features=replace(held, policy="zero")), waves=(1, 1))
    assert at(1.0, 2.0) == [0.0, 0.0] == at(3.0, 4.0)


def test_a_node_that_is_down_does_not_hear_what_comes_late() -> None:
    held, down = (
        ref.FieldChannel(delay=ref.Fixed(3), policy="hold"),
        (ref.Crash(0, during(1, 2)),),
    )
    at = pair(ref.Channel(0, features=held, crashes=down), waves=(1, 1))
    at(1.0, 2.0)
    at(3.0, 4.0)
    assert at(5.0, 6.0) == [0.0, 0.0]  # of mini-batch 0 nothing was heard, in 1 nothing was sent to it
    assert at(7.0, 8.0) == [5.0, 6.0]


# ---- mixing


def mixing(policy: str, rows: Array) -> Mixing:
    return Mixing(policy, *rows.shape)


HALF = np.full((2, 2), 0.5)
BOTH = np.array([[False, True], [True, False]])
TO_1 = np.array([[False, False], [True, False]])  # 0 → 1 alone
UP = np.ones(2, dtype=bool)


def exchange(kept: Mixing, R: int, rows: Array, arrives: Array, up: Array = UP) -> Array:
    """A step of consensus of two nodes in round R."""
    kept.send(R, 0, rows, HALF, BOTH & up)
    kept.arrive(arrives, R, 1, 0, rows)
    return kept.mix(HALF, rows, np.broadcast_to(arrives[:, :, None], (2, 2, rows.shape[1])), 1, up)


def test_keep_own_and_hold_by_hand() -> None:
    first, second, third = (np.array([[a], [b]]) for a, b in ((1.0, 5.0), (2.0, 7.0), (4.0, 9.0)))
    own, held = mixing("keep_own", first), mixing("hold", first)
    close(exchange(own, 0, first, TO_1), [[1.0], [3.0]])
    close(exchange(held, 0, first, TO_1), [[1.0], [3.0]])  # nothing ever came: its own
    close(exchange(own, 1, second, BOTH), [[4.5], [4.5]])
    close(exchange(held, 1, second, BOTH), [[4.5], [4.5]])
    close(exchange(own, 2, third, TO_1), [[4.0], [6.5]])
    close(exchange(held, 2, third, TO_1), [[(4.0 + 7.0) / 2], [6.5]])


def test_hold_keeps_a_row_of_every_step_of_consensus() -> None:
    rows = np.array([[1.0], [5.0]])
    kept = mixing("hold", rows)
    kept.arrive(BOTH, 0, 2, 0, rows)
    nothing = np.zeros((2, 2, 1), dtype=bool)
    close(kept.mix(HALF, rows + 10.0, nothing, 1, UP), [[11.0], [15.0]])
    close(kept.mix(HALF, rows + 10.0, nothing, 2, UP), [[8.0], [8.0]])


def test_push_sum_by_hand() -> None:
    """1 → 0 is lost, then not: its mass comes with the next message, and rows are ratios."""
    a, b = 3.0, 7.0
    rows = np.array([[a], [b]])
    kept = mixing("push_sum", rows)
    rows = exchange(kept, 0, rows, TO_1)
    close(rows, [[a], [(a + b) / 2]])
    close(kept.weights, [[0.5], [1.0]])
    close(np.concatenate(kept.total(rows)), [a + b, 2.0])
    mean = (a + b) / 2
    rows = exchange(kept, 1, rows, BOTH)
    close(rows, [[(0.25 * a + 0.5 * mean + 0.5 * b) / 1.25], [(0.25 * a + 0.5 * mean) / 0.75]])
    close(kept.weights, [[1.25], [0.75]])
    close(np.concatenate(kept.total(rows)), [a + b, 2.0])


NONE = np.zeros((2, 2), dtype=bool)
TO_0 = BOTH & ~TO_1


@pytest.mark.parametrize("overtaken", [False, True])
def test_mass_that_comes_late_brings_what_was_lost_before_it(overtaken: bool) -> None:
    """To 0: lost in round 0, late in round 1, lost in round 2 (or in time); what was late comes in round 3."""
    rows, sent = np.array([[0.0], [8.0]]), []
    kept = mixing("push_sum", rows)
    for R in range(3):
        sent.append(0.5 * kept.weights[1] * rows[1])
        late = rows
        if R == 1:
            kept_rows = late
        rows = exchange(kept, R, rows, BOTH if R == 2 and overtaken else TO_1)
    before = kept.weights[0, 0] * rows[0, 0]
    kept.arrive(TO_0, 1, 1, 0, kept_rows)
    after = exchange(kept, 3, rows, TO_1)
    gained = kept.weights[0, 0] * after[0, 0] - 0.5 * before
    close(np.array(gained), 0.0 if overtaken else sent[0][0] + sent[1][0])
    close(np.concatenate(kept.total(after)), [8.0, 2.0])


def test_what_a_node_that_is_down_is_sent_waits_for_it() -> None:
    rows = np.array([[3.0], [7.0]])
    kept = mixing("push_sum", rows)
    down = np.array([False, True])
    rows = exchange(kept, 0, rows, NONE, down)
    close(rows, [[3.0], [7.0]])
    close(kept.weights, [[1.0], [0.5]])  # 0 sent nothing, and has what it had
    rows = exchange(kept, 1, rows, BOTH)
    close(kept.weights, [[0.5 + 0.25 + 0.5], [0.5 + 0.25]])
    close(np.concatenate(kept.total(rows)), [10.0, 2.0])


ROUGH = ref.Channel(
    2,
    ref.Independent(0.05),
    parameters=ref.FieldChannel(ref.Independent(0.3), ref.Geometric(0.7, 6), "push_sum"),
    outages=(ref.Outage(1, 2, during(5, 90)),),
    partitions=(ref.Partition((0, 1, 2), during(100, 130)), ref.Partition((4,), during(160, 165))),
    crashes=(ref.Crash(3, during(20, 40)), ref.Crash(0, during(30, 60)), ref.Crash(5, during(150, 151))),
)


@pytest.mark.parametrize(("scheme", "how"), [("per_batch", {"steps": 3}), ("piggyback_do", {})])
def test_push_sum_conserves_mass(scheme: str, how: dict[str, int]) -> None:
    """Over 200 mini-batches with losses, delays, crashes, and W of another network each."""
    problem = Problem(
        sizes=(1, 1, 1), nodes=8, batch=2, wave=1, seed=1, activations=("tanh", "tanh"), moving=True
    )
    total, weight = problem.theta.sum(axis=0), 8.0
    for training, _ in problem.train("d_sgd", scheme, ROUGH, 200, lr=0.0, **how):
        mass, weights = training.mass()
        assert np.abs(mass - total).max() <= 1e-12
        assert np.abs(weights - weight).max() <= 1e-12
    kind = "slice" if scheme == "piggyback_do" else "consensus"
    assert training.lost[kind] > 1000
    assert training.late[kind] > 100
    spread = np.ptp(training.theta, axis=0).max()
    assert spread < 1e-6
    close(training.theta.mean(axis=0), total / 8, 1e-6)


@pytest.mark.parametrize("kind", ["d_amsgrad", "gradient_tracking", "d_adam"])
def test_weights_are_conserved_while_nodes_learn(kind: str) -> None:
    problem = Problem(nodes=6, batch=2, wave=1)
    for training, _ in problem.train(kind, "piggyback_do", ROUGH, 40):
        _, weights = training.mass()
        assert weights.shape == (ROWS.get(kind, 1) * problem.model.num_parameters,)
        assert np.abs(weights - 6.0).max() <= 1e-12
    assert np.isfinite(training.theta).all()
    assert np.ptp(training.weights, axis=1).max() > 0.1  # of every number its own


# ---- whole trainings, from the log of their messages


class Message(NamedTuple):
    """Parameters that were not lost on j → i."""

    i: int
    j: int
    R: int
    due: int
    event: int  # of what mixing it is a part
    numbers: range
    step: int
    in_time: bool


def log_of(
    problem: Problem, channel: ref.Channel, rounds: list[list[ref.Sent]], minibatches: int
) -> tuple[list[Message], list[tuple[int, int, int]]]:
    """All messages of parameters that arrive, and of every mixing (mini-batch, round in which it is made, step)."""
    fates, R = ref.Fates(channel, problem.nodes), 0
    messages: list[Message] = []
    mixings: list[tuple[int, int, int]] = []
    for t in range(minibatches):
        links = problem.network(t)[0] != 0
        fates.begin(t, links & full(problem.nodes))
        last = R + len(rounds) - 1
        slices = any(sent.kind == "slice" for round_ in rounds for sent in round_)
        if slices:
            mixings.append((t, last, 0))
        for round_ in rounds:
            fates.advance(R)
            for sent in round_:
                if sent.kind == "consensus":
                    mixings.append((t, R, sent.step))
                if sent.kind not in ("slice", "consensus"):
                    continue
                fate, numbers = fates.of("parameters", R), range(sent.start, sent.start + sent.width)
                for i, j in np.argwhere(links & full(problem.nodes) & ~fate.lost).tolist():
                    due = R + int(fate.delay[i, j])
                    in_time = due <= mixings[-1][1]
                    messages.append(Message(i, j, R, due, len(mixings) - 1, numbers, sent.step, in_time))
            R += 1
    return messages, mixings


def arrived(
    problem: Problem,
    messages: list[Message],
    rounds: int,
    where: tuple[int, int, int],
    by: int,
    *,
    held: bool,
) -> list[Message]:
    """On the link to i from j, with number k; the link was there until they came or, where `held`, until now."""
    i, j, k = where

    def there(first: int, last: int) -> bool:
        return all(problem.network(t)[0][i, j] for t in range(first // rounds, last // rounds + 1))

    found = [m for m in messages if (m.i, m.j) == (i, j) and m.due <= by and k in m.numbers]
    return [m for m in found if there(m.R, by if held else m.due)]


@pytest.mark.parametrize(
    ("scheme", "how"), [("piggyback_do", {"slices": "even"}), ("per_batch", {"steps": 2})]
)
@pytest.mark.parametrize("policy", ["hold", "push_sum"])
def test_mixing_is_what_the_log_of_messages_says(policy: str, scheme: str, how: dict[str, Any]) -> None:
    """Node by node and number by number. hold: the row that arrived last, where late ones come before those in time;
    push_sum: running sums of W_ij ω_j row_j, of which i has the one that was sent last of those that arrived."""
    nodes, count = 4, 12
    problem = Problem(sizes=(1, 2), activations=("tanh",), nodes=nodes, batch=3, wave=1, seed=3)
    parameters = ref.FieldChannel(ref.Independent(0.3), ref.Geometric(1.5, 7), policy)
    channel = ref.Channel(12, None, parameters=parameters)
    rounds = problem.schedule("d_sgd", scheme, **how)[1]
    messages, mixings = log_of(problem, channel, rounds, count)
    length = len(rounds)
    rows, weights = [problem.theta], [np.ones_like(problem.theta)]
    sums: dict[tuple[int, int, int], list[float]] = {}  # of i, j, number: after every mixing
    taken: dict[tuple[int, int, int], float] = {}
    weight_sums: dict[tuple[int, int, int], list[float]] = {}
    weights_taken: dict[tuple[int, int, int], float] = {}
    for event, (t, now, step) in enumerate(mixings):
        W, row, weight = problem.network(t)[1], rows[-1], weights[-1]
        mixed, mixed_weight = np.zeros_like(row), np.zeros_like(row)
        for i, k in np.ndindex(*row.shape):
            mixed[i, k], mixed_weight[i, k] = W[i, i] * weight[i, k] * row[i, k], W[i, i] * weight[i, k]
            for j in set(range(nodes)) - {i}:
                at = i, j, k
                here = arrived(problem, messages, length, at, now, held=policy == "hold")
                if policy == "hold":
                    held = [m for m in here if m.step == step]
                    own = [m for m in held if m.event == event and m.in_time]
                    last = own or sorted(held, key=lambda m: (m.due, m.in_time, m.R))[-1:]
                    mixed[i, k] += W[i, j] * (rows[last[0].event][j, k] if last else row[i, k])
                    continue
                for log, value in ((sums, row[j, k]), (weight_sums, 1.0)):
                    before = log.setdefault(at, [0.0])
                    before.append(before[-1] + W[i, j] * weight[j, k] * value)
                newest = max(here, key=lambda m: m.R).event + 1 if here else 0
                mixed[i, k] += sums[at][newest] - taken.get(at, 0.0)
                mixed_weight[i, k] += weight_sums[at][newest] - weights_taken.get(at, 0.0)
                taken[at], weights_taken[at] = sums[at][newest], weight_sums[at][newest]
        rows.append(mixed / mixed_weight if policy == "push_sum" else mixed)
        weights.append(mixed_weight if policy == "push_sum" else weight)
    steps = len(mixings) // count
    for t, (training, _) in enumerate(problem.train("d_sgd", scheme, channel, count, lr=0.0, **how)):
        close(training.theta, rows[steps * (t + 1)], 1e-12)
        close(training.weights, weights[steps * (t + 1)], 1e-12)
    kind = "slice" if scheme == "piggyback_do" else "consensus"
    assert training.late[kind] > 20
    assert training.late[kind] == sum(not m.in_time for m in messages)
    links = sum(int((problem.network(t)[0] != 0)[full(nodes)].sum()) for t in range(count))
    often = sum(sent.kind == kind for round_ in rounds for sent in round_)
    assert training.lost[kind] == links * often - len(messages)


def test_slices_that_come_after_their_mini_batch_are_held_for_the_next() -> None:
    """By hand: two slices in two rounds, each one round on its way: the second is late."""
    model = ref.Model((1, 1), ("identity",), "receiver")
    theta, none = np.array([[1.0, 2.0], [5.0, 8.0]]), np.zeros((2, 2))
    channel = ref.Channel(0, parameters=ref.FieldChannel(delay=ref.Fixed(1), policy="hold"))
    training = ref.LossyTraining(model, ref.Recursion("d_sgd"), theta, channel)
    rounds = [[ref.Sent("features", 1, b), ref.Sent("slice", start=b, width=1)] for b in range(2)]
    nothing = np.zeros((2, 2, 1))
    training.minibatch(nothing, nothing, none, HALF, (1, 1), rounds, 0.0)
    close(training.theta, [[3.0, 2.0], [3.0, 8.0]])
    training.minibatch(nothing, nothing, none, HALF, (1, 1), rounds, 0.0)
    close(training.theta, [[3.0, (2.0 + 8.0) / 2], [3.0, (8.0 + 2.0) / 2]])
    assert (training.late["slice"], training.late["features"], training.lost["slice"]) == (4, 0, 0)


# ---- crashes, moving links, and what is refused


@pytest.mark.parametrize("kind", ref.DISTRIBUTED)
def test_a_node_that_is_down_keeps_its_state_and_the_others_train_without_it(kind: str) -> None:
    """The rest of the network trains as if the node were not there, where drop_edge and keep_own say so."""
    problem = Problem(nodes=5, moving=False, seed=4)
    scheme = "per_batch"
    channel = ref.Channel(
        0,
        features=ref.FieldChannel(policy="zero"),
        crashes=(ref.Crash(2, during(1, 3)),),
    )
    rest, (S, W) = np.arange(5) != 2, problem.network(0)
    alone = W.copy()
    alone[np.diag_indices(5)] += np.where(rest, W[:, 2], 0.0)  # keep_own: its own row instead of node 2's
    before: ref.State = problem.recursion(kind).start(problem.theta)
    for t, (training, gradients) in enumerate(problem.train(kind, scheme, channel, 4)):
        x, y = problem.samples(t)
        if t in (1, 2):
            part = np.ix_(rest, rest)
            wanted = np.zeros_like(gradients)
            wanted[rest] = problem.model.local_gradients(S[part], x[:, rest], y[:, rest], before.theta[rest])
            mixed = problem.recursion(kind).advance(before, alone * (rest[:, None] & rest), wanted, 0.05)
            for name in ("theta", "m", "v", "v_hat", "u", "y", "gradient"):
                close(getattr(training.state, name)[rest], getattr(mixed, name)[rest])
                np.testing.assert_array_equal(getattr(training.state, name)[2], getattr(before, name)[2])
            close(gradients, wanted)
            assert not training.up[2]
        else:
            wanted = problem.model.local_gradients(S, x, y, before.theta)
            close(training.theta, problem.recursion(kind).advance(before, W, wanted, 0.05).theta)
        assert training.state.t == t + 1
        before = training.state


@pytest.mark.parametrize(("features", "parameters"), [*zip(FEATURES, PARAMETERS, strict=True)])
@pytest.mark.parametrize(("kind", "scheme"), PAIRS)
def test_everything_at_once_stays_finite_and_is_the_same_again(
    kind: str, scheme: str, features: str, parameters: str
) -> None:
    if kind.startswith("naive"):
        parameters = parameters.replace("push_sum", "keep_own")
    problem = Problem("sender", nodes=7, seed=6)
    channel = replace(
        ROUGH,
        message=BURSTS,
        features=ref.FieldChannel(BURSTS, ref.Uniform(0, 2), features),
        backward=ref.FieldChannel(ref.Independent(0.2), ref.Fixed(0)),
        parameters=replace(LOSSY, policy=parameters),
        crashes=(ref.Crash(3, during(2, 4)),),
    )
    *_, (first, _) = problem.train(kind, scheme, channel, 6)
    *_, (again, _) = problem.train(kind, scheme, channel, 6)
    *_, (other, _) = problem.train(kind, scheme, replace(channel, seed=3), 6)
    assert np.isfinite(first.theta).all()
    np.testing.assert_array_equal(first.theta, again.theta)
    assert np.abs(first.theta - other.theta).max() > 1e-4
    assert (first.lost, first.late) == (again.lost, again.late)
    assert first.late["backward"] == 0 < first.lost["backward"]


def test_what_cannot_be_is_refused() -> None:
    problem = Problem()
    with pytest.raises(InputError, match="push_sum needs rows that stay"):
        list(problem.train("naive_sgd", "per_batch", ROUGH, 1))
    with pytest.raises(InputError, match="unknown policy of backward 'hold'"):
        ref.Channel(0, backward=ref.FieldChannel(policy="hold"))
    with pytest.raises(InputError, match="found one after wave 0"):
        list(problem.train("d_sgd", "per_sample", ref.Channel(0), 1))
    with pytest.raises(InputError, match="no gradient of layer 1: some message"):
        list(problem.train("d_sgd", "inference", ref.Channel(0), 1))
    given = *problem.samples(0), *problem.network(0)
    waves, rounds = problem.schedule("d_sgd", "per_batch")
    with pytest.raises(InputError, match="d_sgd mixes rows; found rounds that carry none"):
        problem.training("d_sgd", ref.Channel(0)).minibatch(*given, waves, rounds[:-1], 0.1)
    with pytest.raises(InputError, match="to_bad is a probability"):
        ref.GilbertElliott(1.5, 0.1)
    training = problem.training("d_sgd", ref.Channel(0))
    with pytest.raises(InputError, match="links has no link between them"):
        training.minibatch(
            *problem.samples(0), *problem.network(0), *problem.schedule("d_sgd", "per_batch"), 0.1, np.eye(5)
        )
