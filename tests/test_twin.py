"""The twin critic by messages: actor and critic at every node, against the oracle and complex steps.

Weights of links differ in both directions, and every node has parameters of its own: a symmetric S, or equal θ, would
hide mistakes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from teams import error, serve, trace, verified
from teams import experiment as experiment_of

from fdtrain import reference
from fdtrain.formulas import expected_numbers, expected_rounds
from fdtrain.graph import Graph
from fdtrain.job import Job
from fdtrain.layers.gcnn import Gcnn
from fdtrain.layers.twin import Twin
from fdtrain.losses import NOISE, WEIGHT, Utility
from fdtrain.mixing import Metropolis
from fdtrain.networks import ShiftNetwork
from fdtrain.optim.adam import Adam
from fdtrain.optim.base import Optimizer
from fdtrain.optim.dadam import DAdam
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.naive import Naive
from fdtrain.optim.rates import Constant
from fdtrain.optim.sgd import SGD
from fdtrain.programs import check_outline
from fdtrain.service import Host, Outcome
from fdtrain.tasks.base import Order, Samples
from fdtrain.topology.service import TopologyService
from fdtrain.topology.sources import BundleSource
from fdtrain.turns import BeingTheCritic

Array = NDArray[np.float64]
V, B, RATE, SLOPE, L2 = 8, 5, 0.05, 0.2, 0.03
FORMS = ("receiver", "sender")
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {  # actor, critic
    "published depth": ((1, 4, 3, 1), (2, 5, 4, 3, 6, 2)),
    "shallow": ((1, 1), (2, 2)),
    "a critic of one layer": ((1, 3, 1), (2, 2)),
    "an actor of one layer": ((1, 1), (2, 3, 2)),
}


def names(sizes: tuple[int, ...], last: str) -> tuple[str, ...]:
    return (*["leaky_relu"] * (len(sizes) - 2), last)


def make(sizes: str, form: Any) -> tuple[Twin, reference.Twin]:
    """The last layer of the actor is leaky: no z without a slope."""
    actor, critic = SIZES[sizes]
    layers = [(actor, names(actor, "leaky_relu")), (critic, names(critic, "identity"))]
    model = Twin(*(Gcnn(*layer, form, SLOPE) for layer in layers), L2)
    return model, reference.Twin(*(reference.Model(*layer, form, SLOPE) for layer in layers), L2)


@dataclass
class Data:
    """These samples once in their order, B at a time; the first of them are tested on."""

    samples: Samples
    streamed = True
    test_samples = 3

    @property
    def train_samples(self) -> int:
        return len(self.samples.x)

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        raise NotImplementedError

    def order(self, epoch: int) -> Order:
        return np.arange(self.train_samples)

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        return Samples(self.samples.x[chosen], self.samples.y[chosen])

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        return graph, self.minibatch(0, np.arange(3), graph)

    def baselines(self, t: int) -> Mapping[str, float]:
        return {}

    test_baselines = baselines


def samples(count: int, rng: np.random.Generator) -> Samples:
    y = rng.uniform(0.1, 1.0, (count, V, 4))
    y[..., NOISE] = rng.normal(size=(count, V))
    return Samples(np.stack([rng.normal(1.0, 0.3, (count, V)), y[..., NOISE]], axis=2), y)


def lopsided(rng: np.random.Generator) -> Graph:
    """One way not as the other, and a node without a neighbour."""
    A = np.where(rng.random((V, V)) < 0.4, rng.uniform(0.2, 0.8, (V, V)), 0.0)
    np.fill_diagonal(A, 0.0)
    A[5] = A[:, 5] = 0.0
    return Graph.from_adjacency(A)


@dataclass
class Setting:
    """Everything that a run starts from."""

    model: Twin
    oracle: reference.Twin
    graph: Graph
    data: Data
    theta: Array

    @property
    def shift(self) -> Array:
        dense: Array = self.graph.adjacency().toarray()
        return dense

    def gradients(self, theta: Array, part: slice = slice(None)) -> Array:
        """The oracle's, of every sample [B, V, p]."""
        x, y, _ = self.data.samples
        given = y[part, :, NOISE], y[part, :, WEIGHT], theta, x[part, :, :1]
        return self.oracle.local_gradients(self.shift, *given)


def setting(sizes: str, form: str, seed: int, minibatches: int = 1) -> Setting:
    rng = np.random.default_rng(seed)
    model, oracle = make(sizes, form)
    theta = rng.normal(scale=0.6, size=(V, model.num_parameters))
    return Setting(model, oracle, lopsided(rng), Data(samples(minibatches * B, rng)), theta)


