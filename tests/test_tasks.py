"""Synthetic node regression (SPEC §6 A): the recipe of every column, the teacher's labels, keyed draws."""

from typing import Any

import numpy as np
import pytest

from fdtrain import rng
from fdtrain.config import from_mapping
from fdtrain.experiment import Experiment, build
from fdtrain.features import draw_features
from fdtrain.graph import Graph
from fdtrain.layers.gcnn import Gcnn
from fdtrain.tasks.node_regression import NodeRegression, SyntheticRegression

MANY = 20_000


def features(width: int, kind: str = "mixed", samples: int = MANY) -> np.ndarray:
    return draw_features(rng.generator(1, "features/train"), samples, width, kind)


def is_uniform(column: np.ndarray) -> bool:
    quarters = np.bincount((4 * column).astype(int), minlength=4) / len(column)
    return bool(
        ((column >= 0) & (column < 1)).all() and len(quarters) == 4 and (abs(quarters - 0.25) < 0.02).all()
    )


def is_normal(column: np.ndarray) -> bool:
    within = [(abs(column) < s).mean() for s in (1, 2, 3)]
    return bool(
        abs(column.mean()) < 0.03 and np.abs(np.subtract(within, [0.6827, 0.9545, 0.9973])).max() < 0.012
    )


def is_bernoulli(column: np.ndarray, p: float) -> bool:
    return set(np.unique(column)) == {0, 1} and abs(column.mean() - p) < 0.02


def check_columns(x: np.ndarray) -> None:
    """Up to ten columns of the mixed recipe."""
    width = x.shape[1]
    assert is_uniform(x[:, 0])
    assert width < 2 or is_normal(x[:, 1])
    if width >= 3:
        assert np.unique(x[:, 2]).tolist() == [0, 1, 2, 3, 4, 5]
        assert np.abs(np.bincount(x[:, 2].astype(int)) / len(x) - 1 / 6).max() < 0.02
    assert width < 4 or is_bernoulli(x[:, 3], 0.25)
    assert width < 5 or is_bernoulli(x[:, 4], 0.75)
    if width > 5:
        hot = x[:, 5:]
        assert set(np.unique(hot)) <= {0, 1}
        assert (hot.sum(axis=1) == 1).all()
        assert np.abs(hot.mean(axis=0) - 1 / (width - 5)).max() < 0.02


@pytest.mark.parametrize("width", range(1, 11))
def test_mixed_features_column_by_column(width: int) -> None:
    x = features(width)
    assert x.shape == (MANY, width)
    check_columns(x)
    independent = np.corrcoef(x[:, : min(width, 5)].T).reshape(width if width < 5 else 5, -1)
    assert np.abs(independent - np.eye(len(independent))).max() < 0.03


def test_the_recipe_starts_over_after_ten_columns() -> None:
    x = features(27)
    for first in (0, 10, 20):
        check_columns(x[:, first : first + 10])
    assert (x[:, 0] != x[:, 10]).mean() > 0.99
    assert (x[:, 5:10] != x[:, 15:20]).any(axis=1).mean() > 0.7


def test_plain_features() -> None:
    uniform, normal = features(3, "uniform"), features(3, "normal")
    assert all(is_uniform(column) for column in uniform.T)
    assert all(is_normal(column) for column in normal.T)


SIZES, ACTIVATIONS = (4, 3, 2), ("sigmoid", "leaky_relu")
GRAPH = Graph.from_adjacency([[0, 2.0, 0, 1], [0.5, 0, 1, 0], [0, 1, 0, 3], [1, 0, 0.7, 0]])


def task(
    form: Any = "receiver", *, redrawn: bool = False, seed: int = 5, **config: Any
) -> SyntheticRegression:
    settings = {"train_samples": 12, "test_samples": 5} | config
    model = Gcnn(SIZES, ACTIVATIONS, form, 0.2)
    return SyntheticRegression(NodeRegression(**settings), model, "laplacian", 4, seed, redrawn=redrawn)


