"""Optimizers from a user's own file: they are imported, and so executed, where a run allows it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import states
from fdtrain.errors import InputError
from fdtrain.optim.base import Optimizer
from fdtrain.optim.rates import Rate

Array = NDArray[np.float64]

_PARTS = ("travels", "mixes_gradient", "init", "outgoing", "step", "theta")


class Plugin:
    """The optimizer ``Class(lr=rate, **parameters)`` of `target`, ``module:Class`` or ``/path/of/file.py:Class``.

    Every rank imports it by itself: what is sent to them is where it is found, not code. Whatever it raises, or gives
    that has another shape than it should, is an :class:`InputError` that names the line.
    """

    def __init__(self, target: str, rate: Rate, parameters: Mapping[str, Any]) -> None:
        self.target, self._rate, self._parameters = target, rate, dict(parameters)
        self._trial = ""  # what an error has to say about a trial

    def __reduce__(self) -> Any:
        return Plugin, (self.target, self._rate, self._parameters)

    @cached_property
    def inner(self) -> Optimizer[Any]:
        """The user's object.

        Raises:
            InputError: it cannot be found or imported, is not called like this, or is no optimizer.
        """
        make = _find(self.target)
        try:
            made: Optimizer[Any] = make(lr=self._rate, **self._parameters)
            missing = [part for part in _PARTS if not hasattr(made, part)]
        except (Exception, SystemExit) as error:
            raise self._error(f"cannot be made: {_told(error)}") from error
        if missing:
            raise self._error(f"has no '{missing[0]}'; an optimizer has {', '.join(_PARTS)}")
        if not isinstance(made.travels, (tuple, list)) or not all(isinstance(n, str) for n in made.travels):
            raise self._error(
                f"'travels' must be a tuple of names, such as (\"θ\",), found {made.travels!r:.60}"
            )
        if not isinstance(made.mixes_gradient, bool):
            raise self._error(f"'mixes_gradient' must be True or False, found {made.mixes_gradient!r:.60}")
        return made

    def check(self, num_parameters: int) -> None:
        """Try it on two nodes with p parameters.

        Raises:
            InputError: it raises an error, gives something of another shape than it has to, or looks at other rows.
        """
        width = len(self.travels) * num_parameters
        self._trial = (
            f" (tried on 2 nodes with p = {num_parameters}; lr is a function, α of mini-batch t is lr(t))"
        )
        theta = np.linspace(-1.0, 1.0, 2 * num_parameters).reshape(2, num_parameters)
        grad, mixed = np.cos(theta), np.sin(np.arange(2.0 * width)).reshape(2, width)

        def walk(rows: slice) -> tuple[Array, Array]:
            state = self.init(theta[rows].copy())
            for _ in range(2):
                self.outgoing(state, grad[rows].copy())
                state = self.step(grad[rows], mixed[rows], state)
            return self.outgoing(state, grad[rows].copy()), self.theta(state)

        with np.errstate(all="ignore"):
            together, first, second = walk(slice(0, 2)), walk(slice(0, 1)), walk(slice(1, 2))
        for what, both, *alone in zip(("outgoing", "theta"), together, first, second, strict=True):
            if not np.array_equal(both, np.concatenate(alone), equal_nan=True):
                raise self._error(
                    f"'{what}' of a node depends on which other nodes it is computed with; rows are nodes, compute "
                    "each row by itself (axis=1 instead of axis=0 or a whole array)"
                )
        self._trial = ""

    def check_state(self, num_parameters: int) -> None:
        """Try whether its state can be written to a checkpoint, and read again, on any number of ranks.

        Raises:
            InputError: naming the part of the state that cannot.
        """
        scalars = []
        for nodes in (2, 3):
            theta = np.linspace(-1.0, 1.0, nodes * num_parameters).reshape(nodes, num_parameters)
            mixed = np.sin(np.arange(1.0 * nodes * len(self.travels) * num_parameters)).reshape(nodes, -1)
            try:
                with np.errstate(all="ignore"):
                    first = state = self.init(theta.copy())
                    form = states.restored(first, states.flatten(first, nodes))
                    for _ in range(2):
                        state = self.step(np.cos(theta), mixed, state)
                states.check_same(form, state)
                scalars.append(states.flatten(state, nodes).scalars)
            except InputError as error:
                raise self._unsaved(str(error)) from None
        for place, value in scalars[0].items():
            if not states.alike(value, scalars[1][place]):
                raise self._unsaved(f"{place} is a number that depends on the nodes; keep one per node, [n]")

    def _unsaved(self, problem: str) -> InputError:
        if problem.startswith("optimizer.target"):  # it fails in other ways
            return InputError(problem)
        return self._error(f"checkpoint.every needs a state that can be saved: {problem}")

    @property
    def travels(self) -> tuple[str, ...]:
        return tuple(self.inner.travels)

    @property
    def mixes_gradient(self) -> bool:
        return self.inner.mixes_gradient

    @property
    def by_sample(self) -> bool:
        return False

    def init(self, theta: Array) -> Any:
        return self._call("init", theta)

    def outgoing(self, state: Any, grad: Array) -> Array:
        n, p = grad.shape
        return self._checked("outgoing", self._call("outgoing", state, grad), n, len(self.travels) * p)

    def step(self, grad: Array, mixed: Array, state: Any) -> Any:
        after = self._call(
            "step", grad.copy(), mixed.copy(), state
        )  # whatever is kept of them, or done to them
        self._checked("theta", self._call("theta", after), *grad.shape)
        return after

    def theta(self, state: Any) -> Array:
        found: Array = self._call("theta", state)
        return found

    def _call(self, part: str, *arguments: Any) -> Any:
        try:
            return getattr(self.inner, part)(*arguments)
        except (Exception, SystemExit) as error:
            raise self._error(f"'{part}' fails{_place(error)}: {_told(error)}{self._trial}") from error

    def _checked(self, what: str, found: Any, n: int, width: int) -> Array:
        array = np.asarray(found)
        if array.shape != (n, width) or array.dtype != np.float64:
            raise self._error(
                f"'{what}' gives {array.dtype} {list(array.shape)} for {n} nodes, "
                f"must be float64 {[n, width]}{self._trial}"
            )
        return array

    def _error(self, problem: str) -> InputError:
        return InputError(f"optimizer.target: {self.target}: {problem}")


def _find(target: str) -> Any:
    place, _, name = target.rpartition(":")
    if not place or not name.isidentifier():
        raise InputError(f"optimizer.target: '{target}' must look like module:Class or file.py:Class")
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise InputError(f"optimizer.target: {place} cannot be imported: {_told(error)}") from error
    if not hasattr(module, name):
        raise InputError(f"optimizer.target: {place} has no '{name}'")
    return getattr(module, name)


def _import_file(file: Path) -> Any:
    name = f"fdtrain_plugin_{file.stem}_{sha256(file.read_bytes()).hexdigest()}"  # an edited file is another module
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise ImportError("is not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where dataclasses look for it
        before, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # it is the user's folder
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            sys.dont_write_bytecode = before
    return sys.modules[name]


def _place(error: BaseException) -> str:
    """Where in the user's own code."""
    here, frames = Path(__file__), traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename) != here]
    return f" in line {own[0].lineno}, {own[0].name}" if own else ""


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