SCHEMES: dict[str, tuple[str, Optimizer[Any]]] = {
    "per_sample, by sample": ("per_sample", Naive(SGD(Constant(RATE)), by_sample=True)),
    "per_sample": ("per_sample", Naive(SGD(Constant(RATE)))),
    "per_batch": ("per_batch", DAdam(Constant(RATE))),
    "piggyback": ("piggyback", Naive(Adam(Constant(RATE)))),
    "piggyback_do": ("piggyback_do", DSGD(Constant(RATE))),
    "inference": ("inference", DSGD(Constant(RATE))),
}


def trained(made: Setting, name: str, wave: int, ranks: int = 1, K: int = 1) -> tuple[Job, Outcome]:
    scheme, optimizer = SCHEMES[name]
    data, topology = made.data, TopologyService(BundleSource(connected=False), 0, made.graph)
    job = Job(
        model=made.model, network=ShiftNetwork("adjacency", isolated=True), loss=Utility(), optimizer=optimizer,
        mixing=Metropolis(), epochs=1, batch=B, wave=wave, scheme=scheme, slices="idle",
        consensus_rounds=1 if scheme in ("piggyback_do", "inference") else K, train_samples=data.train_samples,
        test_samples=data.test_samples, streamed=True, critic="neighbours",
    )  # fmt: skip
    return job, serve(job, Host(job, topology, data, made.theta, ranks), ranks).outcome


# --- gradients ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", SIZES)
def test_local_gradients(sizes: str, form: str) -> None:
    """SPEC §7, 1: every scheme and wave; the actor's part and the critic's, each relative to its own size."""
    for number, name in enumerate(SCHEMES):
        if name == "inference":
            continue
        for wave in (1, 2, B):
            made = setting(sizes, form, 10 * number + wave)
            _, outcome = trained(made, name, wave, ranks=2, K=1 + wave % 2)
            wanted = made.gradients(made.theta).sum(axis=0)
            parts = zip(made.model.split(outcome.gradient), made.oracle.split(wanted), strict=True)
            for found, part in parts:
                assert error(found, part) <= 1e-12, (name, wave)
                assert np.linalg.norm(part, axis=1).min() > 1e-4
            x, y, _ = made.data.samples
            z, _ = made.oracle.forward(made.shift, y[..., NOISE], made.theta, x[..., :1])
            A = (made.shift + made.shift.T > 0).astype(float)
            chosen = reference.greedy(A, (z + y[..., NOISE]) * y[..., WEIGHT])
            assert outcome.rows[0].train == pytest.approx((chosen * y[..., 1]).sum(axis=1).mean(), rel=1e-13)


def forward(form: str, sizes: tuple[int, ...], S: Array, x: Any, theta: Any) -> Any:
    """§2 of one sample in complex numbers, x [V, g_0]: leaky but in the last layer, whose h is returned."""
    at = 0
    for number, (g, h) in enumerate(pairwise(sizes), start=1):
        T0, T1 = (theta[:, a : a + g * h].reshape(V, g, h) for a in (at, at + g * h))
        at += 2 * g * h
        own = np.einsum("vg,vgh->vh", x, T0)
        heard = (S @ x, T1) if form == "receiver" else (x, T1)
        there = np.einsum("vg,vgh->vh", *heard)
        x = own + (there if form == "receiver" else S @ there)
        if number < len(sizes) - 1:
            x = np.where(x.real > 0, x, SLOPE * x)
    return x


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_complex_steps(form: str) -> None:
    """θ^i: Σ_j ∂(−o_j0)/∂θ^i, φ^i: Σ_j ∂(|o_j − t_j|² + l2 |φ^j|²)/∂φ^i."""
    sizes, step = ((1, 2, 1), (2, 2, 2)), 1e-30
    made = setting("published depth", form, 3)
    layers = [(part, names(part, last)) for part, last in zip(sizes, ("leaky_relu", "identity"), strict=True)]
    made.model = Twin(*(Gcnn(*layer, form, SLOPE) for layer in layers), L2)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    theta = made.theta = rng.normal(scale=0.6, size=(V, made.model.num_parameters))
    _, outcome = trained(made, "per_batch", 2, ranks=3)
    own, (x, y, _) = made.model.actor.num_parameters, made.data.samples
    A = (made.shift + made.shift.T > 0).astype(float)
    wanted = np.zeros_like(theta)
    for b in range(B):
        e, u = y[b, :, NOISE], y[b, :, WEIGHT]

        def outputs(theta: Any, b: int = b, e: Array = e) -> tuple[Any, Any]:
            h = forward(form, sizes[0], made.shift, x[b, :, :1], theta[:, :own])[:, 0]
            z = np.where(h.real > 0, h, SLOPE * h)
            seen = np.stack([np.ones_like(z), z + e], axis=1)
            o = np.exp(forward(form, sizes[1], made.shift, seen, theta[:, own:]))
            return z, o / o.sum(axis=1, keepdims=True)

        z, _ = outputs(theta)
        first = u * reference.greedy(A, (z + e)[None] * u)[0]
        target = np.stack([first, 1 - first], axis=1)
        for place in np.ndindex(theta.shape):
            moved = theta.astype(complex)
            moved[place] += 1j * step
            with np.errstate(under="ignore"):
                o = outputs(moved)[1]
                f = (
                    -o[:, 0].sum()
                    if place[1] < own
                    else ((o - target) ** 2).sum() + L2 * (moved[:, own:] ** 2).sum()
                )
            wanted[place] += f.imag / step
    for found, part in zip(made.model.split(outcome.gradient), made.model.split(wanted), strict=True):
        assert error(found, part) <= 1e-12
        assert (np.abs(part).max(axis=0) > 1e-4).all()


