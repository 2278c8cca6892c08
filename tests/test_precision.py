"""Messages in narrower numbers: the same bits in every packing, the bytes by hand, the oracle's θ, accuracy as of u."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from teams import error, led, run
from test_packing import rank_counts, trace
from test_resume import results, stopped_after

import fdtrain
from fdtrain import cost, driver, reference, states, training
from fdtrain.cli import main
from fdtrain.config import from_mapping
from fdtrain.engine import Engine
from fdtrain.errors import DivergenceError, InputError
from fdtrain.experiment import Experiment, build
from fdtrain.layers.activations import activation
from fdtrain.narrow import Encoder, dtype_of
from fdtrain.oracles import RegressionOracle, rounding_of
from fdtrain.precision import TYPES, Number, Precision
from fdtrain.verify import Comparison, Verifier

NARROW: tuple[Number, ...] = ("float32", "float16", "bfloat16")
MIXED: dict[str, Any] = {"features": "bfloat16", "backward": "float64", "parameters": "float16"}
SCHEMES = [
    ("piggyback_do", "d_sgd", 1, 3), ("piggyback_do", "d_amsgrad", 1, 1), ("piggyback_do", "gradient_tracking", 1, 4),
    ("piggyback", "d_adam", 2, 3), ("per_batch", "d_sgd", 3, 4), ("per_batch", "naive_adam", 2, 3),
    ("per_sample", "naive_sgd", 2, 3),
]  # fmt: skip
HARSH: dict[str, Any] = {
    "loss": 0.05,
    "features": {"loss": 0.1, "delay": {"kind": "geometric", "mean": 0.3}},
    "backward": {"loss": 0.1, "delay": {"kind": "uniform", "high": 1}},
    "parameters": {"loss": 0.2, "delay": {"kind": "uniform", "high": 5}},
}


def everything(number: str) -> dict[str, str]:
    return {"features": number, "backward": number, "parameters": number}


def content(precision: dict[str, Any], **changed: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "seed": 7,
        "topology": {"kind": "barabasi_albert", "nodes": 11, "m": 2},
        "model": {"sizes": [7, 5, 3, 2], "activation": "tanh", "init": {"per_node": True, "low": -1}},
        "task": {"train_samples": 10, "test_samples": 3},
        "training": {"epochs": 2, "batch": 4, "wave": 3},
        "optimizer": {"kind": "d_sgd", "lr": 0.01},
        "precision": precision,
    }
    for section, values in changed.items():
        made[section] = {**made.get(section, {}), **values}
    return made


def experiment(precision: dict[str, Any], **changed: Any) -> Experiment:
    return build(from_mapping(content(precision, **changed)))


def verified(made: Experiment, ranks: int = 1) -> list[Comparison]:
    found: list[Comparison] = led(lambda team: Verifier(made, team).full(3), ranks)
    return found


def scheme_of(scheme: str, kind: str, rounds: int, wave: int) -> dict[str, Any]:
    return {
        "training": {"scheme": scheme, "consensus_rounds": rounds, "wave": wave},
        "optimizer": {"kind": kind},
    }


# The types themselves


def examples() -> np.ndarray:
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], 60_000)
    wide = signs * np.exp2(rng.uniform(-40, 40, 60_000))
    halves = np.concatenate(
        [(2 * np.arange(1, 400) + 1) * 2.0**-k for k in (9, 12, 25, 30)]
    )  # ties, of all types
    near = [
        1 + 2**-8 + 2**-30,
        1 + 2**-8 - 2**-30,
        65519.999,
        65520.0,
        3.4e38,
        3.5e38,
        6e-8,
        2.9e-8,
        2**-25,
        0.0,
    ]
    found: np.ndarray = np.concatenate([wide, halves, -halves, near])
    return found


@pytest.mark.parametrize("number", NARROW)
def test_messages_and_oracle_round_every_number_alike(number: Number) -> None:
    x = examples().reshape(1, -1)
    coded = np.zeros(x.shape, dtype=dtype_of(number))
    with np.errstate(over="ignore"):
        Encoder(number, *x.shape)(x, coded)
    found, wanted = coded.astype(np.float64), reference.nearest(x, number)
    assert np.array_equal(found, wanted)
    assert np.isinf(found).any()
    small = np.isfinite(found) & (np.abs(x) > 1e-4)
    assert np.abs(found / np.where(small, x, 1) - 1)[small].max() <= TYPES[number].roundoff


def test_bfloat16_is_rounded_once() -> None:
    """ml_dtypes goes by float32, where the last bits of this number are lost, and it lies in the middle."""
    x = np.array([[1 + 2**-8 + 2**-30]])
    coded = np.zeros((1, 1), dtype=ml_dtypes.bfloat16)
    Encoder("bfloat16", 1, 1)(x, coded)
    assert coded.astype(float) == 1 + 2**-7
    assert x.astype(ml_dtypes.bfloat16).astype(float) == 1


def test_the_nearest_number_by_hand() -> None:
    x = np.array(
        [1 + 2**-11, 1 + 3 * 2**-11, -(1 + 2**-11 + 2**-40), 65519.0, 65520.0, 2.0**-25, 3 * 2.0**-25]
    )
    wanted = [1, 1 + 2**-9, -(1 + 2**-10), 65504, np.inf, 0, 2.0**-23]
    assert reference.nearest(x, "float16").tolist() == wanted
    with pytest.raises(InputError, match="float8"):
        reference.nearest(x, "float8")


# Packing


@pytest.mark.parametrize("number", [*NARROW, "mixed"])
@pytest.mark.parametrize(("scheme", "kind", "rounds", "wave"), SCHEMES)
def test_same_bits_for_every_number_of_ranks(
    number: str, scheme: str, kind: str, rounds: int, wave: int
) -> None:
    precision = MIXED if number == "mixed" else everything(number)
    changed = scheme_of(scheme, kind, rounds, wave)
    alone = trace(run(experiment(precision, **changed), 1))
    assert alone["theta"] != trace(run(experiment({}, **changed), 1))["theta"]
    for ranks in rank_counts(11):
        assert trace(run(experiment(precision, **changed), ranks)) == alone, f"{ranks} ranks"


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("policy", ["keep_own", "hold", "push_sum"])
def test_same_bits_over_unreliable_channels(policy: str, form: str) -> None:
    channel = {**HARSH, "parameters": {**HARSH["parameters"], "missing": policy}}
    changed = {"channel": channel, "model": {"form": form}}
    alone = trace(run(experiment(everything("float16"), **changed), 1))
    assert trace(run(experiment(everything("float16"), **changed), 3)) == alone
    lossless = {"channel": {"loss": 0.0, "parameters": {"missing": policy}}, "model": {"form": form}}
    plain = trace(run(experiment(everything("float16"), model={"form": form}), 2))
    assert trace(run(experiment(everything("float16"), **lossless), 2))["theta"] == plain["theta"]


def test_float64_everywhere_is_the_run_without_the_section() -> None:
    assert trace(run(experiment(everything("float64")), 3)) == trace(run(experiment({}), 2))


def test_an_update_for_every_sample() -> None:
    changed = {
        "training": {"scheme": "per_sample", "consensus_rounds": 2},
        "optimizer": {"kind": "naive_adam", "updates": "sample"},
    }
    made = experiment(everything("bfloat16"), **changed)
    alone = trace(run(made, 1))
    assert trace(run(experiment(everything("bfloat16"), **changed), 4)) == alone
    assert all(line.passed for line in verified(made))


# What is counted


def test_bytes_by_hand() -> None:
    """One mini-batch of 4 samples in waves of 3 and 1: receiver form, 7-5-3-2, p = 112, in one direction of a link."""
    made = experiment(MIXED, training={"epochs": 1}, task={"train_samples": 4})
    host = run(made, 11)
    ledger, links = host.outcome.ledger, 2 * made.topology.graph(0).num_edges
    p = sum(2 * a * b for a, b in pairwise((7, 5, 3, 2)))
    by_kind = {"features": 4 * (7 + 5 + 3) * 2, "backward": 4 * (5 + 3) * 8, "slice": p * 2}
    for kind, size in by_kind.items():
        assert ledger.fields["train", kind].link_bytes == links * size, kind
    assert ledger.total["train"].link_bytes == links * sum(by_kind.values())
    assert ledger.total["test"].link_bytes == links * 3 * (7 + 5 + 3) * 2
    assert ledger.total["setup"].link_bytes == links * 2 * 8
    total = sum(count.link_bytes for count in ledger.total.values())
    assert ledger.physical_bytes == total  # one node per rank
    schedule = made.job.schedule(4)
    assert schedule.bytes == sum(by_kind.values())
    assert schedule.bytes_of("backward") == by_kind["backward"]
    assert host.outcome.rows[-1].bytes == ledger.total["train"].link_bytes


@pytest.mark.parametrize("precision", [everything("float16"), MIXED])
def test_the_cost_of_every_scheme(precision: dict[str, Any]) -> None:
    base = from_mapping(content(precision, topology={"nodes": 6}))

    def measured(team: Any) -> list[cost.Line]:
        return [cost.measure(base, case, team) for case in cost.cases([2, 3], [4], [1, 3], [1, 2])]

    lines: list[cost.Line] = led(measured, 6)
    assert len(lines) == 32
    for line in lines:
        assert line.agrees
        assert line.on_wire
        shortest, longest = (2, 2) if precision != MIXED else (2, 8)
        assert shortest * line.numbers.formula <= line.bytes.measured <= longest * line.numbers.formula


def test_plan_shows_bytes_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "examples/precision"]) == 0
    shown = capsys.readouterr().out
    # 100 samples of 20 numbers forward and 10 back, 2 bytes each; 220 parameters
    for line in ("features 2,000 4,000", "backward terms 1,000 2,000", "220 440", "mini-batch 3,220 6,440"):
        assert line in " ".join(shown.split())


# Agreement with the oracle, and what is lost


@pytest.mark.parametrize("form", ["receiver", "sender"])
@pytest.mark.parametrize("number", [*NARROW, "mixed"])
@pytest.mark.parametrize(("scheme", "kind", "rounds", "wave"), SCHEMES)
def test_agreement_with_an_oracle_that_rounds_alike(
    number: str, scheme: str, kind: str, rounds: int, wave: int, form: str
) -> None:
    precision = MIXED if number == "mixed" else everything(number)
    made = experiment(precision, model={"form": form}, **scheme_of(scheme, kind, rounds, wave))
    found = verified(made, ranks=2)
    assert all(line.passed for line in found), found
    alike = [line for line in found if "rounded alike" in line.name]
    assert {line.number for line in alike} == {1, 3}
    lost = [line for line in found if "lose" in line.name]
    assert {line.number for line in lost} == {1, 3}
    least = 2.0**-14 if number == "mixed" else TYPES[number].roundoff / 100  # type: ignore[index]
    assert all(line.error > least for line in lost if line.number == 1), lost
    assert {line.number for line in found} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("policies", [("zero", "keep_own"), ("hold", "hold"), ("hold", "push_sum")])
@pytest.mark.parametrize("number", NARROW)
def test_agreement_over_unreliable_channels(number: str, policies: tuple[str, str]) -> None:
    features, parameters = policies
    channel = {
        **HARSH,
        "features": {**HARSH["features"], "missing": features},
        "parameters": {**HARSH["parameters"], "missing": parameters},
    }
    found = verified(experiment(everything(number), channel=channel))
    assert all(line.passed for line in found), found
    assert any("unreliable channels, rounded alike" in line.name for line in found)


def test_verify_sees_messages_that_are_not_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = experiment(everything("float16"))

    def careless(self: Encoder, rows: np.ndarray, out: np.ndarray) -> None:
        out[...] = rows * (1 + 2.0**-11)

    monkeypatch.setattr(Encoder, "__call__", careless)
    failed = [line.number for line in verified(made) if not line.passed]
    assert set(failed) == {1, 3}


def test_accuracy_is_that_of_the_type() -> None:
    """Errors of gradients and of θ grow with u, and are within two powers of ten of it."""
    plain = run(experiment({}), 1).outcome
    for what in ("gradient", "theta"):
        before = 0.0
        for number in NARROW:
            outcome = run(experiment(everything(number)), 1).outcome
            lost, u = error(getattr(outcome, what), getattr(plain, what)), TYPES[number].roundoff
            assert before < lost, (what, number)
            assert u / 100 < lost < 100 * u, (what, number, lost)
            before = lost


@pytest.mark.parametrize("number", NARROW)
@pytest.mark.parametrize(("scheme", "rounds"), [("piggyback_do", 1), ("per_batch", 3)])
def test_mixing_conserves_the_mean(number: str, scheme: str, rounds: int) -> None:
    """Without a gradient, what nodes lose by rounding is not lost to the network; and they still come together."""
    changed = {
        "training": {"scheme": scheme, "consensus_rounds": rounds, "epochs": 20},
        "optimizer": {"lr": 1e-300},
    }
    made = experiment({"parameters": number}, **changed)
    theta = run(made, 2).outcome.theta
    assert np.abs(theta.mean(axis=0) - made.theta.mean(axis=0)).max() < 1e-14
    size = np.abs(made.theta).max()
    assert np.ptp(theta, axis=0).max() < max(20 * TYPES[number].roundoff * size, 1e-3)  # type: ignore[index]
    assert np.ptp(made.theta, axis=0).max() > size


def test_small_steps_are_not_lost() -> None:
    """θ moves by much less than the distance of two bfloat16 per mini-batch, and gets to where float64 gets."""
    changed = {"optimizer": {"lr": 1e-5}, "training": {"epochs": 30}, "model": {"init": {"per_node": False}}}
    start = experiment({}, **changed).theta
    plain = run(experiment({}, **changed), 1).outcome.theta
    found = run(experiment({"parameters": "bfloat16"}, **changed), 1).outcome.theta
    per_step = np.abs(plain - start) / 90
    assert np.median(per_step / np.abs(start)) < TYPES["bfloat16"].roundoff / 10
    moved = np.abs(plain.mean(axis=0) - start.mean(axis=0)).max()
    assert np.abs(found.mean(axis=0) - plain.mean(axis=0)).max() < 0.01 * moved


# Arithmetic in float32

SHORT: dict[str, Any] = {"arithmetic": "float32"}


@pytest.mark.parametrize("messages", [{}, {"features": "float16", "backward": "bfloat16"}])
@pytest.mark.parametrize(("scheme", "kind", "rounds", "wave"), SCHEMES)
def test_short_arithmetic(scheme: str, kind: str, rounds: int, wave: int, messages: dict[str, Any]) -> None:
    """The same bits in every packing, all of float32, and the oracle's results but for some u."""
    changed = scheme_of(scheme, kind, rounds, wave)
    made = experiment({**SHORT, **messages}, **changed)
    alone = trace(run(made, 1))
    for ranks in rank_counts(11):
        assert trace(run(experiment({**SHORT, **messages}, **changed), ranks)) == alone, f"{ranks} ranks"
    theta = np.frombuffer(alone["theta"])
    assert np.array_equal(theta, theta.astype(np.float32))
    found = verified(made, ranks=2)
    assert all(line.passed for line in found), found
    assert all(line.tolerance < 0.05 for line in found if "lose" not in line.name)
    assert all(line.error > 1e-9 for line in found if line.number < 5)
    assert any("float32 arithmetic" in line.name for line in found)


