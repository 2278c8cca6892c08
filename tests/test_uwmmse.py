"""Power allocation by messages against the oracle on global matrices: gradients, trajectories, packing and cost.

Every node has parameters of its own, and no channel is its own reverse: equal θ, or H = Hᵀ, would hide mistakes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from teams import error, experiment, serve, trace, verified

from fdtrain import reference
from fdtrain.channel_network import ChannelNetwork
from fdtrain.formulas import expected_numbers, expected_rounds
from fdtrain.job import Job
from fdtrain.layers.uwmmse import Uwmmse
from fdtrain.losses import NegativeSumRate
from fdtrain.mixing import Laplacian, Metropolis, Mixing
from fdtrain.optim.adam import Adam
from fdtrain.optim.base import Optimizer
from fdtrain.optim.clipped import Clipped
from fdtrain.optim.dadam import DAdam
from fdtrain.optim.damsgrad import DAMSGrad
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.gradient_tracking import GradientTracking
from fdtrain.optim.naive import Naive
from fdtrain.optim.rates import Constant
from fdtrain.optim.sgd import SGD
from fdtrain.service import Host, Outcome
from fdtrain.tasks.base import Order
from fdtrain.tasks.channel_data import ChannelData, SyntheticChannels
from fdtrain.tasks.power_allocation import PowerAllocation
from fdtrain.topology.channels import ChannelTopology

Array = NDArray[np.float64]
NOISE, PMAX = 10**-13.687, 5.0  # published


@dataclass
class Given:
    """A channel service with these channels."""

    train: Array  # [M, B, n, n]
    held_out: Array  # [M', B', n, n]
    streamed = True

    def __post_init__(self) -> None:
        self.minibatches, self.batch, self.pairs = self.train.shape[:3]
        self.test_minibatches, self.test_batch = self.held_out.shape[:2]
        self.train_samples = self.minibatches * self.batch

    def order(self, epoch: int) -> Order:
        return np.arange(self.train_samples)

    def channels(self, t: int) -> Array:
        return np.asarray(self.train[t % self.minibatches])

    def test_channels(self, k: int) -> Array:
        return np.asarray(self.held_out[k])

    def theta(self, names: Any) -> None: ...

    def check_epochs(self, epochs: int) -> None: ...


def trained(
    channels: Given,
    model: Uwmmse,
    theta: Array,
    optimizer: Optimizer[Any],
    scheme: str,
    wave: int,
    *,
    ranks: int = 1,
    mixing: Mixing = Metropolis(),  # noqa: B008 - frozen
    **settings: Any,
) -> tuple[Job, Outcome]:
    """All mini-batches, on `ranks` ranks."""
    topology = ChannelTopology(channels)
    task = PowerAllocation(noise_power=model.noise, max_power=model.max_power)
    data = ChannelData(channels, topology, task, 0)
    defaults: dict[str, Any] = {"epochs": 1, "consensus_rounds": 1, "slices": "idle"}
    job = Job(
        model=model, network=ChannelNetwork(), loss=NegativeSumRate(model.noise, channels.pairs),
        optimizer=optimizer, mixing=mixing, batch=channels.batch, wave=wave, scheme=scheme,
        train_samples=data.train_samples, test_samples=data.test_samples, redraw_every=1, streamed=True,
        test_minibatches=channels.test_minibatches, **(defaults | settings),
    )  # fmt: skip
    host = Host(job, topology, data, theta, ranks)
    return job, serve(job, host, ranks).outcome


def recipe(n: int, B: int, rng: np.random.Generator, t: int = 0, **settings: Any) -> Array:
    """Published: most links are there."""
    return SyntheticChannels(PowerAllocation(pairs=n, **settings), B, int(rng.integers(1000))).channels(t)


def weak(n: int, B: int, rng: np.random.Generator, t: int = 0) -> Array:
    """The same with few links left, and outages."""
    return recipe(n, B, rng, t, max_path_loss=112.0)


def decades(n: int, B: int, rng: np.random.Generator, t: int = 0) -> Array:
    """From 1e-12 to 1e-2, many links in one direction only, outages, a pair that is isolated in every sample, another
    that has nothing but its own link, and a sample without anything."""
    H = 10 ** rng.uniform(-12, -2, (B, n, n)) * (rng.random((B, n, n)) < 0.6)
    own = 10 ** rng.uniform(-5, -2, (B, n)) * (rng.random((B, n)) < 0.8)
    H[:, np.arange(n), np.arange(n)] = own
    if n > 4:
        H[:, 3, :] = H[:, :, 3] = 0.0
        H[:, 1, :] = H[:, :, 1] = 0.0
        H[:, 1, 1] = 1e-4
    H[B // 2] = 0.0
    return np.asarray(H)


def strong(n: int, B: int, rng: np.random.Generator, t: int = 0) -> Array:
    """Near 1, so that messages weigh as much as biases; with a noise of 0.1."""
    H = rng.uniform(0.2, 1.0, (B, n, n)) * (rng.random((B, n, n)) < 0.7)
    H[:, np.arange(n), np.arange(n)] = rng.uniform(0.3, 1.5, (B, n))
    return np.asarray(H)


CHANNELS = {"recipe": (recipe, 1e4), "weak": (weak, 1e4), "decades": (decades, 1e2), "strong": (strong, 1.0)}


def parameters(model: Uwmmse, n: int, rng: np.random.Generator, scale: float) -> Array:
    """Different at all nodes [n, p]; weights that make something of channels of size 1/`scale`."""
    theta = np.empty((n, model.num_parameters))
    for name, part in model.views(theta).items():
        is_weight = name.split("_")[3].startswith("w")
        part[...] = rng.normal(scale=scale if is_weight else 0.5, size=part.shape)
    return theta


def make(kind: str, K: int, F: int) -> tuple[Uwmmse, reference.Uwmmse]:
    noise, power = (0.1, 1.0) if kind == "strong" else (NOISE, PMAX)
    return Uwmmse(noise, power, K, F), reference.Uwmmse(noise, power, K, F)


def one_mini_batch(H: Array) -> Given:
    return Given(H[None], H[None, :3])


def check_gradients(oracle: reference.Uwmmse, found: Array, wanted: Array, case: Any) -> None:
    """Every node's, relative to its norm; and every part of it, so that nothing hides behind larger ones: weights are
    worth little where channels are weak. A part that large terms have left is held against 1e-6 of the whole."""
    assert np.isfinite(found).all(), case
    parts = oracle.split(found), oracle.split(wanted)
    for node, whole in enumerate(np.linalg.norm(wanted, axis=1)):
        assert np.linalg.norm(found[node] - wanted[node]) <= 1e-10 * whole, (case, node)
        for name, part in parts[1].items():
            apart = np.linalg.norm(parts[0][name][node] - part[node])
            assert apart <= 1e-8 * max(np.linalg.norm(part[node]), 1e-6 * whole), (case, node, name)


B = 10
WAVES = (1, 5, B, 4)  # 4 + 4 + 2
SCHEMES = ("per_sample", "per_batch", "piggyback", "piggyback_do")


def fitting(scheme: str) -> Optimizer[Any]:
    return Naive(SGD(Constant(1e-3))) if scheme == "per_sample" else DSGD(Constant(1e-3))


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("n", [1, 2, 3, 9, 25])
def test_local_gradients(n: int, kind: str) -> None:
    """SPEC §7, 1. Every scheme with every wave, K and F in turn; in the end every test has had all of them."""
    draw, scale = CHANNELS[kind]
    shapes = [(K, F) for K in (1, 2, 4) for F in (1, 5, 7)]
    cases = [(scheme, wave) for wave in WAVES for scheme in SCHEMES]
    with_gradient = 0
    for number, (scheme, wave) in enumerate(cases):
        rng = np.random.default_rng([n, number])
        K, F = shapes[number % len(shapes)]
        model, oracle = make(kind, K, F)
        H, theta = draw(n, B, rng), parameters(model, n, rng, scale)
        _, outcome = trained(one_mini_batch(H), model, theta, fitting(scheme), scheme, wave)
        rates, samples = oracle.local_pass(H, theta)
        wanted = samples.sum(axis=0)
        check_gradients(oracle, outcome.gradient, wanted, (scheme, wave, K, F))
        assert outcome.rows[0].train == pytest.approx(rates.sum(axis=1).mean(), rel=1e-12)
        after = reference.rates(H[:3], oracle.allocate(H[:3], outcome.theta), model.noise)
        np.testing.assert_allclose(outcome.node_loss, after.mean(axis=0), rtol=1e-9, atol=1e-12)
        with_gradient += int(wanted.any(axis=1).sum())
    assert with_gradient >= 4 if n > 1 else with_gradient == 0  # a pair alone sends with all it has


def test_the_channels_are_what_their_names_say() -> None:
    rng = np.random.default_rng(0)
    H = decades(9, B, rng)
    own = np.diagonal(H, axis1=1, axis2=2)
    assert ((H != 0) != (H.swapaxes(1, 2) != 0)).any()
    assert (own[:, :1] == 0).any()
    assert (own > 0).any()
    assert not H[:, 3].any()
    assert not H[B // 2].any()
    assert H[H > 0].min() < 1e-11
    assert H.max() > 1e-3
    H = weak(25, B, rng)
    assert (np.diagonal(H, axis1=1, axis2=2) == 0).any()
    assert 0.02 < (H > 0).mean() < 0.6
    assert (recipe(25, B, rng) > 0).mean() > 0.9


def test_gradients_are_finite_differences() -> None:
    """Of the messages' own forward pass, for every single parameter: n ∂/∂θ^i of −(1/B) Σ_b Σ_j rate_j(b)."""
    n, samples, step = 3, 3, 1e-5
    rng = np.random.default_rng(5)
    model, _ = make("strong", 2, 2)
    H, theta = strong(n, samples, rng), parameters(model, n, rng, 1.0)
    channels = one_mini_batch(H)

    def objective(theta: Array) -> float:
        _, outcome = trained(channels, model, theta, fitting("per_batch"), "inference", samples)
        return -n * outcome.rows[0].train

    wanted = np.empty_like(theta)
    for place in np.ndindex(theta.shape):
        up, down = theta.copy(), theta.copy()
        up[place] += step
        down[place] -= step
        wanted[place] = (objective(up) - objective(down)) / (2 * step)
    assert (np.abs(wanted).max(axis=1) > 1e-3).all()
    for scheme, wave in (("per_sample", 2), ("piggyback_do", 1), ("per_batch", 3)):
        _, outcome = trained(channels, model, theta, fitting(scheme), scheme, wave)
        assert np.abs(outcome.gradient - wanted).max() <= 1e-8 * np.abs(wanted).max(), scheme