# --- updates, packing, cost ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["per_sample, by sample", "per_sample"])
def test_updates(name: str, form: str) -> None:
    """θ ← θ − α Σ_b W^K g(b), over three mini-batches, whether samples or waves are mixed."""
    for wave, K in ((1, 1), (2, 2), (B, 1)):
        made = setting("published depth", form, wave, minibatches=3)
        _, outcome = trained(made, name, wave, 2, K)
        W = reference.mixing_matrix(made.graph.adjacency(), "metropolis", 0.0)
        theta = made.theta
        for t in range(3):
            mixed = made.gradients(theta, slice(t * B, (t + 1) * B))
            for _ in range(K):
                mixed = np.stack([W @ gradient for gradient in mixed])
            theta = theta - RATE * mixed.sum(axis=0)
        assert error(outcome.theta, theta) <= 1e-12
        assert error(theta, made.theta) > 1e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SCHEMES)
def test_every_packing_has_the_same_bits(name: str, form: str) -> None:
    for wave, sizes in ((2, "published depth"), (B, "shallow")):
        made = setting(sizes, form, wave, minibatches=2)
        alone = trace(trained(made, name, wave, 1, 2)[1])
        assert (alone["theta"] == made.theta.tobytes()) is (name == "inference")
        for ranks in (2, 3, V):
            packed = trace(trained(made, name, wave, ranks, 2)[1])
            for key, wanted in alone.items():
                assert packed[key] == wanted, (key, wave, ranks)