@pytest.mark.parametrize("kind", ["d_sgd", "d_adam", "d_amsgrad", "gradient_tracking", "naive_adam"])
def test_nothing_of_an_engine_is_longer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engines: list[Engine] = []
    make = training.make_engine

    def kept(*arguments: Any) -> Engine:
        engines.append(make(*arguments))
        return engines[-1]

    monkeypatch.setattr(training, "make_engine", kept)
    scheme = "per_batch" if kind == "naive_adam" else "piggyback_do"
    changed = {"optimizer": {"kind": kind, "clip_norm": 0.5}, "training": {"scheme": scheme}}
    run(experiment(SHORT, **changed), 2)
    for engine in engines:
        assert engine.theta.dtype == engine.grad.dtype == np.float32
        state = states.flatten(engine.state, engine.n).rows
        assert state
        assert {rows.dtype for rows in state.values()} == {np.dtype(np.float32)}


def test_bytes_of_short_arithmetic() -> None:
    full, short = (run(experiment(own), 11).outcome.ledger for own in ({}, SHORT))
    for phase in ("train", "test"):
        assert short.total[phase].link_bytes * 2 == full.total[phase].link_bytes
    assert short.total["setup"] == full.total["setup"]  # degrees are float64
    total = sum(count.link_bytes for count in short.total.values())
    assert short.physical_bytes == total


