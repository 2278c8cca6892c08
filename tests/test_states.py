"""The state of an optimizer as named values, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from fdtrain import states
from fdtrain.errors import InputError
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

LR = Constant(0.01)
OPTIMIZERS: list[Optimizer[Any]] = [
    DSGD(LR), DAdam(LR), DAMSGrad(LR), GradientTracking(LR), Clipped(DAdam(LR), 1.0), Naive(SGD(LR)), Naive(Adam(LR)),
]  # fmt: skip


class Pair(NamedTuple):
    rows: Any
    count: Any


@dataclass(frozen=True)
class Frozen:
    rows: Any
    parts: Any = ()


@dataclass
class Loose:
    rows: Any


def walked(optimizer: Optimizer[Any], state: Any, seed: int, steps: int) -> Any:
    draws = np.random.default_rng(seed)
    n, p = optimizer.theta(state).shape
    for _ in range(steps):
        grad, mixed = draws.normal(size=(n, p)), np.abs(draws.normal(size=(n, p * len(optimizer.travels))))
        state = optimizer.step(grad, mixed, state)
    return state


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_a_restored_state_goes_on_with_the_same_bits(optimizer: Optimizer[Any]) -> None:
    theta = np.random.default_rng(0).normal(size=(5, 3))
    state = walked(optimizer, optimizer.init(theta), 1, 4)
    again = states.restored(optimizer.init(theta), states.flatten(state, 5))
    assert type(again) is type(state)
    np.testing.assert_array_equal(
        optimizer.theta(walked(optimizer, again, 2, 3)), optimizer.theta(walked(optimizer, state, 2, 3))
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: type(optimizer).__name__)
def test_select_takes_rows_of_nodes_that_are_down_from_the_old_state(optimizer: Optimizer[Any]) -> None:
    theta = np.random.default_rng(0).normal(size=(5, 3))
    old = walked(optimizer, optimizer.init(theta), 1, 2)
    new = walked(optimizer, old, 2, 1)
    down = np.array([False, True, False, False, True])
    chosen = states.flatten(states.select(old, new, down), 5)
    before, after = states.flatten(old, 5), states.flatten(new, 5)
    assert chosen.scalars == after.scalars
    assert chosen.scalars != before.scalars
    for place, rows in chosen.rows.items():
        np.testing.assert_array_equal(rows[down], before.rows[place][down])
        np.testing.assert_array_equal(rows[~down], after.rows[place][~down])


def test_any_nesting_keeps_types_and_values() -> None:
    rows = np.arange(6.0).reshape(3, 2)
    state: dict[str, Any] = {
        "pair": Pair(rows, np.int64(3)),
        "frozen": Frozen(rows > 2, (1, [2.5, None, True, "on"])),
        "loose": Loose(rows.astype(np.float32)[:, None]),
        "zero": np.array(2.0),
        "nan": float("nan"),
    }
    values = states.flatten(state, 3)
    again = states.restored(state, values)
    assert set(values.rows) == {"state.pair.rows", "state.frozen.rows", "state.loose.rows"}
    assert type(again["pair"].count) is np.int64
    assert again["frozen"].parts == (1, [2.5, None, True, "on"])
    assert isinstance(again["zero"], np.ndarray)
    assert np.isnan(again["nan"])
    assert again["loose"].rows.dtype == np.float32
    again["pair"].rows[0, 0] = 7.0
    assert rows[0, 0] == values.rows["state.pair.rows"][0, 0] == 0.0


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"draws": np.random.default_rng(0)}, "state.draws"),
        ({"m": np.zeros((2, 3))}, "state.m"),
        ({"m": np.zeros(3, dtype=object)}, "state.m"),
        ({1: np.zeros(3)}, "state"),
        ({"a.b": np.zeros(3)}, "state"),
        ([np.zeros(3), {1, 2}], "state.1"),
        (Loose(lambda: 0), "state.rows"),
        (Loose, "state"),
    ],
)
def test_what_is_no_state_is_refused_by_its_place(state: Any, place: str) -> None:
    with pytest.raises(InputError, match=f"^{place} is ") as refused:
        states.flatten(state, 3)
    assert "\n" not in str(refused.value)


def test_an_attribute_beside_the_fields_is_refused() -> None:
    state = Loose(np.zeros(3))
    state.cache = 1  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"^state.cache is not a field of Loose"):
        states.flatten(state, 3)


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        ({"m": None}, {"m": np.zeros(3)}, "state.m"),
        ([], [1], "state"),
        ({"m": np.zeros((3, 2))}, {"m": np.zeros((3, 4))}, "state.m"),
        ({"m": np.zeros(3)}, {"m": np.zeros(3, dtype=np.float32)}, "state.m"),
        (Pair(1, 2), (1, 2), "state"),
    ],
    ids=str,
)
def test_a_state_that_changes_its_form_is_noticed(first: Any, second: Any, place: str) -> None:
    with pytest.raises(InputError, match=f"^{place} is .* at first, and "):
        states.check_same(first, second)
    states.check_same(first, first)
    with pytest.raises(InputError, match=f"^{place}"):
        states.restored(first, states.flatten(second, 3))


def test_values_that_are_left_over_are_refused() -> None:
    with pytest.raises(InputError, match=r"^state.b is no part"):
        states.restored({"a": 1}, states.Values({}, {"state.a": 1, "state.b": 2}))


def test_rows_are_put_back_where_they_were() -> None:
    state = Pair(np.arange(12.0).reshape(6, 2), [np.zeros(6), 3])
    part = states.rows(state, 2, 5)
    assert np.shares_memory(part.rows, state.rows)
    whole = states.put(state, Pair(part.rows + 100, [np.ones(3), 4]), 2, 5)
    assert whole.rows is state.rows
    assert whole.rows.tolist() == [[0, 1], [2, 3], [104, 105], [106, 107], [108, 109], [10, 11]]
    assert whole.count[0].tolist() == [0, 0, 1, 1, 1, 0]
    assert (whole.count[1], state.count[1]) == (4, 3)  # the state of before keeps its scalars


def test_what_was_before_is_not_lost_while_rows_are_put_back() -> None:
    """A state may have the rows of the one before at another place."""
    state = Pair(np.zeros((4, 1)), [np.ones((4, 1))])
    part = states.rows(state, 0, 4)
    states.put(state, Pair(part.rows + 5, [part.rows]), 0, 4)
    assert state.rows.tolist() == [[5]] * 4
    assert state.count[0].tolist() == [[0]] * 4


def test_what_is_at_two_places_becomes_two() -> None:
    both = np.zeros(3)
    made = states.apart(Pair(both, [both, 1]))
    made.count[0][0] = 7
    assert made.rows.tolist() == [0, 0, 0]
    assert made.count[1] == 1


def test_who_can_be_taken_in_portions() -> None:
    assert states.has_rows(Pair(np.zeros((3, 2)), [np.zeros(3), 1]), 3)
    assert not states.has_rows(Pair(np.zeros((3, 2)), np.zeros(2)), 3)
    assert not states.has_rows(Pair(np.zeros((3, 2)), object()), 3)


def test_a_portion_keeps_its_types_and_its_scalars() -> None:
    state = Pair(np.zeros(4), np.array(1))
    part = states.rows(state, 0, 2)
    part.count[...] = 2
    assert state.count == 1
    with pytest.raises(InputError, match="float64 at first, and float32 later"):
        states.put(state, Pair(np.zeros(2, np.float32), np.array(2)), 0, 2)
