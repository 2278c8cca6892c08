"""Networks that move: what all kinds promise, and what each of them is by its papers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from moving import ADAPTER, ALL, CASES, DISK, service, source
from pydantic import ValidationError
from scipy import stats

from fdtrain import config, reference
from fdtrain.errors import InputError
from fdtrain.graph import Graph
from fdtrain.topology import MovingSource, TopologyService
from fdtrain.topology.legs import Directions, Waypoints, mean_distance
from fdtrain.topology.mobility import Velocities, fold
from fdtrain.topology.radio import LogDistance
from fdtrain.topology.switching import _maximal

PLENTY = 20_000  # nodes of a motion, for statistics


@pytest.mark.parametrize("name", ALL)
def test_graphs_depend_on_the_seed_and_the_step_alone(name: str) -> None:
    kind, changes = ALL[name]
    steps = list(range(40))
    inorder = service(kind, **changes)
    wanted = [inorder.graph(t) for t in steps]
    shuffled = service(kind, **changes)
    for t in np.random.default_rng(0).permutation(steps):
        assert same(shuffled.graph(int(t)), wanted[t]), t
    for t in (39, 0, 17):
        assert same(service(kind, **changes).graph(t), wanted[t])
    assert inorder.graph(39) is inorder.graph(39)
    other = service(kind, seed=2, **changes)
    differs = any(other.graph(t) != wanted[t] for t in steps)
    assert differs == (kind not in ("one_peer_exponential", "contacts"))
    assert any(graph != wanted[0] for graph in wanted)


def same(one: Graph, other: Graph) -> bool:
    """The same graph, and the same places to the bit."""
    if one.positions is None or other.positions is None:
        return one == other and one.positions is other.positions
    return one == other and np.array_equal(one.positions, other.positions)


@pytest.mark.parametrize("name", ALL)
def test_graphs_are_undirected_without_loops(name: str) -> None:
    kind, changes = ALL[name]
    moving = service(kind, **changes)
    for t in range(10):
        A = moving.graph(t).adjacency().toarray()
        np.testing.assert_array_equal(A, A.T)
        assert not A.diagonal().any()


@pytest.mark.parametrize("name", ALL)
def test_far_steps_are_found_from_the_start_and_from_where_one_is(name: str) -> None:
    kind, changes = ALL[name]
    near, far = service(kind, **changes), service(kind, **changes)
    for t in range(0, 6001, 100):
        found = near.graph(t)
    assert same(far.graph(6000), found)
    assert same(far.graph(3), service(kind, **changes).graph(3))
    assert same(far.graph(6001), near.graph(6001))


@pytest.mark.parametrize("kind", CASES)
def test_redraw_says_after_how_many_mini_batches_a_step_comes(kind: str) -> None:
    each, third = service(kind), service(kind, redraw={"every": 3})
    assert source(kind).redraw.every == 1
    for t in range(9):
        assert same(third.graph(t), each.graph(t // 3))
    stays = TopologyService(ADAPTER.validate_python({"kind": kind, **CASES[kind], "redraw": None}), 1)
    assert stays.graph(100) is stays.graph(0)


@pytest.mark.parametrize("kind", ["random_waypoint", "random_direction", "gauss_markov", "markov_edges"])
def test_a_hundred_thousand_steps_take_seconds(kind: str) -> None:
    moving = service(kind, nodes=100)
    started = time.process_time()
    moving.graph(100_000)
    assert time.process_time() - started < 15  # about 0.01, 0.01, 0.4 and 2.5


@pytest.mark.parametrize("kind", CASES)
def test_connected_and_max_draws_have_no_meaning(kind: str) -> None:
    for key, value in (("connected", True), ("max_draws", 100), ("window", 0)):
        with pytest.raises(ValidationError) as caught:
            source(kind, **{key: value})
        assert caught.value.error_count() == 1
        message = caught.value.errors()[0]["msg"]
        assert key == "window" or f"{key}: {kind} moves" in message
        assert "\n" not in message
    assert not source(kind, connected=False).connected
    assert isinstance(source(kind), MovingSource)


@pytest.mark.parametrize("name", ALL)
def test_a_configuration_is_read_again_as_it_was_written(name: str, tmp_path: Any) -> None:
    kind, changes = ALL[name]
    topology = {k: v for k, v in (CASES[kind] | changes).items() if v is not None}
    for redraw in ({"every": 2}, None):
        content = {"topology": {"kind": kind, **topology, "redraw": redraw}, "model": {"sizes": [3, 1]}}
        made = config.from_mapping(content, base=tmp_path)
        (tmp_path / "written.yaml").write_text(made.to_yaml(), encoding="utf-8")
        assert config.load(tmp_path / "written.yaml") == made


BAD: list[tuple[dict[str, Any], str]] = [
    ({"kind": "random_waypoint", "speed": [0, 5]}, "topology.speed: must be more than 0, at least 1e-6, found 0"),
    ({"kind": "random_waypoint", "speed": [5, 1]}, "topology.speed: must be a number from 0 to 1e9, or [low, high]"),
    ({"kind": "random_waypoint", "speed": "fast"}, "topology.speed: must be a number or a list of two, found 'fast'"),
    ({"kind": "random_waypoint", "speed": [1, 2, 3]}, "topology.speed: must be a number or a list of two"),
    ({"kind": "random_waypoint", "speed": True}, "topology.speed: must be a number or a list of two"),
    ({"kind": "random_waypoint", "speed": float("nan")}, "topology.speed: must be a number or a list of two"),
    ({"kind": "random_waypoint", "pause": -1}, "topology.pause: must be a number from 0 to 1e9"),
    ({"kind": "random_waypoint", "area": 0}, "topology.area: must be from 1e-3 to 1e9 metres"),
    ({"kind": "random_waypoint", "area": [10, float("inf")]}, "topology.area: must be a number or a list of two"),
    ({"kind": "random_waypoint", "step": 0}, "topology.step"),
    ({"kind": "random_waypoint", "nodes": 0}, "topology.nodes"),
    ({"kind": "random_waypoint", "radio": None}, "topology.radio"),
    ({"kind": "random_waypoint", "radio": {"range": 5}}, "topology.radio: needs a 'kind'"),
    ({"kind": "random_waypoint", "radio": {"kind": "disk", "range": 5}}, "did you mean 'unit_disk'"),
    ({"kind": "random_waypoint", "radio": {"kind": "unit_disk", "range": 0}}, "topology.radio.range"),
    ({"kind": "random_waypoint", "radio": {"kind": "unit_disk", "rnage": 5}}, "unknown key of unit_disk"),
    ({"kind": "random_waypoint", "radio": {"kind": "log_distance", "coherence": 5}}, "coherence: there is no"),
    (
        {"kind": "random_waypoint", "nodes": 5001, "radio": {"kind": "log_distance", "shadowing": 1}},
        "nodes: must be at most 5,000 with shadowing, found 5001",
    ),
    ({"kind": "random_waypoint", "nodes": 100_000}, "for 50,000,000 edges, found 100000"),
    ({"kind": "random_waypoint", "step": 1e6, "pause": 0}, "step: must be at most 1,000 legs of a node"),
    ({"kind": "random_direction", "travel": 1e-5, "pause": 0}, "step: must be at most 1,000 legs of a node"),
    ({"kind": "markov_edges", "nodes": 3001}, "nodes: must be at most 3,000 without a base, found 3001"),
    ({"kind": "random_direction", "travel": [0, 5]}, "topology.travel: must be more than 0"),
    ({"kind": "gauss_markov", "alpha": 1.1}, "topology.alpha"),
    ({"kind": "gauss_markov", "mean_speed": 0, "std": 0}, "mean_speed: must be more than 0, or std more than 0"),
    ({"kind": "markov_edges", "p": 0, "q": 0}, "p, q: must not both be 0"),
    ({"kind": "markov_edges", "p": 1.5}, "topology.p"),
    ({"kind": "markov_edges", "base": {"kind": "ring", "nodes": 5}}, "nodes, base: give exactly one of the two, found"),
    ({"kind": "random_matching", "nodes": None}, "nodes, base: give exactly one of the two, found neither"),
    (
        {"kind": "random_matching", "nodes": None, "base": {"kind": "ring", "nodes": 5, "seed": 3}},
        "seed: has no meaning here; put it beside base",
    ),
    (
        {"kind": "random_matching", "nodes": None, "base": {"kind": "random_waypoint", "nodes": 5}},
        "topology.base.kind: unknown 'random_waypoint'",
    ),
    ({"kind": "one_peer_exponential", "nodes": 1}, "topology.nodes"),
    ({"kind": "one_peer_exponential", "redraw": {"every": 0}}, "topology.redraw.every"),
    ({"kind": "one_peer_exponential", "connected": True}, "connected: one_peer_exponential moves"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), BAD)
def test_a_bad_configuration_is_one_line(changes: dict[str, Any], words: str) -> None:
    fields = CASES[changes["kind"]] | changes
    topology = {key: value for key, value in fields.items() if value is not None}
    with pytest.raises(InputError) as caught:
        config.from_mapping({"topology": topology, "model": {"sizes": [3, 1]}})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Motion


def waypoints(pause: tuple[float, float] = (0.0, 60.0), nodes: int = PLENTY) -> Waypoints:
    return Waypoints(nodes, (300.0, 100.0), (1.0, 5.0), pause, 2.0, 7, "t")


def directions(pause: tuple[float, float] = (0.0, 60.0), nodes: int = PLENTY) -> Directions:
    return Directions(nodes, (300.0, 100.0), (1.0, 5.0), pause, 2.0, 7, "t", (5.0, 80.0))


def velocities(nodes: int = PLENTY, alpha: float = 0.8) -> Velocities:
    return Velocities(nodes, (300.0, 100.0), 3.0, alpha, 1.5, 2.0, 7, "t")


@pytest.mark.parametrize("make", [waypoints, directions, velocities])
def test_nodes_stay_in_the_area(make: Any) -> None:
    motion = make(nodes=200)
    for step in (*range(50), 5000, 100_000):
        at = motion.positions(step)
        assert at.shape == (200, 2)
        assert (at >= 0).all()
        assert (at <= [300, 100]).all()


@pytest.mark.parametrize("make", [waypoints, directions])
def test_nodes_move_no_faster_than_they_may(make: Any) -> None:
    motion = make(nodes=500)
    places = np.array([motion.positions(step) for step in range(300)])
    speeds = np.linalg.norm(np.diff(places, axis=0), axis=2) / 2.0
    assert speeds.max() <= 5.0 + 1e-9
    assert speeds.max() > 4.5
    never = make(pause=(0.0, 0.0), nodes=500)
    places = np.array([never.positions(step) for step in range(300)])
    steady = np.linalg.norm(np.diff(places, axis=0), axis=2) / 2.0
    assert np.median(steady) > 1.0  # but for steps in which a node turns, which are shorter
    assert (steady < 1.0 - 1e-9).mean() < 0.1


def test_a_node_rests_where_it_comes() -> None:
    motion = waypoints(pause=(50.0, 60.0), nodes=100)
    places = np.array([motion.positions(step) for step in range(400)])
    still = (np.diff(places, axis=0) == 0).all(axis=2)  # [399, V]
    runs = [len(run) for node in still.T for run in "".join(".#"[int(s)] for s in node).split(".") if run]
    assert max(runs) <= 30  # of 2 s
    assert np.mean(np.array(runs) >= 24) > 0.7  # the first and the last are cut


@pytest.mark.parametrize(
    "make",
    [waypoints, directions, velocities, lambda: waypoints((0.0, 0.0)), lambda: directions((9.0, 9.0))],
    ids=("waypoints", "directions", "velocities", "waypoints without pause", "directions, equal pauses"),
)
def test_the_first_graphs_are_like_all_others(make: Any) -> None:
    """Places, and moves in a step, have the same distribution at the start and much later: Kolmogorov–Smirnov."""
    motion = make()
    steps = (0, 1, 3, 10, 50, 400)
    at = {k: (motion.positions(k), motion.positions(k + 1)) for k in steps}
    late, later = at[400]
    for k in steps[:-1]:
        here, there = at[k]
        for axis in (0, 1):
            assert stats.ks_2samp(here[:, axis], late[:, axis]).pvalue > 1e-3, (k, axis)
        moves = [np.linalg.norm(b - a, axis=1) for a, b in ((here, there), (late, later))]
        assert stats.ks_2samp(*moves).pvalue > 1e-3, k


def test_random_waypoints_gather_in_the_middle_and_random_directions_do_not() -> None:
    share = {}
    for make in (waypoints, directions, velocities):
        at = make().positions(7) / [300, 100]
        share[make] = (np.abs(at - 0.5) < 0.25).all(axis=1).mean()
        uniform = stats.kstest(at[:, 0], "uniform").pvalue
        assert (uniform > 1e-3) == (make is not waypoints)
    assert share[waypoints] > 0.27  # uniform pauses between, which are a third of the time
    assert abs(share[directions] - 0.25) < 0.02
    assert abs(share[velocities] - 0.25) < 0.02


def test_pausing_nodes_are_as_many_as_pauses_take_time() -> None:
    """Half of the time, if a pause takes as long as a leg: E[length] E[1/speed]."""
    travel = mean_distance((300.0, 100.0)) * np.log(5.0) / 4.0
    for make, mean_travel in ((waypoints, travel), (directions, 42.5)):
        motion = make(pause=(mean_travel, mean_travel))
        moved = [(motion.positions(k + 1) != motion.positions(k)).any(axis=1).mean() for k in (0, 30)]
        for share in moved:  # of 2 s in which it does not pause all the time
            assert abs(share - (0.5 + 2.0 / (2 * mean_travel))) < 0.015


def test_the_mean_distance_of_two_points() -> None:
    draws = np.random.default_rng(0).random((2, 400_000, 2))
    for sides in ((1.0, 1.0), (5.0, 1.0), (1.0, 30.0), (1e6, 1.0)):
        found = np.linalg.norm((draws[0] - draws[1]) * sides, axis=1).mean()
        assert mean_distance(sides) == pytest.approx(found, rel=5e-3)
    assert mean_distance((1.0, 1.0)) == pytest.approx(0.5214054331, abs=1e-9)


def test_velocities_are_remembered_as_alpha_says() -> None:
    """Corr(v_k, v_{k+l}) = α^l of the deviations from the mean velocity, and their size is σ."""
    motion = Velocities(PLENTY, (1e9, 1e9), 3.0, 0.8, 1.5, 1.0, 7, "t")  # no wall is near
    places = np.array([motion.positions(k) for k in range(9)])
    v = np.diff(places, axis=0)  # [8, V, 2]
    assert np.linalg.norm(v.mean(axis=0), axis=1).mean() == pytest.approx(3.0, rel=0.1)
    differences = {lag: np.square(v[lag:] - v[:-lag]).mean() / 2 for lag in (1, 2, 4)}
    for lag, found in differences.items():
        assert found == pytest.approx(1.5**2 * (1 - 0.8**lag), rel=0.03)
    assert np.square(v).mean() == pytest.approx(3.0**2 / 2 + 1.5**2, rel=0.03)
    straight = Velocities(50, (1e9, 1e9), 3.0, 1.0, 1.5, 1.0, 7, "t")
    moves = np.diff([straight.positions(k) for k in range(5)], axis=0)
    np.testing.assert_allclose(moves, np.broadcast_to(moves[0], moves.shape), atol=1e-5)


def test_blocks_of_velocities_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fdtrain.topology.mobility.BLOCK", 10 * 40)
    motion = Velocities(
        40, (1e9, 1e9), 3.0, 1.0, 1.5, 1.0, 7, "t"
    )  # straight ahead, so that a gap would show
    places = [motion.positions(k) for k in range(21)]  # blocks of 5 steps
    np.testing.assert_allclose(np.diff(places, 2, axis=0), 0, atol=1e-5)
    assert np.array_equal(motion.positions(3), places[3])


def test_mirrors() -> None:
    at = np.array([[1.0, 1.0], [11.0, -1.0], [25.0, 7.0], [-15.0, 5.0]])
    np.testing.assert_allclose(fold(at, (10.0, 4.0)), [[1, 1], [9, 1], [5, 1], [5, 3]])


# Radio


def test_unit_disk_links_are_those_within_range() -> None:
    graph = service("random_waypoint").graph(5)
    at = graph.positions
    assert at is not None
    distances = np.linalg.norm(at[:, None] - at[None], axis=2)
    np.testing.assert_array_equal(
        graph.adjacency().toarray() != 0, (distances <= 150) & ~np.eye(20, dtype=bool)
    )


def line(distance: float, pairs: int) -> np.ndarray:
    """Pairs of nodes at a distance, each pair far from the others."""
    first = np.stack([np.zeros(pairs), 1e7 * np.arange(pairs)], axis=1)
    return np.stack([first, first + np.array([distance, 0.0])], axis=1).reshape(-1, 2)


@pytest.mark.parametrize("distance", [0.3, 60.0, 100.0, 150.0, 250.0])
@pytest.mark.parametrize("when", [None, 0.0, 5.0, 12.5])
def test_links_are_as_likely_as_the_formula_says(distance: float, when: float | None) -> None:
    """P(link) = Φ((tx − loss − 10 n log₁₀ d − sensitivity) / σ), at all times of a shadowing that changes."""
    radio = LogDistance(
        exponent=3.0, reference_loss=40.0, tx_power=10.0, sensitivity=-90.0, shadowing=7.0,
        coherence=None if when is None else 10.0,
    )  # fmt: skip
    pairs = 800
    found = radio.edges(line(distance, pairs), when or 0.0, 3, "t")
    linked = (found[:, 1] == found[:, 0] + 1) & (found[:, 0] % 2 == 0)
    assert linked.all()
    p = stats.norm.cdf((60.0 - 30.0 * np.log10(max(distance, 1.0))) / 7.0)
    assert abs(len(found) / pairs - p) <= 4 * np.sqrt(p * (1 - p) / pairs)


def test_without_shadowing_the_range_is_sharp() -> None:
    radio = LogDistance(exponent=2.0, reference_loss=40.0, sensitivity=-80.0)  # 40 dB, 100 m
    assert len(radio.edges(line(99.9, 3), 0.0, 0, "t")) == 3
    assert len(radio.edges(line(100.1, 3), 0.0, 0, "t")) == 0
    deaf = LogDistance(reference_loss=40.0, sensitivity=-39.0)
    assert len(deaf.edges(line(0.0, 3), 0.0, 0, "t")) == 0


def test_shadowing_is_another_for_every_pair_and_changes_smoothly() -> None:
    radio = LogDistance(shadowing=5.0, coherence=10.0)
    X = np.array([radio._shadowing(40_000, t, 3, "t") for t in (0.0, 0.1, 5.0, 10.0, 20.0, 30.0)])
    assert np.abs(X.std(axis=1) - 5).max() < 0.1
    R = np.corrcoef(X)
    assert R[0, 1] > 0.999
    assert R[0, 2] == pytest.approx(np.cos(np.pi / 4), abs=0.02)
    assert np.abs(R[0, 3:]).max() < 0.02
    assert np.abs(np.corrcoef(X[0, :-1], X[0, 1:])[0, 1]) < 0.02
    stays = LogDistance(shadowing=5.0)
    assert np.array_equal(stays._shadowing(9, 0.0, 3, "t"), stays._shadowing(9, 1e6, 3, "t"))


# Links that come and go


@pytest.mark.parametrize(
    ("p", "q"), [(0.02, 0.2), (0.5, 0.1), (0.9, 0.8), (0.0, 0.3), (0.4, 0.0), (1.0, 1.0)]
)
def test_edges_turn_on_and_off_as_often_as_they_should(p: float, q: float) -> None:
    moving = service("markov_edges", nodes=100, p=p, q=q)
    states = np.array(
        [moving.graph(t).adjacency().toarray()[np.triu_indices(100, 1)] != 0 for t in range(60)]
    )
    before, after = states[:-1], states[1:]
    share = p / (p + q)
    for at in (0, 59):  # stationary from the start: edges are independent
        assert abs(states[at].mean() - share) <= 4 * np.sqrt(share * (1 - share) / states.shape[1])
    for chosen, rate, turned in ((~before, p, after), (before, q, ~after)):
        tries = chosen.sum()
        if tries:
            assert abs(turned[chosen].mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / tries)
    if 0 < share < 1 and abs(1 - p - q) < 1:
        found = np.corrcoef(states[:-3].ravel(), states[3:].ravel())[0, 1]
        assert found == pytest.approx((1 - p - q) ** 3, abs=0.03)


def test_markov_edges_are_those_of_the_base_with_their_weights(tmp_path: Any) -> None:
    (tmp_path / "net.edges").write_text("a b 2.5\nb c 0.5\nc a 4\n")
    moving = service(
        "markov_edges", nodes=None, base={"kind": "file", "path": str(tmp_path / "net.edges")}, p=0.5
    )
    base = {(0, 1): 2.5, (1, 2): 0.5, (0, 2): 4.0}
    seen = set()
    for t in range(30):
        graph = moving.graph(t)
        assert graph.labels == ("a", "b", "c")
        for (i, j), weight in zip(graph.edges().tolist(), graph.adjacency().tocoo().data, strict=False):
            assert weight in base.values()
            assert graph.adjacency()[i, j] == graph.adjacency()[j, i] == base[i, j]
        seen.add(graph.num_edges)
    assert seen >= {0, 1, 2}


def test_a_base_is_drawn_once_and_connected() -> None:
    base = {"kind": "erdos_renyi", "nodes": 30, "mean_degree": 4}
    moving = service("markov_edges", nodes=None, base=base, p=1.0, q=0.0)
    graphs = [moving.graph(t) for t in range(3)]
    assert graphs[0].components() == 1
    assert graphs[0] == graphs[1] == graphs[2]
    assert service("markov_edges", seed=2, nodes=None, base=base, p=1.0, q=0.0).graph(0) != graphs[0]


@pytest.mark.parametrize("nodes", [1, 2, 7, 8, 21])
def test_a_matching_of_all_pairs_leaves_nobody_out_but_one(nodes: int) -> None:
    moving = service("random_matching", nodes=nodes)
    for t in range(20):
        degrees = moving.graph(t).degrees
        assert degrees.max(initial=0) <= 1
        assert (degrees == 0).sum() == nodes % 2


def test_matchings_are_uniform() -> None:
    """The three perfect matchings of four nodes come equally often, one after another independently."""
    moving = service("random_matching", nodes=4)
    partner = np.array([moving.graph(t).neighbours(0)[0] for t in range(3000)])
    counts = np.histogram2d(partner[:-1], partner[1:], bins=[[1, 2, 3, 4]] * 2)[0]
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_a_matching_on_a_base_takes_edges_until_none_is_left() -> None:
    base = {"kind": "barabasi_albert", "nodes": 40, "m": 2}
    moving = service("random_matching", nodes=None, base=base)
    ground = service("markov_edges", nodes=None, base=base, p=1.0, q=0.0)
    edges = ground.graph(0).edges()
    known, seen = {*map(tuple, edges.tolist())}, set()
    for t in range(60):
        graph = moving.graph(t)
        assert graph.degrees.max() == 1
        seen |= {*map(tuple, graph.edges().tolist())}
        free = graph.degrees == 0
        assert not free[edges].all(axis=1).any(), "another edge would have fitted"
    assert seen <= known
    assert len(seen) > 0.8 * len(known)


def test_edges_taken_at_once_are_those_taken_one_after_another() -> None:
    draws = np.random.default_rng(3)
    for nodes, edges in ((2, 1), (10, 20), (60, 400)):
        pairs = np.stack(np.triu_indices(nodes, 1), axis=1)
        pairs = pairs[draws.permutation(len(pairs))[:edges]]
        rank = draws.permutation(len(pairs))
        busy, wanted = set[int](), []
        for e in np.argsort(rank):
            if not busy & {*pairs[e].tolist()}:
                busy |= {*pairs[e].tolist()}
                wanted.append(e)
        assert _maximal(pairs, rank, nodes).tolist() == sorted(wanted)
    assert _maximal(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64), 3).tolist() == []


@pytest.mark.parametrize("nodes", [2, 3, 4, 5, 6, 8, 13, 16, 64, 100])
def test_one_peer_graphs_of_a_period_connect_all(nodes: int) -> None:
    moving = service("one_peer_exponential", nodes=nodes)
    period = int(np.ceil(np.log2(nodes)))
    power = nodes == 2**period
    edges = set()
    for t in range(period):
        graph = moving.graph(t)
        peers = {(i, int(j)) for i in range(nodes) for j in graph.neighbours(i)}
        if power:
            assert peers == {(i, i ^ 2**t) for i in range(nodes)}
        else:
            assert peers == {(i, (i + sign * 2**t) % nodes) for i in range(nodes) for sign in (1, -1)}
        edges |= peers
        assert graph == moving.graph(t + period)
    assert Graph.from_edges(nodes, sorted((i, j) for i, j in edges if i < j)).components() == 1


@pytest.mark.parametrize("nodes", [2, 4, 16, 64])
def test_a_period_of_a_hypercube_averages_exactly(nodes: int) -> None:
    moving = service("one_peer_exponential", nodes=nodes)
    x = np.random.default_rng(0).normal(size=(nodes, 3))
    mixed = x
    for t in range(5, 5 + nodes.bit_length() - 1):  # from any phase
        mixed = reference.mixing_matrix(moving.graph(t).adjacency(), "metropolis") @ mixed
    np.testing.assert_allclose(mixed, np.broadcast_to(x.mean(axis=0), x.shape), atol=1e-14)


def test_an_edgeless_graph_and_a_single_node_are_graphs() -> None:
    nobody = service("random_waypoint", radio=DISK | {"range": 1e-3}).graph(3)
    assert (nobody.num_edges, nobody.num_nodes) == (0, 20)
    for kind in ("random_waypoint", "random_direction", "gauss_markov", "markov_edges", "random_matching"):
        assert service(kind, nodes=1).graph(2).num_nodes == 1
