"""A trained model on networks of other sizes: what the messages infer, what is told of it, and what is refused."""

from __future__ import annotations

import csv
import shutil
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fdtrain, needs_mpi, one_line_error
from pictures import png_size

from fdtrain import cli, config, reference, resources
from fdtrain.driver import run
from fdtrain.evaluation import Trained, evaluate, make_experiment, on_nodes, read_run
from fdtrain.reference.uwmmse import rates
from fdtrain.rundir import RunDirectory
from fdtrain.sizes import Size
from fdtrain.tasks.allocations import baselines
from fdtrain.tasks.channel_data import SyntheticChannels
from fdtrain.tasks.power_allocation import PowerAllocation
from fdtrain.team import Team, in_threads
from fdtrain.training import follow

PAIRS, TESTED = 5, 3
SMALL = [
    f"task.pairs={PAIRS}", "task.minibatches=6", f"task.test_minibatches={TESTED}", "task.area=700.0",
    "training.batch=4", "training.wave=2",
]  # fmt: skip
COLUMNS = [
    "n", "area", "minibatches", "samples", "uwmmse", "uwmmse_error", "uwmmse_per_pair", "wmmse_4", "wmmse_100",
    "full_power", "random_power", "ratio_wmmse_4", "ratio_wmmse_100", "rounds", "messages", "bytes",
]  # fmt: skip


