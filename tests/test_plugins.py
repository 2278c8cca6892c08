"""Optimizers of the user's own: how they run, and what is said of those that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fdtrain, one_line_error
from teams import content, error, experiment, refused, run, verified

from fdtrain import driver, reference
from fdtrain.config import from_mapping
from fdtrain.errors import InputError
from fdtrain.optim import dsgd

PLUGIN = "fdtrain.optim.dsgd:DSGD"
SHIFT = "normalized_laplacian"
Array = np.ndarray

MOMENTUM = """
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class State(NamedTuple):
    theta: np.ndarray
    velocity: np.ndarray
    t: int


@dataclass(frozen=True)
class Momentum:
    lr: object
    beta: float = 0.9
    travels = ("θ",)
    mixes_gradient = False

    def init(self, theta):
        return State(theta.copy(), np.zeros_like(theta), 0)

    def outgoing(self, state, grad):
        return state.theta

    def step(self, grad, mixed, state):
        velocity = self.beta * state.velocity + grad
        return State(mixed - self.lr(state.t) * velocity, velocity, state.t + 1)

    def theta(self, state):
        return state.theta


class NoOutgoing:
    travels, mixes_gradient = ("θ",), False
    def __init__(self, lr): ...
    def init(self, theta): return theta
    def step(self, grad, mixed, state): return mixed
    def theta(self, state): return state


class Narrow(Momentum):
    def outgoing(self, state, grad): return state.theta[:, 1:]


class Whole(Momentum):
    def theta(self, state): return state.theta[0]


class Integers(Momentum):
    def outgoing(self, state, grad): return state.theta.astype(int)


class Raises(Momentum):
    def step(self, grad, mixed, state): raise ValueError("two\\nlines")


class InPlace(Momentum):
    def step(self, grad, mixed, state):
        grad *= self.lr(state.t)
        mixed -= grad
        return State(mixed, grad, state.t + 1)


class MixesRows(Momentum):
    def step(self, grad, mixed, state):
        after = super().step(grad, mixed, state)
        return State(mixed[0] - self.lr(state.t) * grad, *after[1:])


class MeanOverNodes(Momentum):
    def step(self, grad, mixed, state):
        return super().step(grad - grad.mean(axis=0), mixed, state)


class ShrinksLater(Momentum):
    def outgoing(self, state, grad):
        return state.theta if state.t < 3 else state.theta[:1, :1]


class Number(Momentum):
    travels = 5


class Property(Momentum):
    @property
    def travels(self): raise RuntimeError("no travels today")


class MixesGradient(Momentum):
    mixes_gradient = True
    def outgoing(self, state, grad): return grad
    def step(self, grad, mixed, state):
        return State(state.theta - self.lr(state.t) * mixed, mixed.copy(), state.t + 1)