HOPS = {
    "receiver": [(1, 0), (4, 4), (3, 3), (2, 2), (5, 10), (4, 8), (3, 6), (6, 12)],
    "sender": [(4, 4), (3, 3), (1, 1), (5, 10), (4, 8), (3, 6), (6, 12), (2, 4)],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_outline_is_what_the_layers_send(form: str) -> None:
    """Two gradients go back through the critic, but to its input only the objective's, in the receiver form."""
    for sizes in SIZES:
        check_outline(make(sizes, form)[0])
    model, _ = make("published depth", form)
    assert [(hop.forward, hop.backward) for hop in model.outline.hops] == HOPS[form]
    made = setting("published depth", form, 1)
    links = 2 * made.graph.num_edges
    for name in SCHEMES:
        job, outcome = trained(made, name, 2, V)
        schedule, train = job.schedule(B), outcome.ledger.total["train"]
        assert (len(schedule.rounds), schedule.numbers) == (
            expected_rounds(schedule),
            expected_numbers(schedule),
        )
        assert train.rounds == len(schedule.rounds)
        assert (train.link_messages, train.link_bytes) == (
            train.rounds * links,
            8 * schedule.numbers * links,
        )
        assert "control" not in outcome.ledger.total
        logical = sum(count.link_bytes for count in outcome.ledger.total.values())
        assert outcome.ledger.physical_bytes == logical > 0


# --- parameters ---


@pytest.mark.parametrize("form", FORMS)
def test_parameters_have_names_and_places(form: str) -> None:
    model, oracle = make("a critic of one layer", form)
    p = model.num_parameters
    assert p == oracle.num_parameters == 2 * (3 + 3 + 4)
    theta = np.arange(2.0 * p).reshape(2, p)
    views = model.views(theta)
    shapes = {name: view.shape for name, view in views.items()}
    assert shapes == {
        "Theta0_1": (2, 1, 3), "Theta1_1": (2, 1, 3), "Theta0_2": (2, 3, 1), "Theta1_2": (2, 3, 1),
        "Phi0_1": (2, 2, 2), "Phi1_1": (2, 2, 2),
    }  # fmt: skip
    np.testing.assert_array_equal(
        np.concatenate([view.reshape(2, -1) for view in views.values()], axis=1), theta
    )
    assert all(np.shares_memory(view, theta) for view in views.values())
    arranged = model.arrange(theta)
    for part in (*arranged.actor, *arranged.critic):
        assert np.shares_memory(part, theta)
    parts = [model.part_of(number) for number in range(p)]
    wanted = ["layer 1 of the actor"] * 6 + ["layer 2 of the actor"] * 6 + ["layer 1 of the critic"] * 8
    assert parts == wanted


# --- inference ---


def test_inference_knows_nothing_of_the_noise_that_the_critic_sees() -> None:
    """z is the actor's alone: x_1 = e reaches the critic, by which no node decides."""
    made = setting("published depth", "sender", 4)
    x, y, _ = made.data.samples
    quiet, loud = x.copy(), x.copy()
    quiet[..., 1], loud[..., 1] = 0.0, 1e3
    found = [
        trained(replace(made, data=Data(Samples(given, y))), "inference", 2, 2)[1] for given in (quiet, loud)
    ]
    assert trace(found[0]) == trace(found[1])
    z, _ = made.oracle.forward(made.shift, y[:3, :, NOISE], made.theta, x[:3, :, :1])
    A = (made.shift + made.shift.T > 0).astype(float)
    chosen = reference.greedy(A, (z + y[:3, :, NOISE]) * y[:3, :, WEIGHT])
    np.testing.assert_allclose(found[0].node_loss, (chosen * y[:3, :, 1]).mean(axis=0), rtol=1e-13)


# --- from a configuration ---

CHANGE: dict[str, Any] = {
    "topology": {"kind": "erdos_renyi", "nodes": 9, "mean_degree": [1, 4]},
    "model": {"kind": "gcnn", "sizes": [1, 4, 1], "activation": "leaky_relu", "init": {"kind": "glorot_uniform"}},
    "task": {
        "kind": "link_scheduling", "graphs": 4, "test_graphs": 2, "test_samples": 2,
        "critic": {"kind": "neighbours", "hidden": 5, "layers": 3},
    },
    "training": {"epochs": 2, "batch": 4, "wave": 3},
    "optimizer": {"kind": "naive_adam", "updates": "sample"},
}  # fmt: skip
VERIFIED: dict[str, dict[str, Any]] = {
    "by sample": {"training": {"scheme": "per_sample"}},
    "naive SGD": {"optimizer": {"kind": "naive_sgd"}, "training": {"scheme": "piggyback"}},
    "D-Adam": {"optimizer": {"kind": "d_adam"}, "training": {"scheme": "piggyback_do"}},
    "D-AMSGrad, sender form": {
        "optimizer": {"kind": "d_amsgrad"}, "training": {"scheme": "per_batch"}, "model": {"form": "sender"},
    },
    "inference": {"optimizer": {"kind": "d_sgd"}, "training": {"scheme": "inference"}},
    "other shift": {"model": {"shift": "laplacian"}, "training": {"scheme": "per_sample"}},
}  # fmt: skip


def configured(change: dict[str, Any]) -> Any:
    made = dict(CHANGE)
    for section, values in change.items():
        made[section] = values if section == "optimizer" else made[section] | values
    return experiment_of(made)


@pytest.mark.parametrize("name", VERIFIED)
def test_the_verifier_confirms(name: str) -> None:
    found = verified(configured(VERIFIED[name]), 2)
    assert all(comparison.passed for comparison in found), found


def test_the_verifier_sees_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    made = configured({"optimizer": {"kind": "d_sgd"}, "training": {"scheme": "per_batch"}})
    right = BeingTheCritic.back

    def wrong(self: Any, output: Array, label: Array, finished: Array, batch: int, out: Array) -> None:
        right(self, output, label, finished, batch, out)
        out[..., 1] *= 1.001

    monkeypatch.setattr(BeingTheCritic, "back", wrong)
    failed = {comparison.number for comparison in verified(made, 1) if not comparison.passed}
    assert failed == {1, 2, 3, 4}
