"""Drawn channels: the statistics of the recipe, the same bits in any order, terminals that move, and the links."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from fdtrain.graph import Graph
from fdtrain.tasks.channel_data import ChannelService, SyntheticChannels
from fdtrain.tasks.channels import Drawing, path_loss, reflected
from fdtrain.tasks.power_allocation import Mobility, PowerAllocation
from fdtrain.topology.channels import ChannelTopology

Array = NDArray[np.float64]
NO_LIMIT = math.inf


def drawing(batch: int = 8, seed: int = 5, **settings: Any) -> Drawing:
    config = PowerAllocation(**settings)
    return Drawing(config, config.mobility, batch, seed, "channels")


def service(batch: int = 4, seed: int = 5, **settings: Any) -> SyntheticChannels:
    return SyntheticChannels(PowerAllocation(**settings), batch, seed)


def distances(made: Drawing, t: int) -> Array:
    places = made.terminals(t)
    apart: Array = np.linalg.norm(places.transmitters[:, None] - places.receivers, axis=-1)
    return apart


# The recipe


@pytest.mark.parametrize(
    ("d", "carrier", "exponent", "loss"),
    [
        (1.0, 1.0, 3.0, 32.4),
        (100.0, 1.0, 3.0, 92.4),
        (100.0, 10.0, 3.0, 112.4),
        (1000.0, 0.9, 3.0, 32.4 - 0.9151498112135022 + 90),
        (1000.0, 0.9, 2.0, 32.4 - 0.9151498112135022 + 60),
        (0.0, 1.0, 3.0, 32.4),  # nobody is nearer than a metre
    ],
)
def test_path_loss(d: float, carrier: float, exponent: float, loss: float) -> None:
    assert path_loss(np.array([d]), carrier, exponent) == pytest.approx(loss, rel=1e-14)


def test_amplitudes_without_chance_are_those_of_the_distances() -> None:
    made = drawing(shadowing=0.0, fading="none", max_path_loss=NO_LIMIT, pairs=7, carrier=2.0)
    for t in range(5):
        loss = 32.4 + 20 * np.log10(2.0) + 30 * np.log10(distances(made, t))
        H = made.draw(t)
        assert H.shape == (8, 7, 7)
        np.testing.assert_allclose(H, np.broadcast_to(10 ** (-loss / 20), H.shape), rtol=1e-12)


def test_places_are_uniform_in_the_square() -> None:
    made = drawing(area=300.0)
    places = np.concatenate([np.stack(made.terminals(t)) for t in range(200)], axis=1)  # [2, 5000, 2]
    assert places.min() >= 0
    assert places.max() <= 300
    np.testing.assert_allclose(places.mean(axis=1), 150, atol=5)
    np.testing.assert_allclose(places.std(axis=1), 300 / math.sqrt(12), atol=3)
    corner = (places < 150).all(axis=2)
    np.testing.assert_allclose(corner.mean(axis=1), 0.25, atol=0.03)


def test_shadowing_is_normal_and_clipped() -> None:
    S = np.stack([drawing().shadowing(t) for t in range(200)])
    assert S.max() == 14.4
    assert S.min() == -14.4
    assert S.mean() == pytest.approx(0, abs=0.1)
    assert (np.abs(S) == 14.4).mean() == pytest.approx(math.erfc(2 / math.sqrt(2)), abs=2e-3)
    assert (np.abs(S) < 7.2).mean() == pytest.approx(math.erf(1 / math.sqrt(2)), abs=5e-3)
    assert np.abs(drawing(shadowing=3.0, shadowing_clip=1.0).shadowing(0)).max() == 3.0


def test_shadowing_is_in_the_amplitude_in_decibels() -> None:
    made = drawing(fading="none", max_path_loss=NO_LIMIT)
    loss = path_loss(distances(made, 3), 0.9, 3.0) + made.shadowing(3)
    np.testing.assert_allclose(-20 * np.log10(made.draw(3)[5]), loss, rtol=1e-12)


def test_fading_is_rayleigh() -> None:
    settings: dict[str, Any] = {"max_path_loss": NO_LIMIT}
    H = drawing(100, **settings).draw(2)
    R = H / drawing(1, fading="none", **settings).draw(2)
    assert (R**2).mean() == pytest.approx(1, abs=0.02)
    assert R.mean() == pytest.approx(math.sqrt(math.pi) / 2, abs=0.01)  # of Rayleigh(s): s √(π/2)
    for r in (0.3, 1.0, 2.0):
        assert np.less(R, r).mean() == pytest.approx(1 - math.exp(-(r**2)), abs=0.01)
    assert np.corrcoef(R[0].ravel(), R[1].ravel())[0, 1] == pytest.approx(0, abs=0.15)


def test_weak_links_are_none() -> None:
    whole, cut = drawing(64, max_path_loss=NO_LIMIT).draw(0), drawing(64).draw(0)
    floor = 10 ** (-(36.99 + 106.87 - 10 + 5) / 20)
    np.testing.assert_array_equal(cut, np.where(whole < floor, 0, whole))
    assert (whole > 0).all()
    assert 0 < (cut == 0).mean() < 0.1
    assert not drawing(64, max_path_loss=1.0).draw(0).any()


# Random access


@pytest.mark.parametrize("change", [{}, {"online": False}, {"mobility": Mobility(speed=20.0)}])
def test_the_same_bits_in_any_order_of_calls(change: dict[str, Any]) -> None:
    settings = {"pairs": 5, "minibatches": 6} | change
    data = service(**settings)
    forward = [data.channels(t).copy() for t in range(18)]
    tests = [data.test_channels(k).copy() for k in range(data.test_minibatches)]
    mixed = service(**settings)
    for t in np.random.default_rng(0).permutation(18):
        mixed.test_channels(int(t) % 10)
        np.testing.assert_array_equal(mixed.channels(int(t)), forward[t])
        np.testing.assert_array_equal(service(**settings).channels(int(t)), forward[t])
        np.testing.assert_array_equal(mixed.test_channels(int(t) % 10), tests[int(t) % 10])


def test_what_is_served_again_is_the_same_object_and_cannot_be_changed() -> None:
    data = service()
    H = data.channels(3)
    assert data.channels(3) is H
    assert data.test_channels(3) is data.test_channels(3)
    with pytest.raises(ValueError, match="read-only"):
        H[0] = 0


def test_every_mini_batch_epoch_and_seed_has_channels_of_its_own() -> None:
    data, other = service(minibatches=3), service(seed=6, minibatches=3)
    drawn = [data.channels(t) for t in range(9)] + [data.test_channels(k) for k in range(10)]
    drawn += [other.channels(0), other.test_channels(0)]
    assert len({H.tobytes() for H in drawn}) == len(drawn)


def test_the_service_counts_and_orders() -> None:
    data: ChannelService = service(batch=4, minibatches=6, test_minibatches=2, pairs=3)
    counts = data.pairs, data.batch, data.minibatches, data.test_minibatches, data.test_batch
    assert (*counts, data.train_samples, data.streamed) == (3, 4, 6, 2, 4, 24, True)
    assert data.channels(0).shape == data.test_channels(1).shape == (4, 3, 3)
    order = data.order(2)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(order, np.arange(24))
    assert data.theta([("k1_a_1_w1", (1, 5))]) is None
    data.check_epochs(10**9)


def test_offline_every_epoch_has_the_same_mini_batches_in_a_new_order() -> None:
    data = service(batch=4, minibatches=6, online=False)
    epochs = [[data.channels(6 * e + m) for m in range(6)] for e in range(3)]
    orders = [data.order(e).reshape(6, 4) for e in range(3)]
    fixed = {m: service(minibatches=6).channels(m) for m in range(6)}
    assert len({tuple(order[:, 0]) for order in orders}) == 3
    for order, drawn in zip(orders, epochs, strict=True):
        assert sorted(order.ravel()) == list(range(24))
        for samples, H in zip(order, drawn, strict=True):
            np.testing.assert_array_equal(samples, 4 * (samples[0] // 4) + np.arange(4))
            np.testing.assert_array_equal(H, fixed[samples[0] // 4])


# Mobility


def test_reflection_is_the_walk_step_by_step() -> None:
    generator = np.random.default_rng(1)
    place, step = generator.uniform(0, 10, 50), generator.uniform(-4, 4, 50)
    start, direction = place.copy(), step.copy()
    for t in range(1, 200):
        place = place + direction
        beyond = (place < 0) | (place > 10)
        place = np.where(place < 0, -place, np.where(place > 10, 20 - place, place))
        direction = np.where(beyond, -direction, direction)
        np.testing.assert_allclose(reflected(start + t * step, 10.0), place, atol=1e-10)


def test_terminals_move_by_the_speed_inside_the_square() -> None:
    data = service(minibatches=10, mobility=Mobility(speed=30.0), area=400.0)
    places = np.stack([np.stack(data._train.terminals(t)) for t in range(400)])  # 40 epochs; [T, 2, n, 2]
    assert places.min() >= 0
    assert places.max() <= 400
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    assert steps.max() <= 30 * (1 + 1e-9)
    inside = np.logical_and(places > 30, places < 370).all(axis=-1)
    straight = inside[:-1] & inside[1:]
    assert straight.mean() > 0.5
    np.testing.assert_allclose(steps[straight], 30, rtol=1e-9)
    np.testing.assert_array_equal(data.order(7), np.arange(40))  # time is never shuffled
    start = np.stack(service(area=400.0)._train.terminals(0))
    np.testing.assert_allclose(places[0], start, rtol=1e-12)
    assert len({tuple(v) for v in np.round(places[1] - places[0], 6).reshape(-1, 2)}) == 50


def test_moving_shadowing_changes_gradually_and_keeps_its_variance() -> None:
    made = drawing(mobility=Mobility(speed=5.0, decorrelation=50.0), shadowing_clip=10.0)
    S = np.stack([made.shadowing(t) for t in range(1000)]) / 7.2
    np.testing.assert_array_equal(
        S[:30:10], np.stack([drawing(shadowing_clip=10.0).shadowing(k) / 7.2 for k in range(3)])
    )
    assert np.abs(np.diff(S, axis=0)).max() < 1.2
    for phase in range(10):  # between two draws as well as at them
        assert (S[phase::10] ** 2).mean() == pytest.approx(1, abs=0.02)
    assert (S[:-10] * S[10:]).mean() == pytest.approx(1 / math.pi, abs=0.02)  # mean of sin φ cos φ
    assert (S[:-30] * S[30:]).mean() == pytest.approx(0, abs=0.02)


def test_tests_do_not_depend_on_mobility() -> None:
    moving = service(mobility=Mobility(speed=30.0))
    for k in range(3):
        np.testing.assert_array_equal(moving.test_channels(k), service().test_channels(k))


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(({key: 0}, key) for key in ("area", "carrier", "path_loss_exponent", "noise_power", "max_power")),
        *(({key: -1.0}, key) for key in ("noise_power", "max_power", "shadowing", "max_path_loss")),
        *(({key: math.inf}, key) for key in ("noise_power", "max_power", "area", "shadowing")),
        *(
            ({key: math.nan}, key)
            for key in ("noise_power", "max_power", "area", "shadowing", "max_path_loss")
        ),
        *(({key: 0}, key) for key in ("pairs", "minibatches", "test_minibatches", "shadowing_clip")),
        ({"baselines_every": -1}, "baselines_every"),
        ({"pairs": 2.5}, "pairs"),
        ({"pairs": "3"}, "pairs"),
        ({"fading": "rice"}, "fading"),
        ({"mobility": {}}, "speed"),
        ({"mobility": {"speed": 0}}, "speed"),
        ({"mobility": {"speed": 1.0}, "online": False}, "online: false has no meaning beside mobility"),
        ({"bundle": ""}, "bundle"),
        ({"bundle": "a.npz", "area": 3.0}, "area: has no meaning beside a bundle"),
        ({"bundle": "a.npz", "mobility": {"speed": 3.0}}, "mobility: has no meaning beside a bundle"),
        ({"bundle": "a.npz", "online": False}, "online: has no meaning beside a bundle"),
        ({"speed": 1.0}, "speed"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PowerAllocation.model_validate(settings)


def test_settings_survive_a_file() -> None:
    """Of which null is no part: see Config.to_yaml."""
    for config in (
        PowerAllocation(),
        PowerAllocation(max_path_loss=None),  # type: ignore[arg-type]
        PowerAllocation(mobility=Mobility(speed=2.0), baselines_every=0),
        PowerAllocation(bundle="a.npz", noise_power=1.0, max_power=1.0, allow_outages=True),
    ):
        again = PowerAllocation.model_validate(config.model_dump(mode="json", exclude_none=True))
        assert again == config
    assert PowerAllocation.model_validate({"max_path_loss": None}).max_path_loss == math.inf


def test_every_setting_is_described() -> None:
    for section in (PowerAllocation, Mobility):
        assert all(field.description for field in section.model_fields.values())


# Links


def plain_graph(H: Array) -> Graph:
    n = H.shape[1]
    edges = [(i, j) for i in range(n) for j in range(i) if (H[:, i, j] != 0).any() or (H[:, j, i] != 0).any()]
    return Graph.from_edges(n, np.array(edges).reshape(-1, 2))


@pytest.mark.parametrize("pairs", [1, 2, 12])
def test_the_network_is_the_union_of_the_links(pairs: int) -> None:
    data = service(batch=2, pairs=pairs, max_path_loss=100.0)
    topology = ChannelTopology(data)
    graphs = [topology.graph(t) for t in range(20)]
    for t, graph in enumerate(graphs):
        assert graph == plain_graph(data.channels(t))
        assert topology.test_graph(t % 10) == plain_graph(data.test_channels(t % 10))
        assert topology.graph(t) is topology.graph(t)
    if pairs == 12:
        assert len({graph.num_edges for graph in graphs}) > 5
        assert any(graph.components() > 1 for graph in graphs)


def test_the_same_links_are_the_same_object() -> None:
    topology = ChannelTopology(service(batch=16, pairs=4, max_path_loss=NO_LIMIT))
    first = topology.graph(0)
    assert first.num_edges == 6
    for t in range(1, 5):
        topology.test_graph(t)
        assert topology.graph(t) is first
