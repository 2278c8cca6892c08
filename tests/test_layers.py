"""Activations and layers by hand and against finite differences; the arrays that hold waves."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fdtrain.engine import Engine
from fdtrain.graph import Graph, neighbourhoods
from fdtrain.layers.activations import ACTIVATIONS, activation
from fdtrain.layers.convolution import ReceiverLayer, SenderLayer
from fdtrain.layers.gcnn import Gcnn, gcnn_outline
from fdtrain.layers.waves import by_node, by_wave
from fdtrain.losses import SquaredError
from fdtrain.mixing import Metropolis
from fdtrain.networks import ShiftNetwork
from fdtrain.optim.dsgd import DSGD
from fdtrain.optim.rates import Constant
from fdtrain.partition import block
from fdtrain.passes import Rows
from fdtrain.schedule import build
from fdtrain.team import Team, in_threads
from fdtrain.transport.base import Transport
from fdtrain.transport.loopback import LoopbackHub

FORMS = ("receiver", "sender")
FORMULAS = {
    "sigmoid": lambda h: 1 / (1 + np.exp(-h)),
    "tanh": lambda h: (np.exp(2 * h) - 1) / (np.exp(2 * h) + 1),
    "relu": lambda h: np.where(h > 0, h, 0),
    "leaky_relu": lambda h: np.where(h > 0, h, 0.2 * h),
    "identity": lambda h: h,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_and_its_derivative(name: str) -> None:
    h = np.random.default_rng(0).uniform(-3, 3, (4, 3, 5))
    strided = np.zeros((4, 3, 8))
    y, slope = strided[..., 3:], h.copy()  # the output may be a view of a layer's arrays; h is contiguous
    activation(name, 0.2).apply(slope, y)
    np.testing.assert_allclose(y, FORMULAS[name](h), rtol=1e-13, atol=1e-15)
    assert (strided[..., :3] == 0).all()
    difference = (FORMULAS[name](h + 1e-6) - FORMULAS[name](h - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, difference, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.2)])
def test_the_kink_has_the_left_slope(name: str, slope: float) -> None:
    h, y = np.zeros(3), np.ones(3)
    activation(name, 0.2).apply(h, y)
    assert y.tolist() == [0, 0, 0]
    assert h.tolist() == [slope] * 3


@pytest.mark.parametrize(("name", "scale"), [("sigmoid", 1.0), ("tanh", 2.0)])
def test_the_slope_keeps_its_digits_where_the_function_saturates(name: str, scale: float) -> None:
    at = np.array([-700.0, -40.0, -20.0, 20.0, 40.0, 700.0]) / scale
    h, y = at.copy(), np.empty(6)
    activation(name).apply(h, y)
    wanted = [scale**2 * math.exp(-abs(scale * x)) / (1 + math.exp(-abs(scale * x))) ** 2 for x in at]
    np.testing.assert_allclose(h, wanted, rtol=1e-13)


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_saturation_is_no_error(name: str) -> None:
    h, y = np.array([-1e300, -800.0, 800.0, 1e300]), np.empty(4)
    activation(name).apply(h, y)
    low = 0.0 if name == "sigmoid" else -1.0
    np.testing.assert_allclose(y, [low, low, 1, 1], atol=1e-300)
    np.testing.assert_allclose(h, 0.0, atol=1e-300)


def test_leaky_relu_has_the_models_slope() -> None:
    for model, wanted in (
        (Gcnn((1, 1), ("leaky_relu",), negative_slope=0.3), -0.6),
        (Gcnn((1, 1), ("leaky_relu",)), -0.02),
    ):
        y = np.empty(1)
        model.convolutions[0].activation.apply(np.array([-2.0]), y)  # type: ignore[attr-defined]
        assert y.tolist() == [wanted]


@pytest.mark.parametrize("form", FORMS)
def test_parameters_have_names_and_places(form: Any) -> None:
    model = Gcnn((3, 4, 2), ("tanh", "identity"), form)
    assert model.depth == 2
    assert model.num_parameters == 2 * (3 * 4 + 4 * 2)
    theta = np.arange(3.0 * 40).reshape(3, 40)
    views = model.views(theta)
    assert list(views) == ["Theta0_1", "Theta1_1", "Theta0_2", "Theta1_2"]
    starts = {"Theta0_1": 0, "Theta1_1": 12, "Theta0_2": 24, "Theta1_2": 32}
    for name, view in views.items():
        g_in, g_out = (3, 4) if name.endswith("_1") else (4, 2)
        assert view.shape == (3, g_in, g_out)
        for i in range(3):
            wanted = 40 * i + starts[name] + np.arange(g_in * g_out)
            assert view[i].reshape(-1).tolist() == wanted.tolist()
    views["Theta1_2"][1, 0, 1] = -1  # views, not copies
    assert theta[1, 33] == -1
    for number, (layer, part) in enumerate(
        zip(model.convolutions, model.arrange(theta), strict=True), start=1
    ):
        assert part.shape == (3, *layer.parameter_shape)
        both = part.reshape(3, 2, layer.g_in, layer.g_out)
        np.testing.assert_array_equal(both[:, 0], views[f"Theta0_{number}"])
        np.testing.assert_array_equal(both[:, 1], views[f"Theta1_{number}"])
        part[2] = 7
    assert (theta[2] == 7).all()


def test_forms_differ_in_what_they_send() -> None:
    receiver, sender = ReceiverLayer(3, 5, activation("tanh")), SenderLayer(3, 5, activation("tanh"))
    assert (receiver.message_width, sender.message_width) == (3, 5)
    assert isinstance(Gcnn((3, 5), ("tanh",), "sender").convolutions[0], SenderLayer)
    assert isinstance(Gcnn((3, 5), ("tanh",)).convolutions[0], ReceiverLayer)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("waves", [(3,), (2, 1), (2, 2, 1), (1, 1, 1, 1)])
def test_gradients_by_sample_add_up(waves: tuple[int, ...], form: Any) -> None:
    """Every sample's is the product of its own left and right; wave by wave, and over all of them."""
    n, model, rng = 2, Gcnn((2, 3, 1), ("tanh", "identity"), form), np.random.default_rng(0)
    tape, total = model.tape(n, waves, trains=True), np.zeros((n, model.num_parameters))
    found = []
    for wave, w in enumerate(waves):
        cache = tape.cache(wave % 2, w)
        for own in cache:
            own.left[...], own.right[...] = rng.normal(size=own.left.shape), rng.normal(size=own.right.shape)
        tape.keep(wave, cache)
        by_sample, of_wave = np.full((n, w, model.num_parameters), np.nan), np.empty_like(total)
        tape.by_sample(wave, by_sample)
        tape.gradient(of_wave, wave)
        np.testing.assert_allclose(by_sample.sum(axis=1), of_wave, rtol=1e-13, atol=1e-15)
        for sample in range(w):
            for own, (name, view) in zip(
                np.repeat(np.array(cache, dtype=object), 2),
                model.views(by_sample[:, sample]).items(),
                strict=True,
            ):
                left = own.a if form == "receiver" and "Theta1" in name else own.x
                right = own.c if form == "sender" and "Theta1" in name else own.q
                wanted = left[:, sample, :, None] * right[:, sample, None, :]
                np.testing.assert_array_equal(view, wanted)
        found.append(by_sample.sum(axis=1))
    tape.gradient(total)
    np.testing.assert_allclose(np.sum(found, axis=0), total, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("batch", "wave"), [(6, 2), (7, 3), (5, 5), (4, 1), (1, 1)])