def test_sigmoid_of_large_numbers_in_float32() -> None:
    h = np.array([[-1e4, -100.0, -80.0, 0.0, 80.0, 1e4]], dtype=np.float32)
    y = np.zeros_like(h)
    activation("sigmoid").apply(h, y)
    assert y == pytest.approx(np.array([[0, 0, 0, 0.5, 1, 1]]), abs=1e-30)
    assert h == pytest.approx(np.array([[0, 0, 0, 0.25, 0, 0]]), abs=1e-30)


# The command line, runs that go on, bad input


@pytest.mark.parametrize("precision", [MIXED, SHORT])
@pytest.mark.parametrize("kind", ["d_sgd", "d_adam"])
def test_a_resumed_run_has_the_same_bits(kind: str, precision: dict[str, Any], tmp_path: Path) -> None:
    made = content(
        precision,
        checkpoint={"every": 1, "keep": 100},
        training={"scheme": "per_batch"},
        optimizer={"kind": kind},
    )
    driver.run(from_mapping(made), out=tmp_path / "whole", ranks=2)
    for t, ranks in ((1, 3), (4, 1), (5, 4)):
        run = stopped_after(t, tmp_path / "whole", tmp_path / f"after-{t}")
        driver.resume(run, ranks=ranks)
        assert results(run) == results(tmp_path / "whole"), t