def teacher(seed: int, form: str, graph: Graph, x: np.ndarray) -> np.ndarray:
    """Labels of one sample x [V, g_0], written out node by node; Θ0 ~ U(0, 1), Θ1 ~ 2·U(0, 1)."""
    A, flat, at = graph.adjacency().toarray(), rng.generator(seed, "teacher").random(2 * (4 * 3 + 3 * 2)), 0
    S = np.diag(A.sum(axis=1)) - A
    for g, h, sigma in ((4, 3, lambda v: 1 / (1 + np.exp(-v))), (3, 2, lambda v: v if v > 0 else 0.2 * v)):
        Theta0 = flat[at : at + g * h].reshape(g, h)
        Theta1 = 2 * flat[at + g * h : at + 2 * g * h].reshape(g, h)
        at += 2 * g * h
        y = np.zeros((len(x), h))
        for i in range(len(x)):
            for k in range(h):
                value = sum(x[i, m] * Theta0[m, k] for m in range(g))
                for j in range(len(x)):
                    value += sum(S[i, j] * x[j, m] * Theta1[m, k] for m in range(g))
                y[i, k] = sigma(value)
        x = y
    return x


@pytest.mark.parametrize("form", ["receiver", "sender"])
def test_labels_are_the_teachers(form: str) -> None:
    made = task(form, noise=0.0)
    train, test = made.dataset(GRAPH)
    assert (train.x.shape, train.y.shape, test.x.shape, test.y.shape) == (
        (12, 4, 4),
        (12, 4, 2),
        (5, 4, 4),
        (5, 4, 2),
    )
    for samples in (train, test):
        for x, y in zip(samples.x, samples.y, strict=True):
            np.testing.assert_allclose(y, teacher(5, form, GRAPH, x), rtol=1e-12)


def test_noise_has_its_standard_deviation_and_is_every_nodes_own() -> None:
    noisy, clean = (task(noise=s, train_samples=4000).dataset(GRAPH)[0] for s in (0.1, 0.0))
    np.testing.assert_array_equal(noisy.x, clean.x)
    noise = (noisy.y - clean.y).reshape(4000, 8)
    np.testing.assert_allclose(noise.std(axis=0), 0.1, rtol=0.05)
    assert np.abs(noise.mean(axis=0)).max() < 0.006
    assert np.abs(np.corrcoef(noise.T) - np.eye(8)).max() < 0.06
    assert is_normal(10 * noise.reshape(-1))


def test_draws_differ_between_nodes_purposes_and_seeds() -> None:
    train, test = task(features="normal").dataset(GRAPH)
    other, _ = task(features="normal", seed=6).dataset(GRAPH)
    numbers = np.concatenate([train.x.reshape(-1), test.x.reshape(-1), other.x.reshape(-1)])
    assert len(np.unique(numbers)) == len(numbers)
    again, _ = task(features="normal").dataset(GRAPH)
    np.testing.assert_array_equal(again.x, train.x)
    np.testing.assert_array_equal(again.y, train.y)


def test_a_nodes_features_do_not_depend_on_who_else_is_there() -> None:
    model = Gcnn(SIZES, ACTIVATIONS)
    config = NodeRegression(train_samples=6, test_samples=2)
    small, large = (
        SyntheticRegression(config, model, "laplacian", nodes, 5, redrawn=True) for nodes in (3, 8)
    )
    graphs = [Graph.from_edges(nodes, [[0, 1], [1, 2]]) for nodes in (3, 8)]
    chosen = np.arange(6)
    np.testing.assert_array_equal(
        small.minibatch(0, chosen, graphs[0]).x, large.minibatch(0, chosen, graphs[1]).x[:, :3]
    )


def test_online_samples_are_fresh_in_every_mini_batch_and_reproducible() -> None:
    made = task(online=True, features="normal")
    assert made.streamed
    drawn = [made.minibatch(t, np.arange(3), GRAPH) for t in range(4)]
    numbers = np.concatenate([samples.x.reshape(-1) for samples in drawn])
    assert len(np.unique(numbers)) == len(numbers) == 4 * 3 * 4 * 4
    labels = np.concatenate([samples.y.reshape(-1) for samples in drawn])
    assert len(np.unique(labels)) == len(labels)
    other = task(online=True, features="normal")
    for t in (2, 0, 3, 1):  # in any order
        again = other.minibatch(t, np.arange(3), GRAPH)
        np.testing.assert_array_equal(again.x, drawn[t].x)
        np.testing.assert_array_equal(again.y, drawn[t].y)
    assert not np.isin(made.test(GRAPH, 0)[1].x, numbers).any()


