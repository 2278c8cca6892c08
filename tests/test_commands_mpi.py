"""Commands on several MPI ranks: the same bits in every packing, agreement over long runs, jobs that die."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest
from commands import environment, fdtrain, mpirun, needs_mpi, one_line_error, theta

from fdtrain import reference

pytestmark = needs_mpi

BASE = """
name: packing
seed: 7
topology: {kind: barabasi_albert, nodes: 12, m: 2%s}
model: {sizes: [10, 10, 1]}
task: {train_samples: 30, test_samples: 5}
training: {epochs: 2, batch: 12, wave: %d}
optimizer: {kind: d_sgd, lr: 1e-3, mixing: {kind: laplacian, beta: 1e-3}}
"""
MOVING = """{kind: random_direction, nodes: 12, area: 100, speed: 5, travel: [5, 20],
  radio: {kind: log_distance, shadowing: 4, sensitivity: -80}}"""


def write_config(folder: Path, *, redrawn: bool = False, wave: int = 1) -> Path:
    path = folder / "config.yaml"
    path.write_text(BASE % (", redraw: {every: 1}" if redrawn else "", wave))
    return path


def test_same_bits_on_a_network_that_moves(tmp_path: Path) -> None:
    """Most nodes are alone, and everybody is at some time."""
    config, found = tmp_path / "config.yaml", {}
    config.write_text((BASE % ("", 4)).replace("{kind: barabasi_albert, nodes: 12, m: 2}", MOVING))
    for ranks in ("1", "2", "3"):
        out = tmp_path / ranks
        result = fdtrain("run", str(config), "--ranks", ranks, "--out", str(out), "--no-figures")
        assert result.returncode == 0, result.stderr
        files = [(out / name).read_text() for name in ("metrics.csv", "connectivity.csv")]
        found[ranks] = theta(out).tobytes(), files
    assert found["1"] == found["2"] == found["3"]
    assert " nodes alone on average" in result.stdout


@pytest.mark.parametrize("redrawn", [False, True], ids=["static", "redrawn"])
@pytest.mark.parametrize("wave", [1, 5])
def test_same_bits_for_1_2_4_and_pure_ranks(tmp_path: Path, redrawn: bool, wave: int) -> None:
    config = write_config(tmp_path, redrawn=redrawn, wave=wave)
    found = {}
    for ranks in ("1", "2", "4", "pure"):
        out = tmp_path / ranks
        result = fdtrain("run", str(config), "--ranks", ranks, "--out", str(out), "--no-figures")
        assert result.returncode == 0, result.stderr
        found[ranks] = theta(out), (out / "metrics.csv").read_text()
    for ranks in ("2", "4", "pure"):
        assert found[ranks][0].tobytes() == found["1"][0].tobytes(), ranks
        assert found[ranks][1] == found["1"][1], ranks
    environment_file = json.loads((tmp_path / "pure" / "environment.json").read_text())
    assert environment_file["ranks"] == 12
    assert environment_file["mpi_library"]
    assert environment_file["outcome"] == "complete"


def test_pure_run_sends_every_link_message_and_byte_for_itself(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = fdtrain(
        "run", str(write_config(tmp_path, redrawn=True)), "--ranks", "pure", "--out", str(out), "--no-figures"
    )
    assert result.returncode == 0, result.stderr
    with (out / "ledger.csv").open() as stream:
        lines = {(line["phase"], line["field"]): line for line in csv.DictReader(stream)}
    for column in ("link_messages", "link_bytes"):
        logical = sum(int(lines[phase, "all"][column]) for phase in ("setup", "train", "test"))
        assert int(lines["physical", "mpi"][column]) == logical > 0


def test_started_by_mpirun_from_outside(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    assert fdtrain("run", str(config), "--ranks", "1", "--out", str(inside), "--no-figures").returncode == 0
    result = mpirun(4, ["-m", "fdtrain", "run", str(config), "--out", str(outside)])
    assert result.returncode == 0, result.stderr
    assert "Result" in result.stdout
    assert theta(outside).tobytes() == theta(inside).tobytes()
    assert (outside / "figures" / "loss_rounds.png").is_file()


def make_bundle(path: Path, *, nodes: int, samples: int, epochs: int) -> dict[str, np.ndarray]:
    """A bundle with edges, initial parameters and order."""
    rng = np.random.default_rng(5)
    ring = [(i, (i + 1) % nodes) for i in range(nodes)]
    chords = [(0, nodes // 2), (1, nodes // 3 + 2)]
    arrays = {
        "x_train": rng.random((samples, nodes, 10)),
        "y_train": rng.random((samples, nodes, 1)),
        "x_test": rng.random((7, nodes, 10)),
        "y_test": rng.random((7, nodes, 1)),
        "edges": np.array(ring + chords),
        "order": np.stack([rng.permutation(samples) for _ in range(epochs)]),
        "theta0_1": rng.random((10, 10)),
        "theta1_1": rng.random((10, 10)),
        "theta0_2": rng.random((10, 1)),
        "theta1_2": rng.random((10, 1)),
    }
    np.savez(path, **arrays)
    return arrays


@pytest.mark.parametrize("wave", [1, 100])
def test_a_bundle_follows_the_matrix_recursion_over_1000_epochs(tmp_path: Path, wave: int) -> None:
    epochs, nodes = 1000, 8
    arrays = make_bundle(tmp_path / "data.npz", nodes=nodes, samples=100, epochs=epochs)
    (tmp_path / "config.yaml").write_text(
        f"""