def test_a_run_says_what_is_lost(tmp_path: Path) -> None:
    driver.run(from_mapping(content(everything("bfloat16"))), out=tmp_path / "run")
    lines = json.loads((tmp_path / "run" / "verify.json").read_text(encoding="utf-8"))["comparisons"]
    (lost,) = [line for line in lines if "lose to bfloat16 messages" in line["name"]]
    assert 1e-4 < lost["error"] < 1e-1


def test_tests_are_inferred_with_the_rounding_of_training() -> None:
    """The measure of the test samples, from θ of the end, by the oracle that rounds and the one that does not."""
    made = experiment(everything("bfloat16"))
    outcome = run(made, 3).outcome
    graph = made.topology.graph(0)
    _, test = made.data.dataset(graph)
    exact = made.oracle
    assert isinstance(exact, RegressionOracle)
    rounded = exact.rounded(rounding_of(made.job.precision))
    assert outcome.rows[-1].test == pytest.approx(rounded.measure(graph, test, outcome.theta), rel=1e-12)
    assert outcome.rows[-1].test != pytest.approx(exact.measure(graph, test, outcome.theta), rel=1e-6)


def test_what_overflows_ends_the_run_with_a_remedy() -> None:
    bundle = content({"features": "float16"}, optimizer={"lr": 0.1}, model={"activation": "identity"})
    bundle["model"]["init"] = {"low": 1e3, "high": 2e3}
    with pytest.raises(DivergenceError, match=r"float16 .* 65,504.*bfloat16"):
        fdtrain.run(bundle, verify=False)