def test_waves_hold_the_samples_in_order(batch: int, wave: int) -> None:
    samples = np.arange(2.0 * batch * 3).reshape(2, batch, 3) + 1
    store = np.zeros((-(-batch // wave), 2, wave, 5))
    by_wave(samples, store[..., 1:4])
    for b in range(batch):
        np.testing.assert_array_equal(store[b // wave, :, b % wave, 1:4], samples[:, b])
    back = by_node(store[..., 1:4], batch)
    np.testing.assert_array_equal(back, samples)
    assert back.flags.c_contiguous
    assert (store[..., [0, 4]] == 0).all()
    assert store.sum() == samples.sum()


def test_squared_error() -> None:
    output, label = np.array([[[1.0, 2.0], [3.0, 5.0]]]), np.array([[[0.0, 4.0], [3.5, 5.0]]])
    out = np.empty_like(output)
    SquaredError(2).gradient(output, label, 2, out)
    assert out.tolist() == [[[2, -4], [-1, 0]]]
    assert SquaredError(2).per_node(output, label).tolist() == [5.25]


def engine(model: Gcnn, shift: str, theta: np.ndarray, transport: Transport) -> Engine:
    return Engine(
        model,
        ShiftNetwork(shift),
        SquaredError(model.outputs),
        DSGD(Constant(0.1)),
        Metropolis(),
        transport,
        theta,
    )


def alone() -> Transport:
    return LoopbackHub(1).transport(0)


@pytest.mark.parametrize("form", FORMS)
def test_two_nodes_one_sample_by_hand(form: Any) -> None:
    """0 hears 1 with weight 3, and 1 hears 0 with weight 2; one layer, g = 1 → 1, identity."""
    graph = Graph.from_adjacency([[0.0, 3.0], [2.0, 0.0]])
    model = Gcnn((1, 1), ("identity",), form)
    theta = np.array([[5.0, 7.0], [11.0, 13.0]])  # Θ0, Θ1 of each node
    schedule = build("piggyback_do", outline=gcnn_outline((1, 1), form), batch=1, travelling=2)
    solo = engine(model, "adjacency", theta, alone())
    (hood,) = neighbourhoods(graph, np.zeros(2, dtype=int), 1)
    solo.rewire(hood, [("train", schedule)])
    loss = solo.minibatch(schedule, Rows(np.array([[[10.0]], [[100.0]]]), np.array([[[1.0]], [[2.0]]])))
    if form == "receiver":
        y = np.array([10 * 5 + 3 * 100 * 7, 100 * 11 + 2 * 10 * 13])
        q = 2 * (y - [1, 2])
        wanted = [[10 * q[0], 300 * q[0]], [100 * q[1], 20 * q[1]]]
    else:
        y = np.array([10 * 5 + 3 * (100 * 13), 100 * 11 + 2 * (10 * 7)])
        q = 2 * (y - [1, 2])
        wanted = [[10 * q[0], 10 * 2 * q[1]], [100 * q[1], 100 * 3 * q[0]]]
    assert solo.grad.tolist() == wanted
    assert loss.tolist() == ((y - [1, 2]) ** 2).tolist()


MIXTURES = [
    ("sigmoid",),
    ("tanh",),
    ("relu",),
    ("leaky_relu",),
    ("identity",),
    ("sigmoid", "identity"),
    ("leaky_relu", "tanh"),
    ("relu", "sigmoid"),
    ("tanh", "leaky_relu", "identity"),
    ("identity", "relu", "sigmoid"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activations", MIXTURES, ids="-".join)
def test_messages_compute_the_slope_of_the_loss(activations: tuple[str, ...], form: Any) -> None:
    """The local gradient of node i, by messages over three ranks, is the slope of Σ_b Σ_j ℓ_j in θ^i (8c)."""
    rng = np.random.default_rng(len(activations))
    A = np.array([[0, 0.7, 0, 1.2], [0.4, 0, -0.9, 0], [0, 1.1, 0, 0.3], [0, 0, 0.8, 0]])  # 3 does not hear 0
    graph, sizes = Graph.from_adjacency(A), (*(2, 3, 2, 1)[: len(activations)], 2)
    model = Gcnn(sizes, activations, form, 0.2)
    theta = rng.uniform(-1, 1, (4, model.num_parameters))
    x, y = rng.normal(size=(4, 3, 2)), rng.normal(size=(4, 3, 2))
    outline = gcnn_outline(sizes, form)
    schedule = build("piggyback_do", outline=outline, batch=3, wave=2, travelling=model.num_parameters)
    test = build("inference", outline=outline, batch=3, wave=3)
    owner = block(4, 3)
    hoods = neighbourhoods(graph, owner, 3)

    def work(team: Team) -> Any:
        ids = hoods[team.rank].ids
        part = engine(model, "laplacian", theta[ids], team.transport)
        part.rewire(hoods[team.rank], [("train", schedule)])
        part.minibatch(schedule, Rows(x[ids], y[ids]))
        parts = team.control.gather(part.grad)
        return None if parts is None else np.concatenate(parts)

    gradient = in_threads(3, work)
    probe = engine(model, "laplacian", theta, alone())
    probe.rewire(neighbourhoods(graph, np.zeros(4, dtype=int), 1)[0], [("test", test)])
    slope, step = np.empty_like(theta), 1e-5
    for i, k in np.ndindex(*theta.shape):
        losses = []
        for shifted in (theta[i, k] + step, theta[i, k] - step):
            probe.theta[i, k] = shifted
            losses.append(probe.infer(test, Rows(x, y)).sum())
        probe.theta[i, k] = theta[i, k]
        slope[i, k] = (losses[0] - losses[1]) / (2 * step)
    assert np.linalg.norm(gradient - slope) <= 1e-7 * np.linalg.norm(slope)
    assert (np.linalg.norm(slope, axis=1) > 0).all()


def test_layer_sizes_chain() -> None:
    model = Gcnn((5, 4, 3, 2), ("tanh",) * 3)
    assert [(layer.g_in, layer.g_out) for layer in model.convolutions] == list(pairwise((5, 4, 3, 2)))
    assert [(part.start, part.stop) for part in model.offsets] == [(0, 40), (40, 64), (64, 76)]