def train(path: Path, *overrides: str) -> Path:
    settings = config.load(resources.find_config("paper/power_allocation"), [*SMALL, *overrides])
    run(settings, out=path, verify=False)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose nodes have different parameters."""
    return train(tmp_path_factory.mktemp("evaluate") / "run")


@pytest.fixture(scope="module")
def centralized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluate") / "run"
    return train(path, "training.mode=centralized", "optimizer={kind: adam, lr: 1e-2}")


def infer(model: Trained, pairs: int, ranks: int = 1, minibatches: int = TESTED, **settings: Any) -> Size:
    made = make_experiment(
        model, pairs, minibatches, **({"parameters": "each", "density": "same"} | settings)
    )

    def work(team: Team) -> Size | None:
        if team.rank > 0:
            follow(team)
            return None
        found = evaluate(made, team)
        team.dismiss()
        return found

    found: Size = in_threads(ranks, work)
    return found


def bits(found: Size) -> tuple[Any, ...]:
    return (*(value.tolist() if isinstance(value, np.ndarray) else value for value in astuple(found)),)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status = cli.main(["evaluate", *arguments])
    said = capsys.readouterr()
    assert status == 2, said
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


@pytest.mark.parametrize("pairs", [3, 7])
@pytest.mark.parametrize("parameters", ["mean", "each"])
def test_the_same_bits_for_every_number_of_ranks(trained: Path, pairs: int, parameters: str) -> None:
    model = read_run(trained)
    alone = infer(model, pairs, parameters=parameters)
    for ranks in (2, 3):
        assert bits(infer(model, pairs, ranks, parameters=parameters)) == bits(alone)


def test_at_its_own_size_it_is_the_run(trained: Path, centralized: Path) -> None:
    for path in (trained, centralized):
        found = infer(read_run(path), PAIRS)
        assert found.rate == pytest.approx(RunDirectory(path).read_metrics()[-1].test, rel=1e-12)
        assert found.area == 700


@pytest.mark.parametrize("parameters", ["mean", "each"])
@pytest.mark.parametrize("density", ["same", "fixed"])
@pytest.mark.parametrize("reach", [138.86, 110.0])
def test_on_another_size_it_is_the_oracle(trained: Path, parameters: str, density: str, reach: float) -> None:
    """Also where links are few, and others in every mini-batch."""
    model, pairs = read_run(trained, ["task.carrier=2.4", f"task.max_path_loss={reach}"]), 7
    found = infer(model, pairs, parameters=parameters, density=density)
    area = 700 * (np.sqrt(7 / 5) if density == "same" else 1)
    task = PowerAllocation(pairs=pairs, area=area, carrier=2.4, max_path_loss=reach)
    channels = SyntheticChannels(task, 4, model.recipe.seed)
    V = len(model.theta)
    assert np.ptp(model.theta, axis=0).max() > 1e-3
    mean = np.tile(model.theta.mean(axis=0), (pairs, 1))
    theta = mean if parameters == "mean" else np.stack([model.theta[i % V] for i in range(pairs)])
    oracle = reference.Uwmmse(task.noise_power, task.max_power)
    draws = [channels.test_channels(k) for k in range(TESTED)]
    if reach == 110:
        assert len({(H != 0).any(axis=0).tobytes() for H in draws}) == TESTED
        assert all((H == 0).all(axis=0).any() for H in draws)
    wanted = [rates(H, oracle.allocate(H, theta), task.noise_power).sum(axis=1).mean() for H in draws]
    assert found.area == pytest.approx(area, rel=1e-15)
    np.testing.assert_allclose(found.rates, wanted, rtol=1e-12)
    assert found.error == pytest.approx(np.std(wanted, ddof=1) / np.sqrt(TESTED), rel=1e-9)
    others = [baselines(H, task.noise_power, task.max_power, np.random.default_rng(0)) for H in draws]
    for name in ("wmmse_4", "wmmse_100", "full_power"):
        assert found.baselines[name] == pytest.approx(np.mean([other[name] for other in others]), rel=1e-12)
    top = np.mean([other["wmmse_100"] for other in others])
    assert found.relative_to("wmmse_100") == pytest.approx(found.rate / top, rel=1e-12)


def test_counts_are_those_of_the_links(trained: Path) -> None:
    """All 7 pairs hear each other: 10 rounds of every wave on 42 links."""
    model = read_run(trained, ["task.max_path_loss=.inf"])
    found = infer(model, 7)
    waves = 2
    assert found.rounds == TESTED * 10 * waves
    assert found.messages == found.rounds * 42
    assert found.bytes == 8 * 42 * TESTED * 4 * infer_width(model)


def infer_width(model: Trained) -> int:
    """Numbers that a node sends of one sample."""
    job = make_experiment(model, 7, 1, parameters="mean", density="same").job
    return sum(hop.forward for hop in job.model.outline.hops)


def test_parameters_on_other_nodes() -> None:
    theta = np.array([[1.0, 2.0], [3.0, 5.0], [0.1, 0.2]])
    np.testing.assert_allclose(on_nodes(theta, 4, "mean"), np.tile(theta.mean(axis=0), (4, 1)))
    assert on_nodes(theta, 5, "each").tolist() == theta[[0, 1, 2, 0, 1]].tolist()
    assert on_nodes(theta, 2, "each").tolist() == theta[:2].tolist()
    equal = np.tile([0.1, 0.3, 0.7], (7, 1))
    assert on_nodes(equal, 7, "mean").tolist() == equal.tolist()


def test_a_centralized_model_is_the_same_either_way(centralized: Path) -> None:
    model = read_run(centralized)
    assert bits(infer(model, 8, parameters="mean")) == bits(infer(model, 8, parameters="each"))


def test_seeds_and_overrides_change_the_channels(trained: Path) -> None:
    first = infer(read_run(trained), 4).rate
    assert infer(read_run(trained, seed=99), 4).rate != first
    assert infer(read_run(trained, ["task.fading=none"]), 4).rate != first
    assert infer(read_run(trained, ["training.wave=4"]), 4).rate == pytest.approx(first, rel=1e-12)


def test_one_pair_alone_has_nobody_to_hear(trained: Path) -> None:
    found = infer(read_run(trained), 1, minibatches=1)
    assert found.messages == 0
    assert np.isnan(found.error)


def test_the_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, figure = tmp_path / "sizes.csv", tmp_path / "sizes.png"
    options = ["--minibatches", "2", "--ranks", "1", "--out", str(table), "--figure", str(figure)]
    assert cli.main(["evaluate", str(trained), "task.fading=none", "--pairs", "8,3, 5,3", *options]) == 0
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) <= 80
    assert "trained on 5 pairs; parameters: mean; density: same" in said
    assert "note:" not in said
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == COLUMNS
    assert [row["n"] for row in rows] == ["8", "3", "5"]
    found = infer(read_run(trained, ["task.fading=none"]), 8, minibatches=2, parameters="mean")
    assert float(rows[0]["uwmmse"]) == found.rate
    assert float(rows[0]["uwmmse_error"]) == found.error
    assert float(rows[0]["rounds"]) == 20
    assert rows[0]["samples"] == "8"
    assert png_size(figure)[0] > 800


def test_a_single_minibatch_has_no_error(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, figure = tmp_path / "sizes.csv", tmp_path / "sizes.png"
    options = ["--minibatches", "1", "--ranks", "1", "--out", str(table), "--figure", str(figure)]
    assert cli.main(["evaluate", str(trained), "--pairs", "3", *options]) == 0
    assert "1 mini-batch of 4 samples" in capsys.readouterr().out
    assert table.read_text(encoding="utf-8").splitlines()[1].split(",")[5] == ""
    assert png_size(figure)[0] > 800


@needs_mpi
def test_under_mpi_the_files_are_the_same(trained: Path, tmp_path: Path) -> None:
    for ranks in ("1", "2"):
        options = ["--pairs", "4,7", "--minibatches", "2", "--ranks", ranks, "--out", f"{ranks}.csv"]
        done = fdtrain("evaluate", str(trained), *options, "--figure", f"{ranks}.png", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"on {ranks} rank" in done.stdout
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()
    assert png_size(tmp_path / "2.png") == png_size(tmp_path / "1.png")
    error = one_line_error(fdtrain("evaluate", str(trained), "--pairs", "9,4", "--ranks", "5", cwd=tmp_path))
    assert "only 4 nodes" in error


def test_channels_of_a_bundle_are_drawn_by_the_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    H = 1e-5 * rng.random((3, 4, PAIRS, PAIRS)) + 1e-6
    np.savez(tmp_path / "channels.npz", H_train=H[:2], H_test=H[2:])
    own = (
        f"{{kind: power_allocation, bundle: {tmp_path / 'channels.npz'}, noise_power: 1e-13, max_power: 2.0}}"
    )
    settings = config.load(
        resources.find_config("paper/power_allocation"),
        [f"task={own}", "training.batch=4", "training.wave=4"],
    )
    path = tmp_path / "run"
    run(settings, out=path, verify=False)
    (tmp_path / "channels.npz").unlink()
    model = read_run(path)
    task = model.recipe.task
    assert isinstance(task, PowerAllocation)
    assert (task.noise_power, task.max_power, task.bundle) == (1e-13, 2.0, None)
    assert len(model.theta) == PAIRS
    assert infer(model, 25).area == 1000
    assert cli.main(["evaluate", str(path), "--pairs", "3", "--minibatches", "1", "--ranks", "1"]) == 0
    assert "note: the run's channels came from a bundle" in capsys.readouterr().out


def test_an_unfinished_run_is_told(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "environment.json").write_text('{"outcome": "interrupted"}', encoding="utf-8")
    options = ["--pairs", "3", "--minibatches", "1", "--ranks", "1"]
    assert cli.main(["evaluate", str(tmp_path / "run"), *options]) == 0
    assert "did not reach its end" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "0"], "--pairs: must be numbers from 1 to 10000 with commas between them"),
        (["--pairs", "ten"], "found 'ten'"),
        (["--pairs", "5,"], "found '5,'"),
        (["--pairs", "10001"], "found '10001'"),
        ([], "--pairs"),
        (["--pairs", "3", "--colour", "red"], "No such option: --colour"),
        (["--pairs", "3", "--minibatches", "0"], "--minibatches"),
        (["--pairs", "3", "--density", "half"], "--density"),
        (["--pairs", "3", "--parameters", "best"], "--parameters"),
        (["--pairs", "3", "--ranks", "4"], "only 3 nodes"),
        (["--pairs", "3", "--out", "sizes.txt"], "must end in .csv"),
        (["--pairs", "3", "--figure", "nowhere/sizes.png"], "there is no directory nowhere"),
        (["task.pairs=4", "--pairs", "3"], "of a trained run only the channels change: task.area"),
        (["model.hidden=4", "--pairs", "3"], "of a trained run only the channels change"),
        (["task.carrier=high", "--pairs", "3"], "task.carrier: input should be a valid number"),
        (["carrier", "--pairs", "3"], "must look like section.key=value"),
        (["training.batch=1", "training.wave=2", "--pairs", "3"], "wave: must be at most batch = 1"),
    ],
)
def test_bad_input_is_one_line(
    trained: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refused(capsys, str(trained), *arguments)


def test_what_is_no_such_run_is_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(path: Path) -> str:
        return refused(capsys, str(path), "--pairs", "3", "--ranks", "1")

    assert "holds no config.yaml" in said(tmp_path / "nowhere")
    assert "holds no config.yaml" in said(Path("x" * 300))
    path = tmp_path / "run"
    shutil.copytree(trained, path)
    file = path / "theta.npz"
    file.unlink()
    assert "holds no theta.npz: the run was ended before" in said(path)
    file.write_bytes(b"nothing")
    assert "theta.npz: is damaged or no .npz file" in said(path)
    np.savez(file, other=np.zeros(3))
    assert "has no array 'theta'" in said(path)
    np.savez(file, theta=np.zeros(3))
    assert "must be float64 [V, p], found float64 [3]" in said(path)
    np.savez(file, theta=np.full((5, 256), np.nan))
    assert "the run diverged" in said(path)
    np.savez(file, theta=np.zeros((5, 7)))
    assert "has 7 parameters per node, the model of config.yaml 256" in said(path)
    shutil.copy(resources.find_config("ci/smoke"), path / "config.yaml")
    assert "is a run of node_regression, which has no other sizes; known: power_allocation" in said(path)