def test_small_shares_lose_no_digits() -> None:
    """A pair whose denominator d is nearly all its own: ∂v/∂ω is what the others' small share leaves, and must not be
    the difference of two numbers that are nearly equal."""
    model, oracle = make("recipe", 2, 1)
    rng = np.random.default_rng(1)
    theta = parameters(model, 2, rng, 1e2)
    for weak in (1e-7, 1e-8, 1e-9):
        H = np.array([[[1e-4, weak], [1e-5, 1e-4]]])
        _, outcome = trained(one_mini_batch(H), model, theta, fitting("per_sample"), "per_sample", 1)
        wanted = oracle.local_pass(H, theta)[1].sum(axis=0)
        assert wanted.any(axis=1).all(), weak
        check_gradients(oracle, outcome.gradient, wanted, weak)


def test_equal_parameters_give_the_centralized_gradient() -> None:
    """SPEC §7, 2."""
    rng = np.random.default_rng(6)
    model, oracle = make("recipe", 4, 5)
    H, theta = recipe(9, B, rng), parameters(model, 1, rng, 1e4)[0]
    _, outcome = trained(
        one_mini_batch(H), model, np.tile(theta, (9, 1)), fitting("per_sample"), "per_sample", 4
    )
    assert error(outcome.gradient.mean(axis=0), oracle.shared_pass(H, theta)[1]) <= 1e-10