def test_without_online_a_streamed_mini_batch_has_the_chosen_samples() -> None:
    fixed, streamed = task(), task(redrawn=True)
    assert not fixed.streamed
    assert streamed.streamed
    train, test = fixed.dataset(GRAPH)
    chosen = np.array([7, 2, 2, 11])
    for t in (0, 5):
        samples = streamed.minibatch(t, chosen, GRAPH)
        np.testing.assert_array_equal(samples.x, train.x[chosen])
        np.testing.assert_allclose(samples.y, train.y[chosen], rtol=1e-13)
    graph, held_out = streamed.test(GRAPH, 0)
    assert graph is GRAPH
    np.testing.assert_array_equal(held_out.x, test.x)
    np.testing.assert_array_equal(held_out.y, test.y)


def test_labels_follow_the_network_of_the_moment() -> None:
    made = task(redrawn=True, noise=0.0)
    for graph in (GRAPH, Graph.from_edges(4, [[0, 1], [2, 3]]), Graph.from_edges(4, []), GRAPH):
        for samples in (made.minibatch(0, np.arange(3), graph), made.test(graph, 0)[1]):
            for x, y in zip(samples.x, samples.y, strict=True):
                np.testing.assert_allclose(y, teacher(5, "receiver", graph, x), rtol=1e-12)


def test_orders_are_reshuffled_every_epoch() -> None:
    made = task()
    orders = [made.order(epoch) for epoch in range(5)]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    np.testing.assert_array_equal(task().order(3), orders[3])
    assert tuple(task(seed=6).order(0)) != tuple(orders[0])
    assert sorted(task(online=True).order(1)) == list(range(12))


def experiment(**change: Any) -> Experiment:
    content: dict[str, Any] = {
        "seed": 5,
        "topology": {"kind": "barabasi_albert", "nodes": 10, "m": 2},
        "model": {"sizes": [6, 4, 1]},
        "task": {"train_samples": 8, "test_samples": 3},
        "training": {"epochs": 1, "batch": 4},
    }
    for section, values in change.items():
        content[section] = content[section] | values
    return build(from_mapping(content))


def test_every_rank_gets_its_own_nodes_rows_whatever_the_packing() -> None:
    whole = experiment(task={"online": True})
    chosen = np.array([5, 1, 6])
    wanted = whole.data.minibatch(3, chosen, whole.topology.graph(0))
    for ranks in (1, 3, 10):
        host = experiment(task={"online": True}).host(ranks)
        parts = host.minibatch(3, chosen)
        assert len(parts) == ranks
        for rank, rows in enumerate(parts):
            ids = np.flatnonzero(host.owner == rank)
            np.testing.assert_array_equal(rows.x, wanted.x[:, ids].swapaxes(0, 1))
            np.testing.assert_array_equal(rows.y, wanted.y[:, ids].swapaxes(0, 1))
            assert rows.x.flags.c_contiguous


def test_initial_parameters() -> None:
    shared = experiment().theta
    assert shared.shape == (10, 2 * (24 + 4))
    assert (shared == shared[0]).all()
    assert ((shared >= 0) & (shared < 1)).all()
    assert not shared.strides[0]  # one row
    own = experiment(model={"init": {"per_node": True, "low": -2, "high": -1}}).theta
    assert len(np.unique(own)) == own.size
    assert ((own >= -2) & (own < -1)).all()
    normal = experiment(model={"sizes": [80, 80], "init": {"kind": "normal", "std": 0.3}}).theta[0]
    assert is_normal(normal / 0.3)
    glorot = experiment(model={"sizes": [40, 20], "init": {"kind": "glorot_uniform"}}).theta[0]
    bound = np.sqrt(6 / 60)
    assert 0.98 * bound < np.abs(glorot).max() < bound


def test_generators_are_keyed() -> None:
    keys: list[tuple[Any, ...]] = [
        (0, "a"), (1, "a"), (2**64 - 1, "a"), (0, "b"), (0, "a", 1), (0, "a", 0, 1), (0, "a", 1, 1),
        (0, "a", 2), (0, "a", 0, 2),
    ]  # fmt: skip
    draws = [rng.generator(*key).random(50_000) for key in keys]
    assert (
        len(np.unique(np.concatenate(draws))) > 0.9999 * len(keys) * 50_000
    )  # long streams do not run into others
    np.testing.assert_array_equal(rng.generator(0, "a", 1).random(50_000), draws[4])
