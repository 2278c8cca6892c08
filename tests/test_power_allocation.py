"""Power allocation from end to end: a bundle of channels, a configuration, a run's directory, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fdtrain as command
from commands import needs_mpi
from commands import theta as stored_theta
from numpy.typing import NDArray
from teams import error, refused

import fdtrain
from fdtrain import cli, reference
from fdtrain.tasks.allocations import BASELINES
from fdtrain.tasks.channel_data import ChannelData, SyntheticChannels
from fdtrain.tasks.power_allocation import PowerAllocation

Array = NDArray[np.float64]
M, B, N, EPOCHS, K, F, RATE = 40, 8, 6, 5, 2, 5, 1e-2
NOISE, PMAX = 10**-13.687, 5.0
MODEL = reference.Uwmmse(NOISE, PMAX, K, F)


def draw(count: int, seed: int) -> Array:
    """Pairs close enough to disturb each other; some links are missing in some samples, each way for itself."""
    rng = np.random.default_rng(seed)
    sender = rng.uniform(0, 400, (count, 1, N, 2))
    receiver = sender + rng.uniform(-100, 100, sender.shape)
    distance = np.maximum(np.linalg.norm(sender[:, :, :, None] - receiver[:, :, None], axis=4), 1.0)
    H = 10 ** (-(31.5 + 30 * np.log10(distance)) / 20) * rng.rayleigh(np.sqrt(0.5), (count, B, N, N))
    H *= rng.random(H.shape) < 0.8
    own = np.arange(N)
    H[..., own, own] = np.maximum(H[..., own, own], 1e-6)
    return H


@pytest.fixture(scope="module")
def arrays() -> dict[str, Array]:
    rng = np.random.default_rng(1)
    start = np.empty(MODEL.num_parameters)
    for name, part in MODEL.split(start).items():
        part[...] = rng.uniform(-1, 1, part.shape) if "_w" in name else 0.1
    return {
        "H_train": draw(M, 2),
        "H_test": draw(4, 3),
        "order": np.stack([rng.permutation(M) for _ in range(EPOCHS)]),
        **MODEL.split(start),
    }


def theta_of(arrays: dict[str, Array]) -> Array:
    return np.concatenate([arrays[name].ravel() for name, _ in MODEL.names()])


@pytest.fixture(scope="module")
def bundle(arrays: dict[str, Array], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "channels.npz"
    np.savez(path, **arrays)
    return path


NAIVE = {"kind": "naive_adam", "lr": RATE, "epsilon_form": "inside"}
CENTRALIZED = {"kind": "adam", "lr": RATE, "epsilon_form": "inside"}


def config(bundle: Path, optimizer: dict[str, Any], **training: Any) -> dict[str, Any]:
    return {
        "seed": 4,
        "task": {"kind": "power_allocation", "bundle": str(bundle), "baselines_every": 6},
        "model": {"kind": "uwmmse", "unfolded": K, "hidden": F},
        "training": {"epochs": EPOCHS, "batch": B, "wave": B, "scheme": "per_sample", **training},
        "optimizer": optimizer,
    }


def table(file: Path) -> list[dict[str, str]]:
    with file.open() as stream:
        return list(csv.DictReader(stream))


def rates(run: Path) -> list[tuple[str, str]]:
    """The rate columns of ``metrics.csv``, as they are written."""
    return [(row["rate_train"], row["rate_test"]) for row in table(run / "metrics.csv")]


TRAININGS: dict[
    str, tuple[dict[str, Any], dict[str, Any], bool]
] = {  # optimizer, training, whether ranks are tried
    "naive Adam": (NAIVE, {}, True),
    "naive Adam, one after another": (NAIVE, {"wave": 1, "consensus_rounds": 2}, False),
    "centralized Adam": (CENTRALIZED, {"mode": "centralized"}, False),
    "D-Adam": ({"kind": "d_adam", "lr": RATE}, {"scheme": "piggyback_do", "wave": 4}, True),
    "D-AMSGrad": (
        {"kind": "d_amsgrad", "lr": RATE},
        {"scheme": "piggyback_do", "wave": 5, "slices": "even"},
        True,
    ),
}


@pytest.mark.parametrize("case", TRAININGS)
def test_a_run_follows_the_matrix_recursion(
    case: str, arrays: dict[str, Array], bundle: Path, tmp_path: Path
) -> None:
    """200 mini-batches; and the same bytes on 1, 2 and 3 ranks."""
    optimizer, training, packed = TRAININGS[case]
    start, centralized = theta_of(arrays), training.get("mode") == "centralized"
    recursion = reference.Recursion(
        optimizer["kind"],
        epsilon_form=optimizer.get("epsilon_form", "outside"),
        consensus_rounds=training.get("consensus_rounds", 1),
    )
    wanted, epochs = reference.train_uwmmse(
        MODEL, recursion, RATE, arrays["H_train"], arrays["H_test"],
        start if centralized else np.tile(start, (N, 1)), arrays["order"], centralized=centralized,
        consensus=training.get("scheme", "per_sample") if "naive" in optimizer["kind"] else "per_batch",
    )  # fmt: skip
    for ranks in (1, 2, 3) if packed else (1,):
        fdtrain.run(
            config(bundle, optimizer, **training), ranks=ranks, out=tmp_path / str(ranks), verify=ranks == 1
        )
    alone = tmp_path / "1"
    found = np.array(rates(alone), dtype=float)
    assert found.shape == (EPOCHS, 2)
    assert np.abs(found / np.array(epochs) - 1).max() <= 1e-8
    assert error(stored_theta(alone), np.broadcast_to(wanted, (N, len(start)))) <= 1e-7
    assert found[-1, 0] > 1.003 * found[0, 0], "nothing was learned"
    for ranks in ("2", "3") if packed else ():
        assert rates(tmp_path / ranks) == rates(alone)
        assert (tmp_path / ranks / "metrics.csv").read_bytes() == (alone / "metrics.csv").read_bytes()
        assert stored_theta(tmp_path / ranks).tobytes() == stored_theta(alone).tobytes()


@needs_mpi
def test_mpi_gives_the_bytes_of_one_process(bundle: Path, tmp_path: Path) -> None:
    """Two ranks, and one for every pair; one epoch in which links come and go with every mini-batch."""
    content = config(bundle, NAIVE, epochs=1, log_every=9)
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    fdtrain.run(content, out=tmp_path / "alone")
    for ranks in ("2", "pure"):
        out = tmp_path / ranks
        arguments = [str(tmp_path / "config.yaml"), "--ranks", ranks, "--out", str(out)]
        result = command("run", *arguments, "--no-figures", "--no-verify")
        assert result.returncode == 0, result.stderr
        for name in ("metrics.csv", "minibatches.csv"):
            assert (out / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), (ranks, name)
        assert stored_theta(out).tobytes() == stored_theta(tmp_path / "alone").tobytes(), ranks
    lines = {(line["phase"], line["field"]): line for line in table(tmp_path / "pure" / "ledger.csv")}
    for column in ("link_messages", "link_bytes"):
        logical = sum(int(lines[phase, "all"][column]) for phase in ("setup", "train", "test"))
        assert int(lines["physical", "mpi"][column]) == logical > 0


def test_parameters_and_order_of_the_bundle_are_used(
    arrays: dict[str, Array], bundle: Path, tmp_path: Path
) -> None:
    """Without them the same channels give another start, equal at all nodes, and another order."""
    np.savez(tmp_path / "bare.npz", H_train=arrays["H_train"], H_test=arrays["H_test"])
    bare = fdtrain.run(config(tmp_path / "bare.npz", NAIVE, epochs=1))
    assert bare.rows[0].train != fdtrain.run(config(bundle, NAIVE, epochs=1)).rows[0].train
    still = {"kind": "d_sgd", "lr": 1e-300}
    found = fdtrain.run(config(bundle, still, epochs=1, scheme="piggyback_do")).theta
    np.testing.assert_allclose(found, np.tile(theta_of(arrays), (N, 1)), rtol=1e-12)


@pytest.mark.parametrize("mode", ["distributed", "centralized"])
def test_minibatches_are_told(mode: str, arrays: dict[str, Array], bundle: Path, tmp_path: Path) -> None:
    """7 at a time, of which 40 are no multiple: every mini-batch has its line all the same."""
    optimizer = NAIVE if mode == "distributed" else CENTRALIZED
    fdtrain.run(config(bundle, optimizer, epochs=2, mode=mode, log_every=7), out=tmp_path / "run")
    lines, epochs = table(tmp_path / "run" / "minibatches.csv"), table(tmp_path / "run" / "metrics.csv")
    names = ["wmmse_4", "wmmse_100", "full_power", "random_power"]
    assert list(lines[0]) == ["minibatch", "rate_train", *names]
    assert [int(line["minibatch"]) for line in lines] == list(range(1, 2 * M + 1))
    rate = np.array([float(line["rate_train"]) for line in lines])
    for epoch, row in enumerate(epochs):
        assert rate[epoch * M : (epoch + 1) * M].mean() == pytest.approx(float(row["rate_train"]), rel=1e-14)
    H, start = arrays["H_train"][arrays["order"][0, 0]], theta_of(arrays)
    before = reference.rates(H, MODEL.allocate(H, start), NOISE).sum(axis=1).mean()
    assert rate[0] == pytest.approx(before, rel=1e-12)
    order = arrays["order"][:2].ravel()
    for t, line in enumerate(lines):
        if t % 6:
            assert not any(line[name] for name in names), t
            continue
        H = arrays["H_train"][order[t]]
        for iterations in (4, 100):
            wmmse = reference.rates(H, reference.wmmse(H, NOISE, PMAX, iterations), NOISE).sum(axis=1).mean()
            assert float(line[f"wmmse_{iterations}"]) == pytest.approx(wmmse, rel=1e-9), t
        full = reference.rates(H, np.full((B, N), np.sqrt(PMAX)), NOISE).sum(axis=1).mean()
        assert float(line["full_power"]) == pytest.approx(full, rel=1e-12)
        assert 0 < float(line["random_power"]) != full


@pytest.mark.parametrize("mode", ["distributed", "centralized"])
def test_other_methods_are_tested_too(
    mode: str, arrays: dict[str, Array], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in a run, on the samples of the test; nothing of it changes the run."""
    asked: list[int] = []
    tested = ChannelData.test_baselines

    def test_baselines(self: ChannelData, k: int) -> Mapping[str, float]:
        asked.append(k)
        return tested(self, k)

    monkeypatch.setattr(ChannelData, "test_baselines", test_baselines)
    optimizer = NAIVE if mode == "distributed" else CENTRALIZED
    content = config(bundle, optimizer, epochs=2, mode=mode, log_every=7)
    fdtrain.run(content, out=tmp_path / "1", verify=False)
    tests = arrays["H_test"]
    assert asked == list(range(len(tests)))
    lines = table(tmp_path / "1" / "baselines.csv")
    assert [line["method"] for line in lines] == ["uwmmse", *BASELINES]
    epochs, told = table(tmp_path / "1" / "metrics.csv"), table(tmp_path / "1" / "minibatches.csv")
    assert lines[0]["test"] == epochs[-1]["rate_test"]
    own = np.mean([float(line["rate_train"]) for line in told])
    assert float(lines[0]["train"]) == float(lines[0]["train_of_run"]) == pytest.approx(own, rel=1e-14)
    for line in lines[1:]:
        some = [row for row in told if row[line["method"]]]
        assert len(some) == -(-len(told) // 6)
        train = np.mean([float(row[line["method"]]) for row in some])
        own = np.mean([float(row["rate_train"]) for row in some])
        assert [float(line["train"]), float(line["train_of_run"])] == pytest.approx([train, own], rel=1e-14)
    reached = {line["method"]: float(line["test"]) for line in lines}
    for iterations in (4, 100):
        rates_ = [reference.rates(H, reference.wmmse(H, NOISE, PMAX, iterations), NOISE) for H in tests]
        wanted = np.mean([found.sum(axis=1).mean() for found in rates_])
        assert reached[f"wmmse_{iterations}"] == pytest.approx(wanted, rel=1e-9)
    assert 0 < reached["random_power"] != reached["full_power"]
    if mode == "distributed":
        fdtrain.run(content, ranks=2, out=tmp_path / "2")
        name = "baselines.csv"
        assert (tmp_path / "2" / name).read_bytes() == (tmp_path / "1" / name).read_bytes()
    content["task"]["baselines_every"] = 0
    fdtrain.run(content, out=tmp_path / "none")
    assert not (tmp_path / "none" / "baselines.csv").exists()
    assert (tmp_path / "none" / "metrics.csv").read_bytes() == (tmp_path / "1" / "metrics.csv").read_bytes()


def test_log_every_changes_nothing_but_the_log(bundle: Path, tmp_path: Path) -> None:
    for log_every in (0, 1, 7, 40, 1000):
        out = tmp_path / str(log_every)
        fdtrain.run(config(bundle, NAIVE, epochs=2, log_every=log_every), ranks=2, out=out, verify=False)
        assert (out / "minibatches.csv").exists() == (log_every > 0)
        for name in ("metrics.csv", "minibatches.csv") if log_every not in (0, 1) else ("metrics.csv",):
            wanted = tmp_path / ("0" if name == "metrics.csv" else "1") / name
            assert (out / name).read_bytes() == wanted.read_bytes(), log_every
        assert stored_theta(out).tobytes() == stored_theta(tmp_path / "0").tobytes()


def test_no_baselines(bundle: Path, tmp_path: Path) -> None:
    content = config(bundle, NAIVE, epochs=1, log_every=10)
    content["task"]["baselines_every"] = 0
    fdtrain.run(content, out=tmp_path / "run")
    assert (tmp_path / "run" / "minibatches.csv").read_text().startswith("minibatch,rate_train\n1,")


# --- what is refused ---


def poked(place: tuple[int, ...], value: float) -> Any:
    def change(arrays: dict[str, Array]) -> None:
        arrays["H_train"] = arrays["H_train"].copy()
        arrays["H_train"][place] = value

    return change


def cut(arrays: dict[str, Array]) -> None:
    arrays["H_train"] = arrays["H_train"][..., : N - 1]


def other_shape(arrays: dict[str, Array]) -> None:
    arrays["k1_b_2_b0"] = np.zeros(2)


def incomplete(arrays: dict[str, Array]) -> None:
    del arrays["k2_a_1_w0"]


BUNDLES: dict[str, tuple[Any, str]] = {
    "not square": (cut, "'H_train' must have the shape [M, B, n, n], found [40, 8, 6, 5]"),
    "nan": (poked((3, 2, 1, 0), np.nan), "'H_train' must be finite, found nan at [3, 2, 1, 0]"),
    "inf": (poked((0, 0, 5, 5), np.inf), "'H_train' must be finite, found inf at [0, 0, 5, 5]"),
    "negative": (poked((0, 7, 2, 5), -1.0), "'H_train' must be ≥ 0, found -1.0 at [0, 7, 2, 5]"),
    "outage": (poked((39, 7, 4, 4), 0.0), "H_ii = 0 in sample [39, 7] for i = 4"),
    "shape of a parameter": (other_shape, "'k1_b_2_b0' must have the shape [1], found [2]"),
    "a parameter is missing": (incomplete, "'k2_a_1_w0' is missing"),
}


def told(capsys: Any, folder: Path, content: dict[str, Any], *changes: str) -> str:
    del content["seed"]
    return refused(capsys, folder, {"topology": {"kind": "channels"}} | content, *changes)


@pytest.mark.parametrize("case", BUNDLES)
def test_bundles_that_are_refused(case: str, arrays: dict[str, Array], tmp_path: Path, capsys: Any) -> None:
    change, wanted = BUNDLES[case]
    given = dict(arrays)
    change(given)
    np.savez(tmp_path / "bad.npz", **given)
    message = told(capsys, tmp_path, config(tmp_path / "bad.npz", NAIVE))
    assert message.startswith(f"bundle {tmp_path / 'bad.npz'}: ")
    assert wanted in message


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "noise 0": ({"task": {"noise_power": 0}}, "task.noise_power: input should be greater than 0, found 0"),
    "power 0": ({"task": {"max_power": 0}}, "task.max_power: input should be greater than 0, found 0"),
    "power < 0": ({"task": {"max_power": -5.0}}, "task.max_power: input should be greater than 0, found -5"),
    "another batch": ({"training": {"batch": 9}}, "training.batch: 9, but 'H_train' of the bundle"),
    "other pairs": ({"task": {"pairs": 7}}, "task.pairs: 7, but 'H_train' of the bundle"),
    "more unfolded layers": ({"model": {"unfolded": 3}}, "'k3_a_1_w1' is missing"),
    "fewer unfolded layers": ({"model": {"unfolded": 1}}, "'k2_a_1_b0' is not an array of this model"),
    "epochs": ({"training": {"epochs": 6}}, "'order'"),
    "gcnn": (
        {"model": {"kind": "gcnn", "sizes": [1, 1]}},
        "model.kind: the task power_allocation needs uwmmse, found gcnn",
    ),
    "topology": (
        {"topology": {"kind": "complete", "nodes": N}},
        "topology.kind: the network of power_allocation is that of its channels, found complete; remove topology",
    ),
    "other task": (
        {"task": {"kind": "node_regression"}, "topology": {"kind": "complete", "nodes": N}},
        "model.kind: the task node_regression needs gcnn, found uwmmse",
    ),
    "channels": (
        {"task": {"kind": "node_regression"}, "model": {"kind": "gcnn", "sizes": [1, 1]}},
        "topology.kind: channels are those of task.kind power_allocation",
    ),
    "task's key": (
        {"task": {"maxpower": 1}}, "task.maxpower: unknown key of power_allocation; did you mean 'max_power'?",
    ),
    "model's key": ({"model": {"hiden": 1}}, "model.hiden: unknown key of uwmmse; did you mean 'hidden'?"),
    "init's key": ({"model": {"init": {"biass": 1}}}, "model.init.biass: unknown key; did you mean 'bias'?"),
    "mobility's key": ({"task": {"mobility": {"sped": 1}}}, "task.mobility.sped: unknown key; did you mean 'speed'?"),
    "topology's key": ({"topology": {"kind": "channels", "sead": 1}}, "topology.sead: unknown key of channels"),
    "metric": (
        {"training": {"early_stop": {"patience": 1, "metric": "mse_train"}}},
        "training.early_stop.metric: the task power_allocation is measured by its sum rate, found 'mse_train'",
    ),
    "scheme": ({"training": {"scheme": "piggyback_do"}}, "training.scheme: piggyback_do sends what is mixed before"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_configurations_that_are_refused(case: str, bundle: Path, tmp_path: Path, capsys: Any) -> None:
    change, wanted = REFUSED[case]
    content = config(bundle, NAIVE)
    for section, values in change.items():
        content[section] = values if "kind" in values else content[section] | values
    message = told(capsys, tmp_path, content)
    assert wanted in message
    assert "tagged" not in message
    assert "uwmmse." not in message
    assert "power_allocation." not in message


def test_a_model_without_a_kind_is_the_tasks(bundle: Path, tmp_path: Path, capsys: Any) -> None:
    """With power_allocation there is only one that fits."""
    content = config(bundle, NAIVE, epochs=1)
    del content["model"]["kind"]
    assert len(fdtrain.run(content).rows) == 1
    content["model"]["hiden"] = 3
    (tmp_path / "config.yaml").write_text(json.dumps(content))
    assert cli.main(["run", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert "model.hiden: unknown key of uwmmse; did you mean 'hidden'?" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["distributed", "centralized"])
@pytest.mark.parametrize("log_every", [0, 3])
def test_divergence_ends_the_run(mode: str, log_every: int, tmp_path: Path, capsys: Any) -> None:
    """θ is not finite from the second mini-batch of 40 on; with log_every nobody waits for the epoch's end."""
    drawn = SyntheticChannels(PowerAllocation(pairs=N, max_path_loss=np.inf), B, 1)
    H = np.stack([drawn.channels(t) for t in range(M)])
    bundle = tmp_path / "channels.npz"
    np.savez(bundle, H_train=H, H_test=H[:1])
    optimizer = (NAIVE if mode == "distributed" else CENTRALIZED) | {"lr": 1e300}
    more = {"log_every": log_every}
    (tmp_path / "config.yaml").write_text(json.dumps(config(bundle, optimizer, mode=mode, **more)))
    out = tmp_path / "run"
    arguments = ["--ranks", "1", "--out", str(out), "--no-verify", "--no-figures"]
    assert cli.main(["run", str(tmp_path / "config.yaml"), *arguments]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: training diverged: epoch 1")
    assert " of unfolded layer 1 " in last
    assert "not finite; lower optimizer.lr" in last
    if mode == "distributed":
        assert "mini-batch 1: node 0" in last
    assert json.loads((out / "environment.json").read_text())["outcome"] == last.removeprefix("error: ")
    if log_every:
        assert len(table(out / "minibatches.csv")) == log_every
