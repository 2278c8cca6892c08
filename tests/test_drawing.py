"""Samples that ranks draw for themselves: the bits of the whole, in every packing, with labels of a teacher's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from teams import experiment, led, run

from fdtrain import drawing, features, rng
from fdtrain.drawing import Recipe, drawn, wave_for
from fdtrain.experiment import Experiment, run_job
from fdtrain.features import draw_all_features, draw_features
from fdtrain.passes import Rows
from fdtrain.service import Host
from fdtrain.team import Team

Array = np.ndarray


def by_hand(draws: np.random.Generator, samples: int, width: int) -> Array:
    """The mixed recipe, column by column."""
    x = np.zeros((samples, width))
    for first in range(0, width, 10):
        columns = [
            draws.random(samples), draws.standard_normal(samples), draws.integers(0, 6, samples),
            draws.random(samples) < 0.25, draws.random(samples) < 0.75,
        ]  # fmt: skip
        for k, values in enumerate(columns):
            if first + k < width:
                x[:, first + k] = values
        hot = min(width - first, 10) - 5
        if hot > 0:
            x[np.arange(samples), first + 5 + draws.integers(0, hot, samples)] = 1.0
    return x


@pytest.mark.parametrize("width", [1, 3, 5, 6, 9, 10, 13, 20, 27])
@pytest.mark.parametrize("samples", [1, 2, 7, 100])
def test_many_nodes_draw_what_each_draws_alone(width: int, samples: int) -> None:
    ids = np.array([0, 3, 4, 17, 2**33, *range(100, 400)])  # more than are laid out at a time
    found = draw_all_features(5, "features/train", 2, ids, samples, width, "mixed")
    for own, node in zip(found, ids.tolist(), strict=True):
        make = partial(rng.generator, 5, "features/train", 2, node)
        np.testing.assert_array_equal(own, by_hand(make(), samples, width))
        np.testing.assert_array_equal(own, draw_features(make(), samples, width, "mixed"))


@pytest.mark.parametrize(("doubtful", "alone"), [(0, 0), (2**25, 20), (2**32, 50)])
def test_integers_that_may_have_been_rejected_are_drawn_by_numpy(
    doubtful: int, alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, made = np.arange(50), features.draw_features
    wanted = [made(rng.generator(1, "features/train", 0, node), 40, 10, "mixed") for node in range(50)]
    count = list[int]()

    def noted(draws: np.random.Generator, *others: Any) -> Array:
        count.append(1)
        return made(draws, *others)

    monkeypatch.setattr(features, "_DOUBTFUL", doubtful)
    monkeypatch.setattr(features, "draw_features", noted)
    np.testing.assert_array_equal(draw_all_features(1, "features/train", 0, ids, 40, 10, "mixed"), wanted)
    assert abs(len(count) - alone) <= (0 if alone in (0, 50) else 15)


def test_generators_one_after_another_are_those_of_the_items() -> None:
    items = [0, 5, 2**40]
    for item, draws in zip(items, rng.each(7, "noise", 3, items), strict=True):
        draws.integers(0, 6, 3)  # leaves half a word
        again = rng.generator(7, "noise", 3, item)
        again.integers(0, 6, 3)
        np.testing.assert_array_equal(draws.standard_normal(9), again.standard_normal(9))


def drawn_by(ranks: int, make: Callable[[], Experiment]) -> tuple[Host, list[tuple[Rows, Rows]]]:
    """The training and test samples of every rank."""
    made = make()
    host = made.host(ranks)

    def draw(team: Team, serve: Any = None) -> Any:
        hood = team.deal(lambda: serve.neighbourhoods(0))
        recipe = team.deal(lambda: serve.dataset())
        assert isinstance(recipe, Recipe)
        return team.control.gather(drawn(recipe, made.job, hood, team))

    def lead(team: Team) -> Any:
        team.order(draw)
        return draw(team, host)

    return host, led(lead, ranks)


def whole(host: Host, parts: list[tuple[Rows, Rows]], which: int) -> tuple[Array, Array]:
    """x and y of all nodes, [V, N, ·]."""
    order = np.argsort(np.concatenate([np.flatnonzero(host.owner == rank) for rank in range(len(parts))]))
    rows = [part[which] for part in parts]
    return tuple(np.concatenate([row[k] for row in rows])[order] for k in (0, 1))  # type: ignore[return-value]


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("most", [1, 9 * 10 * 4, 10**9])  # waves of 1, 4 and of all samples
def test_ranks_draw_the_samples_that_the_whole_network_has(
    form: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_NUMBERS", most)
    make = partial(experiment, {"model": {"sizes": [10, 4, 2], "form": form, "activation": "tanh"}})
    made = make()
    _, alone = drawn_by(1, make)
    for which, samples in enumerate(made.data.dataset(made.topology.graph(0))):
        np.testing.assert_array_equal(alone[0][which].x, samples.x.swapaxes(0, 1))
        np.testing.assert_allclose(alone[0][which].y, samples.y.swapaxes(0, 1), rtol=1e-13, atol=1e-14)
    for ranks in (2, 4, 9):
        host, parts = drawn_by(ranks, make)
        assert [len(part[0].x) for part in parts] == np.bincount(host.owner).tolist()
        for which in (0, 1):
            x, y = whole(host, parts, which)
            assert x.tobytes() == alone[0][which].x.tobytes(), ranks
            assert y.tobytes() == alone[0][which].y.tobytes(), ranks
        assert all(rows.x.flags.c_contiguous for pair in parts for rows in pair)


def test_the_teachers_waves() -> None:
    assert wave_for(10**6, 10, 100) == 2
    assert wave_for(10**8, 10, 100) == 1
    assert wave_for(100, 10, 1000) == 1000


def test_a_teams_samples_are_drawn_once_as_long_as_they_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    made, other = experiment({}), experiment({"task": {"noise": 0.3}})
    recipes, draw = list[Recipe](), drawing._draw

    def noted(recipe: Recipe, *others: Any) -> tuple[Rows, Rows]:
        recipes.append(recipe)
        return draw(recipe, *others)

    monkeypatch.setattr(drawing, "_draw", noted)

    def work(team: Team) -> None:
        for each in (made, made, other, other):
            run_job(each.job, team, each.host(1))

    led(work, 1)
    assert [recipe.noise for recipe in recipes] == [0.1, 0.3]


def test_the_ledger_knows_nothing_of_the_teachers_messages() -> None:
    made = experiment({})
    ledger = run(made, 3).outcome.ledger
    schedule, epochs = made.job, made.job.epochs
    assert set(ledger.total) == {"setup", "train", "test"}
    assert ledger.total["setup"].rounds == 1
    assert ledger.total["test"].rounds == epochs * len(schedule.test_schedule.rounds)
    exchanges = 1 + ledger.total["train"].rounds + ledger.total["test"].rounds
    peers = 3 * 2  # each of three ranks has neighbours on the two others
    assert ledger.physical_messages == exchanges * peers