# --- several mini-batches ---

RATE, MAX_NORM, N = 1e-2, 0.3, 6
OPTIMIZERS: dict[str, tuple[Optimizer[Any], reference.Recursion]] = {
    "naive_adam": (
        Naive(Adam(Constant(RATE), 0.9, 0.999, 1e-8, "inside")),
        reference.Recursion("naive_adam", epsilon_form="inside"),
    ),
    "naive_sgd": (Naive(SGD(Constant(RATE))), reference.Recursion("naive_sgd")),
    "d_adam": (DAdam(Constant(RATE), 0.9, 0.999, 1e-8), reference.Recursion("d_adam")),
    "d_amsgrad": (DAMSGrad(Constant(RATE), 0.9, 0.999, 1e-8), reference.Recursion("d_amsgrad")),
    "d_sgd": (DSGD(Constant(RATE)), reference.Recursion("d_sgd")),
    "gradient_tracking": (GradientTracking(Constant(RATE)), reference.Recursion("gradient_tracking")),
}
MIXINGS: dict[str, tuple[Mixing, float]] = {
    "metropolis": (Metropolis(), 0.0),
    "laplacian": (Laplacian(0.05), 0.05),
}
LAST = {True: SCHEMES[:3], False: SCHEMES[1:]}  # by whether the optimizer mixes gradients
PAIRS = [(kind, scheme) for kind in OPTIMIZERS for scheme in LAST[kind.startswith("naive")]]