topology: {{kind: bundle}}
model: {{sizes: [10, 10, 1]}}
task: {{bundle: data.npz}}
training: {{epochs: {epochs}, batch: 100, wave: {wave}}}
optimizer: {{kind: d_sgd, lr: 1e-3, mixing: {{kind: laplacian, beta: 1e-3}}}}
"""
    )
    out = tmp_path / "run"
    result = fdtrain("run", str(tmp_path / "config.yaml"), "--ranks", "2", "--out", str(out), "--no-figures")
    assert result.returncode == 0, result.stderr
    A = np.zeros((nodes, nodes))
    A[tuple(arrays["edges"].T)] = 1
    model = reference.Model((10, 10, 1), ("sigmoid", "sigmoid"), "receiver")
    start = np.concatenate([arrays[f"theta{k}_{layer}"].ravel() for layer in (1, 2) for k in (0, 1)])
    final, results = reference.train_distributed(
        model, "normalized_laplacian", "laplacian", 1e-3, reference.Recursion("d_sgd"), 1e-3, A + A.T,
        arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"],
        np.tile(start, (nodes, 1)), arrays["order"], 100,
    )  # fmt: skip
    with (out / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["epoch", "mse_train", "mse_test", "disagreement", "rounds", "messages", "bytes"]
    assert [int(row["epoch"]) for row in rows] == list(range(1, epochs + 1))
    for name in ("mse_train", "mse_test", "disagreement"):
        found = np.array([float(row[name]) for row in rows])
        wanted = np.array([getattr(line, name) for line in results])
        assert np.abs(found / wanted - 1).max() <= 1e-12, name
    assert np.abs(theta(out) - final).max() <= 1e-12
    assert results[-1].mse_train < 0.8 * results[0].mse_train  # something was learned


PLUGIN = """
class Momentum:
    travels, mixes_gradient = ("θ",), False

    def __init__(self, lr, beta):
        self.lr, self.beta = lr, beta

    def init(self, theta):
        return theta, 0 * theta, 0

    def outgoing(self, state, grad):
        return state[0]

    def step(self, grad, mixed, state):
        velocity = self.beta * state[1] + grad
        return mixed - self.lr(state[2]) * velocity, velocity, state[2] + 1

    def theta(self, state):
        return state[0]
