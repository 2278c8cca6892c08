"""The state of an optimizer, whatever it is made of, as named values: rows of nodes, and scalars that all nodes share.

A state is an array, a scalar, or a named tuple, dataclass, tuple, list or dictionary of states. An array [n, …] has a
row per node; a scalar (a number, text, None, or an array of no dimension) is the same at all nodes, such as a count of
updates.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import InputError

State = TypeVar("State")
Scalar = bool | int | float | str | np.generic | None
_PLAIN = (bool, int, float, str, type(None))


@dataclass
class Values:
    """What a state holds, by the places of it, such as ``state.moments.m``."""

    rows: dict[str, NDArray[Any]] = field(default_factory=dict)  # [n, …]
    scalars: dict[str, Scalar] = field(default_factory=dict)


def flatten(state: Any, nodes: int, name: str = "state") -> Values:
    """The values of `state`, of so many nodes; arrays are copies.

    Raises:
        InputError: it holds something that is neither rows of nodes nor a scalar, named by its place.
    """
    found = Values()

    def note(place: str, value: Any) -> Any:
        if _is_scalar(value):
            found.scalars[place] = cast(
                Scalar, np.array(value)[()] if isinstance(value, np.ndarray) else value
            )
        elif value.shape[0] != nodes:
            raise InputError(
                f"{place} is an array {list(value.shape)} for {nodes} node{'s' * (nodes != 1)}; the first axis of an "
                "array must be that of the nodes"
            )
        else:
            found.rows[place] = value.copy()
        return value

    mapped(note, name, state)
    return found


def restored(like: State, values: Values, name: str = "state") -> State:
    """A state made as `like`, one of the same optimizer at the same nodes, with these values in it; arrays are copies.

    Raises:
        InputError: `like` has other places, or arrays of other shapes or types, than the values.
    """
    left = {*values.rows, *values.scalars}

    def take(place: str, value: Any) -> Any:
        source: Mapping[str, Any] = values.scalars if _is_scalar(value) else values.rows
        if place not in source:
            raise InputError(f"{place} is not among the values of a state")
        left.discard(place)
        new = source[place]
        if source is values.scalars:
            return np.asarray(new) if isinstance(value, np.ndarray) else new
        if new.shape != value.shape or new.dtype != value.dtype:
            raise InputError(
                f"{place} must be {value.dtype} {list(value.shape)}, found {new.dtype} {list(new.shape)}"
            )
        return new.copy()

    made: State = mapped(take, name, like)
    if left:
        raise InputError(f"{min(left)} is no part of the optimizer's state")
    return made


def select(old: State, new: State, down: NDArray[np.bool_]) -> State:
    """The rows of `old` where a node is `down` [n], and those of `new` elsewhere; scalars are those of `new`.

    Raises:
        InputError: the two states do not have the same form.
    """

    def choose(place: str, before: Any, after: Any) -> Any:
        if _is_scalar(after):
            return after
        return np.where(down.reshape(-1, *[1] * (after.ndim - 1)), before, after)

    chosen: State = mapped(choose, "state", old, new)
    return chosen


def apart(state: State) -> State:
    """The state, with a copy where two places hold the same array: one can then be written without the other."""
    seen: list[NDArray[Any]] = []

    def own(_: str, value: Any) -> Any:
        if _is_scalar(value):
            return value
        found = value.copy() if any(np.may_share_memory(value, other) for other in seen) else value
        seen.append(found)
        return found

    made: State = mapped(own, "state", state)
    return made


def rows(state: State, first: int, stop: int) -> State:
    """The state of the nodes `first` … `stop` − 1: views of its arrays."""

    def take(_: str, value: Any) -> Any:
        if _is_scalar(value):
            return value.copy() if isinstance(value, np.ndarray) else value
        return value[first:stop]

    part: State = mapped(take, "state", state)
    return part


def has_rows(state: Any, nodes: int) -> bool:
    """Whether all arrays of `state` have a row for each of so many nodes, which can then be taken in portions."""
    found: list[bool] = []
    try:
        mapped(lambda _, value: found.append(_is_scalar(value) or len(value) == nodes), "state", state)
    except InputError:
        return False
    return all(found)


def put(state: State, part: State, first: int, stop: int) -> State:
    """`state` with the rows of `part` at the nodes `first` … `stop` − 1, in the arrays that it has, and its scalars.

    Raises:
        InputError: the two states do not have the same form.
    """

    scalars: dict[str, Scalar] = {}
    before, held = rows(state, first, stop), list[NDArray[Any]]()
    mapped(lambda _, value: None if _is_scalar(value) else held.append(value), "state", before)

    def own(_: str, new: Any) -> Any:
        """A copy of what would change while another part is written."""
        shares = not _is_scalar(new) and any(np.may_share_memory(new, value) for value in held)
        return new.copy() if shares else new

    def write(where: str, value: Any, new: Any) -> None:
        if _is_scalar(new):
            scalars[where] = new
        elif new.dtype != value.dtype:
            raise InputError(f"{where} is {value.dtype} at first, and {new.dtype} later; keep one type")
        else:
            value[...] = new

    mapped(write, "state", before, mapped(own, "state", part))
    whole: State = mapped(lambda where, value: scalars.get(where, value), "state", state)
    return whole


def check_same(first: Any, second: Any, name: str = "state") -> None:
    """Check that two states have the same form: a checkpoint is read into the form of a new state.

    Raises:
        InputError: naming the place where they differ.
    """

    def compare(place: str, before: Any, after: Any) -> Any:
        if not _is_scalar(before) and before.dtype != after.dtype:
            raise InputError(f"{place} is {before.dtype} at first, and {after.dtype} later; keep one type")
        return None

    mapped(compare, name, first, second)


def alike(one: Scalar, other: Scalar) -> bool:
    """Whether two scalars are the same, also where they are NaN."""
    return type(one) is type(other) and (one == other or (one != one and other != other))


def mapped(function: Callable[..., Any], name: str, *states: Any) -> Any:
    """A state of the same form, with ``function(place, *values)`` at every place.

    Raises:
        InputError: the states differ in their form, or hold something that is no state.
    """
    first = states[0]
    keys = _keys(name, first)
    for other in states[1:]:
        if _form(first, keys) != _form(other, _keys(name, other)):
            raise InputError(
                f"{name} is {_described(first)} at first, and {_described(other)} later; a state keeps its form"
            )
    if keys is None:
        return function(name, *states)
    made = [mapped(function, f"{name}.{key}", *(_part(state, key) for state in states)) for key in keys]
    return _rebuilt(first, keys, made)


def _keys(name: str, value: Any) -> list[Any] | None:
    """What the parts of a state are called; None if it has none.

    Raises:
        InputError: it is something else.
    """
    if _is_scalar(value) or (type(value) is np.ndarray and value.dtype.kind in "biufc"):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        names = [part.name for part in fields(value)]
        hidden = {*getattr(value, "__dict__", {})} - {*names}
        if hidden:
            raise InputError(f"{name}.{min(hidden)} is not a field of {type(value).__name__}; declare it")
        return names
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [*value._fields]
    if type(value) in (tuple, list):
        return [*range(len(value))]
    if type(value) is dict and all(isinstance(key, str) and "." not in key for key in value):
        return [*value]
    raise InputError(
        f"{name} is {_described(value)}; it must be made of arrays with a row per node, numbers, named tuples, "
        "dataclasses, tuples, lists, and dictionaries by names without a dot"
    )


def _is_scalar(value: Any) -> bool:
    return type(value) in _PLAIN or (
        isinstance(value, np.generic | np.ndarray) and value.ndim == 0 and value.dtype.kind in "biufc"
    )


def _form(value: Any, keys: list[Any] | None) -> Any:
    """What has to be alike; whether a scalar is int or float need not be."""
    if keys is None:
        return "scalar" if _is_scalar(value) else value.shape
    return type(value), keys


def _part(state: Any, key: Any) -> Any:
    return state[key] if isinstance(key, int) or isinstance(state, dict) else getattr(state, key)


def _rebuilt(like: Any, keys: list[Any], parts: list[Any]) -> Any:
    if isinstance(like, tuple) and hasattr(like, "_fields"):
        return type(like)._make(parts)  # type: ignore[attr-defined]
    if isinstance(like, tuple | list):
        return type(like)(parts)
    if isinstance(like, dict):
        return dict(zip(keys, parts, strict=True))
    made = copy.copy(like)
    for key, part in zip(keys, parts, strict=True):
        object.__setattr__(made, key, part)  # a frozen one as well
    return made


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {list(value.shape)}"
    return f"a {type(value).__name__}"