def changing(rng: np.random.Generator) -> Given:
    """Links that change from mini-batch to mini-batch, and within it; those of the second are the first's, but fewer
    of them are mutual."""
    draws = [strong(N, 5, rng) * (rng.random((N, N)) < 0.6) for _ in range(5)]
    for H in draws:
        H[:, np.arange(N), np.arange(N)] = rng.uniform(0.0, 1.5, (5, N))
    draws[2][:, 4, :5] = draws[2][:, :5, 4] = draws[2][:, 4, 5] = draws[2][:, 5, 4] = 0.0
    draws[2][1, 0, 0] = 0.0
    draws[1] = draws[0] * rng.uniform(0.5, 1.5, draws[0].shape)
    mutual = (draws[1] != 0) & (draws[1].swapaxes(1, 2) != 0)
    draws[1][:3][np.tril(mutual[:3], -1)] = 0.0
    return Given(np.stack(draws[:4]), np.stack(draws[4:]))


def test_the_links_do_change() -> None:
    topology = ChannelTopology(changing(np.random.default_rng(0)))
    graphs = [topology.graph(t) for t in range(4)]
    assert len({graph.indices.tobytes() for graph in graphs}) == 3
    assert graphs[0] is graphs[1]
    assert (graphs[2].degrees == 0).any()
    H = changing(np.random.default_rng(0)).train
    W = reference.mutual_mixing(H[0])
    assert not np.array_equal(W[0], W[1])
    assert np.abs(W.mean(axis=0) - reference.mutual_mixing(H[1]).mean(axis=0)).max() > 0.01