"""


def plugged(target: str, **change: Any) -> dict[str, Any]:
    section = {"kind": "plugin", "target": target, "lr": 0.01} | change.pop("optimizer", {})
    return {"optimizer": section, "training": {"epochs": 2}} | change


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Holds my_optimizer.py and copy_of_dsgd.py; is not the working directory."""
    place = tmp_path / "my configs"
    place.mkdir()
    (place / "my_optimizer.py").write_text(MOMENTUM, encoding="utf-8")
    (place / "copy_of_dsgd.py").write_text(Path(dsgd.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    (place / "broken.py").write_text("def f(:\n", encoding="utf-8")
    (place / "raising.py").write_text("1 / 0\n", encoding="utf-8")
    (place / "exiting.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return place


@pytest.mark.parametrize("wave", [1, 4])
def test_a_plugin_follows_its_own_recursion(folder: Path, wave: int) -> None:
    """Momentum SGD from a file beside the configuration, with a parameter, against matrices; on 1, 2 and V ranks."""
    section = {"parameters": {"beta": 0.5}, "lr_schedule": {"kind": "step", "every": 1, "factor": 0.25}}
    change = plugged("my_optimizer.py:Momentum", optimizer=section, model={"init": {"per_node": True}})
    change["training"] |= {"wave": wave}
    found = {r: run(experiment(change, folder, allow_plugins=True), r).outcome.theta for r in (1, 2, 9)}
    assert found[1].tobytes() == found[2].tobytes() == found[9].tobytes()

    made = experiment(change, folder, allow_plugins=True)
    A = made.topology.graph(0).adjacency()
    S, W = reference.shift_matrix(A, SHIFT), reference.mixing_matrix(A, "metropolis", 0.0)
    oracle = reference.Model((5, 4, 1), ("sigmoid", "sigmoid"), "receiver")
    train, theta, velocity = made.data.dataset(made.topology.graph(0))[0], made.theta, 0.0
    for epoch in (0, 1):
        order = made.data.order(epoch)
        for chosen in (order[:4], order[4:8], order[8:]):
            gradient = oracle.local_gradients(S, train.x[chosen], train.y[chosen], theta)
            velocity = 0.5 * velocity + gradient
            theta = W @ theta - 0.01 * 0.25**epoch * velocity
    assert error(found[1], theta) <= 1e-11
    assert "by your optimizer's own step" in verified(made, 2)[2].name
    assert all(comparison.passed for comparison in verified(made, 2))


@pytest.mark.parametrize("target", ["copy_of_dsgd.py:DSGD", "copy_of_dsgd:DSGD", PLUGIN])
@pytest.mark.parametrize("scheme", ["piggyback_do", "piggyback"])
def test_a_copy_of_d_sgd_has_its_bits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, scheme: str
) -> None:
    monkeypatch.syspath_prepend(folder)
    training = {"scheme": scheme, "consensus_rounds": 1 + (scheme == "piggyback")}
    section = {"lr": 0.01, "clip_norm": 0.1, "lr_schedule": {"kind": "cosine"}}
    own = experiment({"optimizer": section | {"kind": "d_sgd"}, "training": training})
    wanted = run(own, 1).outcome
    change = {"optimizer": section | {"kind": "plugin", "target": target}, "training": training}
    for ranks in (1, 2, 9):
        found = run(experiment(change, folder, allow_plugins=True), ranks).outcome
        assert found.theta.tobytes() == wanted.theta.tobytes()
        assert found.rows == wanted.rows
        assert found.ledger.total == wanted.ledger.total


@pytest.mark.parametrize("scheme", ["piggyback_do", "piggyback", "per_batch"])
def test_a_plugin_may_keep_and_change_what_it_is_given(folder: Path, scheme: str) -> None:
    """Else its θ is the array that the engine empties before the next mini-batch, and the run is silently wrong."""
    training, lr = {"scheme": scheme}, {"lr": 0.01}
    wanted = run(experiment({"optimizer": {"kind": "d_sgd"} | lr, "training": training}), 1).outcome
    section = {"kind": "plugin", "target": "my_optimizer.py:InPlace"} | lr
    found = run(
        experiment({"optimizer": section, "training": training}, folder, allow_plugins=True), 2
    ).outcome
    assert found.theta.tobytes() == wanted.theta.tobytes()
    assert found.gradient.tobytes() == wanted.gradient.tobytes()


@pytest.mark.parametrize(("scheme", "K"), [("per_sample", 2), ("per_batch", 1), ("piggyback", 2)])
def test_a_plugin_that_mixes_the_gradient(folder: Path, scheme: str, K: int) -> None:
    """The same as naive SGD; the verifier follows its messages wave by wave."""
    training = {"scheme": scheme, "consensus_rounds": K}
    section = {"lr": 0.01, "clip_norm": 0.05}
    made = experiment(
        {"optimizer": section | {"kind": "plugin", "target": "my_optimizer.py:MixesGradient"}, "training": training},
        folder, allow_plugins=True,
    )  # fmt: skip
    naive = experiment({"optimizer": section | {"kind": "naive_sgd"}, "training": training})
    assert run(made, 3).outcome.theta.tobytes() == run(naive, 1).outcome.theta.tobytes()
    assert all(comparison.passed for comparison in verified(made, 2))


@pytest.mark.parametrize("name", ["MixesRows", "MeanOverNodes"])
def test_a_node_that_looks_at_others_on_its_rank_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Else one rank would hide it: verification and training use the same step there."""
    said = refused(capsys, folder, plugged(f"my_optimizer.py:{name}"), "--allow-plugins")
    assert "of a node depends on which other nodes it is computed with" in said


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_shape_that_goes_wrong_later_ends_the_run(folder: Path, ranks: int) -> None:
    made = experiment(plugged("my_optimizer.py:ShrinksLater"), folder, allow_plugins=True)
    with pytest.raises(InputError, match=r"'outgoing' gives float64 \[1, 1\] for \d nodes"):
        run(made, ranks)


def test_an_edited_file_is_another_optimizer_and_nothing_is_left_beside_it(folder: Path) -> None:
    change, file = plugged("my_optimizer.py:Momentum"), folder / "my_optimizer.py"
    first = run(experiment(change, folder, allow_plugins=True), 1).outcome.theta
    file.write_text(
        file.read_text(encoding="utf-8").replace("return State(mixed -", "return State(mixed + 0 *")
    )
    assert not np.array_equal(run(experiment(change, folder, allow_plugins=True), 1).outcome.theta, first)
    assert not (folder / "__pycache__").exists()


def test_a_plugin_is_not_executed_unless_allowed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "marks.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'executed')!r}).touch()\nclass C: ...\n"
    )
    message = refused(capsys, folder, plugged("marks.py:C"))
    assert message.startswith("optimizer.target: ")
    assert "marks.py:C is code that this run would execute" in message
    assert message.endswith("if you trust it, allow it with --allow-plugins")
    with pytest.raises(InputError, match="allow it with --allow-plugins"):
        driver.run(from_mapping(content(plugged("marks.py:C")), base=folder))
    assert not (tmp_path / "executed").exists()
    refused(capsys, folder, plugged("marks.py:C"), "--allow-plugins")
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (plugged("nowhere.py:C"), "nowhere.py cannot be imported: FileNotFoundError: "),
        (
            plugged("no_such_module:C"),
            "no_such_module cannot be imported: ModuleNotFoundError: No module named",
        ),
        (plugged("my_optimizer.py:Nesterov"), "my_optimizer.py has no 'Nesterov'"),
        (plugged("json:Nesterov"), "json has no 'Nesterov'"),
        (
            plugged("broken.py:C"),
            "broken.py cannot be imported: SyntaxError: invalid syntax (broken.py, line 1)",
        ),
        (plugged("raising.py:C"), "raising.py cannot be imported: ZeroDivisionError: division by zero"),
        (plugged("my_optimizer.py"), "must look like module:Class or file.py:Class"),
        (plugged("my_optimizer.py:"), "must look like module:Class or file.py:Class"),
        (plugged(":Momentum"), "':Momentum' must look like module:Class or file.py:Class"),
        (plugged("a.py:b c"), "must look like module:Class or file.py:Class"),
        (plugged("x"), "optimizer.target: string should have at least 3 characters"),
        (
            plugged("my_optimizer.py:Momentum", optimizer={"parameters": {"gamma": 1}}),
            "my_optimizer.py:Momentum: cannot be made: TypeError: ",
        ),
        (
            plugged("my_optimizer.py:Momentum", optimizer={"parameters": {"lr": 1}}),
            "my_optimizer.py:Momentum: cannot be made: TypeError: ",
        ),
        (
            plugged("my_optimizer.py:Momentum", optimizer={"beta": 1}),
            "optimizer.beta: unknown key of plugin; known: ",
        ),
        (plugged("my_optimizer.py:State"), "my_optimizer.py:State: cannot be made: TypeError: "),
        (
            plugged("my_optimizer.py:np"),
            "my_optimizer.py:np: cannot be made: TypeError: 'module' object is not callable",
        ),
        (
            plugged("my_optimizer.py:NoOutgoing"),
            "has no 'outgoing'; an optimizer has travels, mixes_gradient, init, outgoing, step, theta",
        ),
        (
            plugged("my_optimizer.py:Narrow"),
            "'outgoing' gives float64 [2, 47] for 2 nodes, must be float64 [2, 48]",
        ),
        (
            plugged("my_optimizer.py:Whole"),
            "'theta' gives float64 [48] for 2 nodes, must be",
        ),
        (plugged("my_optimizer.py:Integers"), "'outgoing' gives int64 [2, 48] for 2 nodes"),
        (plugged("my_optimizer.py:Raises"), "step: ValueError: two lines"),
        (
            plugged("my_optimizer.py:MixesGradient"),
            "my_optimizer.py:MixesGradient mixes the gradient; use per_sample, per_batch or piggyback",
        ),
        (
            plugged("my_optimizer.py:Momentum", training={"scheme": "per_sample"}),
            "my_optimizer.py:Momentum does not mix the gradient; use per_batch, piggyback or piggyback_do",
        ),
        (
            plugged("my_optimizer.py:Momentum", training={"mode": "centralized"}),
            "training.mode centralized needs sgd or adam, found plugin",
        ),
    ],
)
def test_bad_plugins(
    folder: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    assert message in refused(capsys, folder, change, "--allow-plugins")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("my_optimizer.py:Number", "my_optimizer.py:Number: "),
        ("my_optimizer.py:Property", "no travels today"),
        ("exiting.py:C", "exiting.py cannot be imported: SystemExit: 0"),
    ],
)
def test_worse_plugins(folder: Path, capsys: pytest.CaptureFixture[str], target: str, message: str) -> None:
    assert message in refused(capsys, folder, plugged(target), "--allow-plugins")


def test_in_a_process_of_its_own(folder: Path) -> None:
    """Once for all of the above: nothing but the line, and the status, comes out of the process."""
    (folder / "config.yaml").write_text(
        json.dumps(content(plugged("my_optimizer.py:Narrow"))), encoding="utf-8"
    )
    result = fdtrain("run", "config.yaml", "--ranks", "2", "--out", "run", "--allow-plugins", cwd=folder)
    assert "'outgoing' gives float64 [2, 47]" in one_line_error(result)
    assert not (folder / "run").exists()