@pytest.mark.parametrize(
    ("precision", "changed", "message"),
    [
        ({"features": "float8"}, {}, "precision.features: .* found 'float8'"),
        ({"slices": "float32"}, {}, "precision.slices: unknown key"),
        ({"arithmetic": "float16"}, {}, "precision.arithmetic"),
        ({"arithmetic": "float32", "features": "float64"}, {}, "at most the precision of arithmetic"),
        (SHORT, {"channel": {"loss": 0.1}}, "precision.arithmetic: with a channel it has to be float64"),
        (SHORT, {"optimizer": {"kind": "plugin", "target": "a:B"}}, "precision.arithmetic: an optimizer of your own"),
        ({"features": "float32"}, {"training": {"mode": "centralized"}, "optimizer": {"kind": "sgd"}}, "centralized"),
        (
            {"backward": "float32"},
            {"channel": {"features": {"missing": "drop_edge"}}},
            "precision.backward: channel.features.missing drop_edge",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(precision: dict[str, Any], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as found:
        from_mapping(content(precision, **changed))
    assert "\n" not in str(found.value)


def test_other_tasks_are_refused() -> None:
    with pytest.raises(InputError, match=r"precision: only for task.kind node_regression so far"):
        from_mapping({"task": {"kind": "power_allocation"}, "precision": {"features": "float32"}})


def test_precision_in_words() -> None:
    assert Precision(**MIXED).in_words() == "bfloat16 features, float16 parameters"
    assert Precision(**everything("float16")).in_words() == "float16 messages"  # type: ignore[arg-type]
    assert Precision(**MIXED).roundoff == 2.0**-8