"""


def test_a_plugin_runs_on_ranks(tmp_path: Path) -> None:
    """Every rank imports the file beside the configuration by itself; it is allowed on the command line."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "my_optimizer.py").write_text(PLUGIN, encoding="utf-8")
    config, section = (
        write_config(folder),
        "{kind: plugin, target: 'my_optimizer.py:Momentum', parameters: {beta: 0.5}}",
    )
    text = config.read_text()
    config.write_text(text[: text.index("optimizer:")] + f"optimizer: {section}\n", encoding="utf-8")
    found = {}
    for ranks in ("1", "2"):
        out = tmp_path / ranks
        arguments = [str(config), "--ranks", ranks, "--out", str(out), "--no-figures"]
        result = fdtrain("run", *arguments, "--allow-plugins", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        found[ranks] = theta(out).tobytes(), (out / "metrics.csv").read_text()
    assert found["1"] == found["2"]
    refused = fdtrain("run", str(config), "--ranks", "2", "--out", str(tmp_path / "refused"), cwd=tmp_path)
    assert "allow it with --allow-plugins" in one_line_error(refused)
    verified = fdtrain("verify", str(config), "--ranks", "2", "--allow-plugins", cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize(
    ("kind", "training"),
    [
        ("d_amsgrad", "scheme=piggyback"),
        ("naive_adam", "scheme=per_sample"),
        ("gradient_tracking", "scheme=per_batch"),
    ],
)
def test_consensus_on_ranks(tmp_path: Path, kind: str, training: str) -> None:
    """K = 2; what the messages compute is verified, and has the bits of one rank alone."""
    config, overrides = write_config(tmp_path), [f"training.{training}", "training.consensus_rounds=2"]
    found = {}
    for ranks in ("1", "3"):
        out = tmp_path / ranks
        arguments = [
            *overrides,
            f"optimizer.kind={kind}",
            "--ranks",
            ranks,
            "--out",
            str(out),
            "--no-figures",
        ]
        result = fdtrain("run", str(config), *arguments)
        assert result.returncode == 0, result.stderr
        found[ranks] = theta(out).tobytes(), (out / "metrics.csv").read_text()
        assert json.loads((out / "environment.json").read_text())["outcome"] == "complete"
    assert found["1"] == found["3"]


def test_verify_on_ranks(tmp_path: Path) -> None:
    result = fdtrain("verify", str(write_config(tmp_path, redrawn=True)), "--ranks", "4", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "verify.json").read_text())
    assert content["passed"] is True
    assert [line["number"] for line in content["comparisons"]] == [1, 2, 3, 4, 5, 5, 5]


# Wrong engines, to see that wrong results are found and failing ranks end the job: `python broken.py`.
BROKEN = """
import sys
from fdtrain import engine, worker
from fdtrain.layers import gcnn

right = engine.Engine.minibatch

def raises(self, *arguments):
    if self.transport.rank == 2:
        raise RuntimeError("the node caught fire")
    return right(self, *arguments)

def leaves(self, *arguments):
    if self.transport.rank == 2:
        sys.exit(0)
    return right(self, *arguments)

def hangs(self, *arguments):
    if self.transport.rank == 2:
        import time
        time.sleep(1000)
    return right(self, *arguments)

def hangs_again(self, *arguments):
    if self.transport.rank == 0:
        import os, pathlib
        pathlib.Path(sys.argv[-1], "logs", f"stacks-{os.getpid()}.log").touch()
    return hangs(self, *arguments)

def miscalculates(self, *arguments):
    loss = right(self, *arguments)
    if self.transport.rank == 2:
        self.grad *= 1 + 1e-9
    return loss

engine.Engine.minibatch = globals()[sys.argv[1]]
sys.exit(worker.main(sys.argv[2:]))
"""


def run_broken(
    folder: Path, how: str, *overrides: str, **extra: str
) -> tuple[subprocess.CompletedProcess[str], float, Path]:
    (folder / "broken.py").write_text(BROKEN)
    out = folder / "run"
    arguments = ["run", str(write_config(folder)), *overrides, "--out", str(out)]
    start = time.monotonic()
    result = mpirun(4, [str(folder / "broken.py"), how, *arguments], extra=extra)
    return result, time.monotonic() - start, out


@pytest.mark.parametrize("how", ["raises", "leaves"])
def test_a_rank_that_fails_ends_the_job_and_leaves_its_traceback(tmp_path: Path, how: str) -> None:
    started = time.monotonic()
    assert mpirun(4, ["-m", "fdtrain", "--version"]).returncode == 0
    start_up = time.monotonic() - started  # of the MPI and the imports, on this machine
    result, seconds, out = run_broken(tmp_path, how)
    assert result.returncode not in (0, 2)
    assert seconds < start_up + 5
    log = (out / "logs" / "rank-2.log").read_text()
    assert "Traceback" in log
    assert ("the node caught fire" if how == "raises" else "SystemExit") in log
    assert "rank 2 failed" in result.stderr


@pytest.mark.parametrize("transport", ["point_to_point", "persistent", "neighbourhood"])
def test_a_message_that_does_not_come_is_an_error_that_names_the_rank(tmp_path: Path, transport: str) -> None:
    result, _, _ = run_broken(tmp_path, "hangs", f"execution.transport={transport}", FDTRAIN_DEADLINE="2")
    if result.returncode == 2 and "neighbourhood does not work with this MPI library" in result.stderr:
        pytest.skip("an MPI without collectives of neighbours")
    assert result.returncode not in (0, 2)
    if transport == "neighbourhood":  # links are made by all ranks together
        assert "waited 2 s between rounds for rank(s)" in result.stderr
        assert "rank 2 is busy in" in result.stderr
    else:
        assert "no message within 2 s from rank(s)" in result.stderr
        assert "2" in result.stderr.split("rank(s)")[1]


def test_what_is_missing_is_said_where_stacks_cannot_be_written(tmp_path: Path) -> None:
    result, _, _ = run_broken(tmp_path, "hangs_again", FDTRAIN_DEADLINE="2")
    assert result.returncode not in (0, 2)
    assert " failed: no message within 2 s" in result.stderr or " failed: waited 2 s" in result.stderr
    assert "stacks of all ranks" not in result.stderr


def test_ranks_wait_longer_for_loops_that_have_to_be_compiled_first(tmp_path: Path) -> None:
    extra = {"FDTRAIN_DEADLINE": "4", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    arguments = ["run", str(write_config(tmp_path)), "execution.kernel=numba", "--out", str(tmp_path / "run")]
    result = mpirun(2, ["-m", "fdtrain", *arguments], extra=extra)
    assert result.returncode == 0, result.stderr
    assert list((tmp_path / "cache").rglob("*.nbi"))


def test_a_wrong_gradient_on_one_rank_fails_the_verification(tmp_path: Path) -> None:
    result, _, _ = run_broken(tmp_path, "miscalculates")
    assert result.returncode == 1
    assert "verification failed: local gradients" in result.stderr


def test_divergence_names_epoch_node_and_layer(tmp_path: Path) -> None:
    out = tmp_path / "run"
    overrides = ["model.activation=identity", "optimizer.lr=1e6", "training.epochs=20"]
    result = fdtrain("run", str(write_config(tmp_path)), *overrides, "--ranks", "2", "--out", str(out))
    assert result.returncode == 1
    assert "training diverged: epoch " in result.stderr
    assert ": node " in result.stderr
    assert ", layer " in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert (out / "metrics.csv").is_file()
    outcome = json.loads((out / "environment.json").read_text())["outcome"]
    assert result.stderr.strip() == f"error: {outcome}"


def test_bad_input_under_mpirun_is_one_line_with_status_2(tmp_path: Path) -> None:
    result = mpirun(
        2, ["-m", "fdtrain", "run", "quickstart", "training.epohs=3", "--out", str(tmp_path / "run")]
    )
    assert result.returncode == 2
    said = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "did you mean 'epochs'?" in said[0]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_topology_that_cannot_be_drawn_later_ends_all_ranks(tmp_path: Path) -> None:
    """The first draw of this seed is connected within the limit, a later one is not."""
    sparse = "topology={kind: erdos_renyi, nodes: 12, p: 0.2, max_draws: 2, redraw: {every: 1}}"
    for seed in range(50):
        if fdtrain("config", str(write_config(tmp_path)), sparse, f"seed={seed}").returncode == 0:
            break
    out = tmp_path / "run"
    overrides = [sparse, f"seed={seed}", "training.epochs=500"]
    message = one_line_error(
        fdtrain(
            "run", str(write_config(tmp_path)), *overrides, "--ranks", "3", "--out", str(out), "--no-verify"
        )
    )
    assert "topology: erdos_renyi at mini-batch" in message


@pytest.mark.skipif(any(d.name == "mpich" for d in distributions()), reason="MPICH believes PMI_SIZE")
def test_launcher_and_library_that_do_not_match(tmp_path: Path) -> None:
    """What an MPICH mpirun does with an Open MPI library: many processes, each alone in its world."""
    command = [sys.executable, "-m", "fdtrain", "run", "quickstart", "--out", str(tmp_path / "run")]
    env = environment({"PMI_SIZE": "4", "PMI_RANK": "0"})
    env.pop("PMI_FD", None)
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "the launcher started 4 processes, but the MPI library sees 1" in one_line_error(result)