@pytest.mark.parametrize("clipped", [False, True], ids=["", "clipped"])
@pytest.mark.parametrize(("kind", "scheme"), PAIRS)
def test_trajectories_and_packing(kind: str, scheme: str, clipped: bool) -> None:
    """SPEC §7, 3 and 6: four mini-batches follow the oracle's recursion, for every wave; any number of ranks gives the
    same bits."""
    number = PAIRS.index((kind, scheme)) + clipped
    rng = np.random.default_rng(number)
    model, oracle = make("strong", 2, 3)
    channels, theta = changing(rng), parameters(model, N, rng, 1.0)
    optimizer, recursion = OPTIMIZERS[kind]
    rule = ("metropolis", "laplacian")[number % 2]
    mixing, beta = MIXINGS[rule]
    rounds = 1 if scheme == "piggyback_do" else (1, 3)[(number // 2) % 2]
    settings: dict[str, Any] = {"mixing": mixing, "consensus_rounds": rounds}
    if scheme == "piggyback_do":
        settings["slices"] = ("idle", "even")[number % 2]
    if clipped:
        optimizer = Clipped(optimizer, MAX_NORM)
    if kind.startswith("naive"):
        recursion = reference.Recursion(kind, epsilon_form="inside", consensus_rounds=rounds)
    elif rounds > 1:
        recursion = reference.Recursion(kind, consensus_rounds=rounds)

    wanted, rates = reference.train_uwmmse(
        oracle, recursion, RATE, channels.train, channels.held_out, theta, np.arange(4)[None],
        centralized=False, consensus="per_sample" if scheme == "per_sample" else "per_batch", mixing=rule,
        beta=beta, max_norm=MAX_NORM if clipped else None,
    )  # fmt: skip
    for wave in (1, 5, 2):
        _, alone = trained(channels, model, theta, optimizer, scheme, wave, **settings)
        assert error(alone.theta, wanted) <= 1e-10, wave
        found = [(row.train, row.test) for row in alone.rows]
        np.testing.assert_allclose(found, rates, rtol=1e-10)
    assert error(wanted, theta) > 1e-4
    for wave in (2,) if clipped else (1, 2):
        wanted_bits = trace(trained(channels, model, theta, optimizer, scheme, wave, **settings)[1])
        for ranks in (3,) if clipped else (2, 3, N) if wave == 2 else (2,):
            _, packed = trained(channels, model, theta, optimizer, scheme, wave, ranks=ranks, **settings)
            for key, value in trace(packed).items():
                assert value == wanted_bits[key], f"{key} on {ranks} ranks, wave {wave}"


@pytest.mark.parametrize("kind", ["recipe", "decades"])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_packing_of_other_networks(n: int, kind: str) -> None:
    """One pair, which has no neighbour; two; and one rank more than a hand can count."""
    rng = np.random.default_rng(n)
    draw, scale = CHANNELS[kind]
    model, _ = make(kind, 4, 5)
    H = np.stack([draw(n, 7, rng, t) for t in range(3)])
    channels, theta = Given(H, H[:, :3]), parameters(model, n, rng, scale)
    optimizer = OPTIMIZERS["naive_adam"][0]
    alone = trace(trained(channels, model, theta, optimizer, "per_sample", 3)[1])
    assert n == 1 or alone["theta"] != theta.tobytes()
    assert np.isfinite(np.frombuffer(alone["theta"])).all()
    for ranks in {2, 3, n} & set(range(2, n + 1)):
        assert trace(trained(channels, model, theta, optimizer, "per_sample", 3, ranks=ranks)[1]) == alone, (
            ranks
        )


# --- cost ---


@pytest.mark.parametrize("wave", [1, 2, 5])
@pytest.mark.parametrize("scheme", [*SCHEMES, "inference"])
def test_plan_formula_and_ledger_agree(scheme: str, wave: int) -> None:
    """SPEC §7, 5, with widths written out here: L = 2K + 2 rounds, all of which come back, of
    1 + 2KF, 2K, 1 … 1 numbers per sample and, without v² of round 1, as many on the way back."""
    rng = np.random.default_rng(1)
    channels = changing(rng)
    size, minibatches = channels.batch, channels.minibatches
    for K, F, consensus, kind in ((1, 1, 1, "d_sgd"), (2, 3, 2, "d_amsgrad"), (4, 5, 1, "naive_sgd")):
        model, _ = make("strong", K, F)
        mixes_gradient = kind == "naive_sgd" or scheme == "per_sample"
        if mixes_gradient and scheme == "piggyback_do":
            continue
        optimizer = Naive(SGD(Constant(RATE))) if mixes_gradient else OPTIMIZERS[kind][0]
        rounds_of_consensus = 1 if scheme in ("piggyback_do", "inference") else consensus
        theta = parameters(model, N, rng, 1.0)
        job, outcome = trained(
            channels, model, theta, optimizer, scheme, wave, ranks=N, consensus_rounds=rounds_of_consensus
        )
        p, L, waves = 2 * K * (6 * F + 2), 2 * K + 2, -(-size // wave)
        travelling = (2 if kind == "d_amsgrad" and not mixes_gradient else 1) * p
        forward, backward = 1 + 2 * K * F + 2 * K + 2 * K, 2 * K * F + 2 * K + 2 * K
        C = consensus
        rounds, numbers = {
            "inference": (L * waves, size * forward),
            "per_sample": (waves * (2 * L + C), size * (forward + backward + C * p)),
            "per_batch": (waves * 2 * L + C, size * (forward + backward) + C * travelling),
            "piggyback": (waves * L + L + C, size * (forward + backward) + C * travelling),
            "piggyback_do": (waves * L + L, size * (forward + backward) + travelling),
        }[scheme]
        schedule = job.schedule(size)
        assert (len(schedule.rounds), schedule.numbers) == (rounds, numbers)
        assert (expected_rounds(schedule), expected_numbers(schedule)) == (rounds, numbers)
        topology = ChannelTopology(channels)
        links = [2 * topology.graph(t).num_edges for t in range(minibatches)]
        ledger = outcome.ledger
        train, setup, test = (ledger.total[phase] for phase in ("train", "setup", "test"))
        assert train.rounds == minibatches * rounds
        assert (train.link_messages, train.link_bytes) == (rounds * sum(links), 8 * numbers * sum(links))
        speaking = [int((topology.graph(t).degrees > 0).sum()) for t in range(minibatches)]
        assert train.radio_messages == rounds * sum(speaking)
        if scheme == "inference":
            assert setup.link_bytes == 0
        else:  # every sample's degrees, in one message
            sent = setup.rounds, setup.link_messages, setup.link_bytes
            assert sent == (minibatches, sum(links), 8 * size * sum(links))
        test_links = 2 * topology.test_graph(0).num_edges
        assert (test.link_messages, test.link_bytes) == (
            L * waves * test_links,
            8 * size * forward * test_links,
        )
        logical = sum(ledger.total[phase].link_bytes for phase in ledger.total)
        assert ledger.physical_bytes == logical  # every pair is a rank


def test_peak_is_what_is_sent_at_once() -> None:
    """The first round, v² and all nets' first layers, is the largest one of inference."""
    channels, (model, _) = changing(np.random.default_rng(0)), make("strong", 4, 5)
    theta = np.zeros((N, model.num_parameters))
    for wave in (1, 3, 5):
        job, _ = trained(channels, model, theta, fitting("per_batch"), "inference", wave)
        assert job.schedule(5).peak_width == wave * 41


def test_the_degrees_of_a_large_batch_find_room() -> None:
    """They are the largest message where waves are small."""
    rng = np.random.default_rng(4)
    model, oracle = make("strong", 1, 1)
    H, theta = strong(4, 40, rng), parameters(model, 4, rng, 1.0)
    job, outcome = trained(
        Given(H[None], H[None, :1]), model, theta, fitting("piggyback_do"), "piggyback_do", 1
    )
    assert job.schedule(40).peak_width < 10
    gradient = oracle.local_pass(H, theta)[1].sum(axis=0)
    mixed = reference.mutual_mixing(H).mean(axis=0) @ theta
    assert error(outcome.theta, mixed - 1e-3 * gradient) <= 1e-12


# --- fdtrain verify ---

VERIFIED: dict[str, dict[str, Any]] = {
    "published": {"training": {"wave": 4}},
    "one after another": {"training": {"wave": 1, "consensus_rounds": 2}, "model": {"unfolded": 2}},
    "per batch": {"training": {"scheme": "per_batch", "wave": 3, "consensus_rounds": 3}},
    "D-Adam": {
        "training": {"scheme": "piggyback_do", "wave": 1},
        "optimizer": {"kind": "d_adam", "lr": 0.01},
    },
    "D-AMSGrad": {
        "training": {"scheme": "piggyback", "wave": 3},
        "optimizer": {"kind": "d_amsgrad", "lr": 0.01},
    },
    "tracking": {
        "training": {"scheme": "per_batch", "wave": 4},
        "optimizer": {"kind": "gradient_tracking", "lr": 1e-3, "mixing": {"kind": "laplacian", "beta": 0.05}},
    },
    "clipped": {"optimizer": {"kind": "naive_sgd", "lr": 0.01, "clip_norm": 0.5}},
    "few links": {"task": {"max_path_loss": 110.0}, "model": {"unfolded": 1, "hidden": 1}},
    "one pair": {"task": {"pairs": 1}},
    "moving, again and again": {"task": {"mobility": {"speed": 30.0}}},
    "the same in a new order": {"task": {"online": False, "minibatches": 3}},
    "forward only": {"training": {"scheme": "inference"}, "optimizer": {"kind": "d_sgd"}},
}


@pytest.mark.parametrize(("case", "ranks"), [*zip(VERIFIED, [*[1, 2] * 3, 1, 3, 1, 2, 1, 2], strict=True)])
def test_verify(case: str, ranks: int) -> None:
    change: dict[str, Any] = {
        "topology": {"kind": "channels"},
        "model": {"kind": "uwmmse", "unfolded": 3},
        "task": {"kind": "power_allocation", "pairs": 7, "minibatches": 2, "test_minibatches": 1},
        "training": {"epochs": 2, "batch": 4, "wave": 4, "scheme": "per_sample"},
        "optimizer": {"kind": "naive_adam", "lr": 0.01, "epsilon_form": "inside"},
    }
    for section, values in VERIFIED[case].items():
        change[section] = values if "kind" in values else change[section] | values
    found = verified(experiment(change), ranks)
    numbers = [comparison.number for comparison in found]
    assert numbers == ([1, 5, 5, 5] if case == "forward only" else [1, 2, 3, 4, 5, 5, 5])
    failed = [comparison for comparison in found if not comparison.passed]
    assert not failed


def test_inference_leaves_the_parameters_alone() -> None:
    channels, (model, oracle) = changing(np.random.default_rng(2)), make("strong", 2, 3)
    theta = parameters(model, N, np.random.default_rng(3), 1.0)
    _, outcome = trained(channels, model, theta, fitting("per_batch"), "inference", 2)
    np.testing.assert_array_equal(outcome.theta, theta)
    rates = [reference.rates(H, oracle.allocate(H, theta), model.noise).sum(axis=1) for H in channels.train]
    assert outcome.rows[0].train == pytest.approx(np.mean(rates), rel=1e-12)


def test_extreme_channels_stay_finite() -> None:
    """Where H² underflows, or all else vanishes beside one's own signal."""
    rng = np.random.default_rng(9)
    model, oracle = make("recipe", 4, 5)
    theta = parameters(model, 5, rng, 1.0)
    for low, high in ((-200, -140), (-160, -2), (-20, -2), (0, 8)):
        H = 10 ** rng.uniform(low, high, (6, 5, 5))
        _, outcome = trained(one_mini_batch(H), model, theta, fitting("per_sample"), "per_sample", 6)
        assert np.isfinite(outcome.gradient).all(), low
        with np.errstate(all="ignore"):
            rates, samples = oracle.local_pass(H, theta)
        assert np.isfinite(outcome.rows[0].train)
        assert outcome.rows[0].train == pytest.approx(rates.sum(axis=1).mean(), rel=1e-10)
        if np.isfinite(samples).all() and samples.any():
            assert error(outcome.gradient, samples.sum(axis=0)) <= 1e-8, low
