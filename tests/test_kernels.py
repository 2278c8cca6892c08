"""Compiled passes against those of NumPy: arithmetic, training, memory, and what is kept of compiled code."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from teams import content, experiment, run

from fdtrain import engine as engines
from fdtrain import launcher
from fdtrain.arrays import zeros
from fdtrain.compiled import CompiledPass
from fdtrain.config import from_mapping
from fdtrain.engine import make_pass
from fdtrain.errors import InputError
from fdtrain.experiment import build
from fdtrain.kernels import compiling
from fdtrain.kernels.arithmetic import (
    IDENTITY,
    LEAKY_RELU,
    SIGMOID,
    TANH,
    activate,
    add_products,
    exponential,
    neighbour_sum,
    times,
    times_transposed,
)
from fdtrain.layers.activations import activation
from fdtrain.layers.gcnn import Gcnn
from fdtrain.passes import Pass, Rows
from fdtrain.schedule import build as build_schedule

KINDS = {"sigmoid": SIGMOID, "tanh": TANH, "leaky_relu": LEAKY_RELU, "identity": IDENTITY}


def test_the_exponential_is_the_librarys_to_an_ulp_or_two() -> None:
    x = np.concatenate([np.linspace(-700, 700, 100_001), np.linspace(-1e-3, 1e-3, 1001), [0.0, 1e-300]])
    out, scratch = np.empty_like(x), np.empty_like(x)
    exponential(x, len(x), out, scratch)
    assert np.abs(out / np.exp(x) - 1.0).max() <= 4 * np.finfo(float).eps
    assert out[-2] == 1.0
    exponential(np.full(16, np.nan), 16, out, scratch)
    assert np.isnan(out[:16]).all()


@pytest.mark.parametrize("size", [1, 15, 16, 100])
@pytest.mark.parametrize("name", KINDS)
def test_activations_are_those_of_numpy(name: str, size: int) -> None:
    rng = np.random.default_rng(size)
    given = np.concatenate([rng.normal(0, 3, size - 1), [0.0]]) if size > 1 else np.array([0.7])
    if size == 100:
        given[:6] = [800.0, -800.0, 36.0, -36.0, 1e-8, -1e-8]
    wanted_y, wanted_slope = np.empty(size), given.copy()
    with np.errstate(all="ignore"):
        activation(name, 0.2).apply(wanted_slope, wanted_y)
    h, y = given.copy(), np.empty(size)
    activate(KINDS[name], 0.2, h, size, y, np.empty((3, size)))
    np.testing.assert_allclose(y, wanted_y, rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(h, wanted_slope, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_finite_is_not_hidden(name: str) -> None:
    for size in (3, 20):
        h, y = np.full(size, np.nan), np.zeros(size)
        activate(KINDS[name], 0.2, h, size, y, np.zeros((3, size)))
        assert np.isnan(y).all()


@pytest.mark.parametrize("w", [1, 2, 7, 8, 13, 100])
@pytest.mark.parametrize(("g_in", "g_out"), [(1, 1), (10, 1), (3, 7), (10, 10)])
def test_products_are_those_of_numpy(w: int, g_in: int, g_out: int) -> None:
    rng = np.random.default_rng([w, g_in, g_out])
    x, q, theta = rng.normal(size=(g_in, w)), rng.normal(size=(g_out, w)), rng.normal(size=(g_in, g_out))
    before = rng.normal(size=(g_out, w))
    flat = [part.reshape(-1) for part in (x, q, theta)]
    for fresh in (True, False):
        out = before.copy().reshape(-1)
        times(flat[0], g_in, w, flat[2], g_out, out, fresh)
        np.testing.assert_allclose(
            out.reshape(g_out, w), theta.T @ x + (0 if fresh else before), rtol=1e-12, atol=1e-13
        )
    back = np.zeros(g_in * w)
    times_transposed(flat[1], g_out, w, flat[2], g_in, back, True)
    np.testing.assert_allclose(back.reshape(g_in, w), theta @ q, rtol=1e-12, atol=1e-13)
    grad = theta.copy().reshape(-1)
    add_products(flat[0], g_in, flat[1], g_out, w, grad)
    np.testing.assert_allclose(grad.reshape(g_in, g_out), theta + x @ q.T, rtol=1e-12, atol=1e-13)


def test_sums_over_neighbours_read_their_columns_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    rows, columns, weights = rng.normal(size=(6, 9)), np.array([4, 0, 5]), rng.normal(size=3)
    out = np.zeros(4)
    neighbour_sum(rows.reshape(-1), 9, 3, 4, 0, 3, columns, weights, out)
    np.testing.assert_allclose(out, weights @ rows[columns, 3:7], rtol=1e-14)


CASES = {
    f"{form}, {scheme}, wave {wave}, {depth} layers": {
        "model": {
            "sizes": [4, 6, 3, 5, 2][: depth + 1],
            "form": form,
            "activation": ["sigmoid", "tanh", "relu", "identity"][:depth],
            "shift": "gcn",
        },
        "training": {"scheme": scheme, "wave": wave, "batch": 11, "epochs": 2},
        "optimizer": {"kind": "naive_adam" if scheme == "per_sample" else "d_adam", "lr": 1e-3},
    }
    for form, scheme, wave, depth in product(
        ("receiver", "sender"),
        ("piggyback_do", "piggyback", "per_batch", "per_sample"),
        (1, 4, 11),
        (1, 2, 4),
    )
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_training_as_with_numpy(case: str) -> None:
    change = {"task": {"train_samples": 22, "test_samples": 3}} | CASES[case]
    outcomes = [
        run(experiment(change | {"execution": {"kernel": kernel}}), 2).outcome
        for kernel in ("numba", "numpy")
    ]
    compiled, plain = outcomes
    assert np.abs(compiled.theta / plain.theta - 1.0).max() <= 1e-7  # Adam divides by what is near 0
    assert (
        compiled.theta.tobytes() != plain.theta.tobytes() or "1 layers" in case
    )  # they are not the same loops
    for one, other in zip(compiled.rows, plain.rows, strict=True):
        assert one.train == pytest.approx(other.train, rel=1e-10)
        assert one.test == pytest.approx(other.test, rel=1e-10)
        assert (one.rounds, one.messages, one.bytes) == (other.rounds, other.messages, other.bytes)
    assert compiled.ledger.total == plain.ledger.total


def test_memory_does_not_grow_with_the_mini_batch() -> None:
    model = Gcnn((10, 10, 1), ("sigmoid", "sigmoid"))

    def size(batch: int, wave: int, scheme: str = "piggyback_do") -> int:
        outline = model.outline
        schedule = build_schedule(scheme, outline=outline, batch=batch, wave=wave, travelling=220)
        made = CompiledPass(model, "train", schedule, 50)
        return sum(value.nbytes for value in vars(made).values() if isinstance(value, np.ndarray))

    assert size(1000, 10) == size(20, 10)
    kept = 10 + 10 + 10 + 1  # a and σ' of the first layer, x and σ' of the second
    assert size(20, 10) - size(10, 10) == kept * 50 * 10 * 8  # two waves are under way, and not one
    assert size(20, 10, "per_batch") == size(10, 10, "per_batch")  # one after the other


def test_an_update_in_portions_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("d_sgd", "d_adam", "d_amsgrad", "gradient_tracking"):
        change = {"optimizer": {"kind": kind, "clip_norm": 0.5}, "topology": {"kind": "ring", "nodes": 23}}
        whole = run(experiment(change), 2).outcome
        monkeypatch.setattr(engines, "PORTION", 4)
        parts = run(experiment(change), 2).outcome
        monkeypatch.undo()
        assert whole.theta.tobytes() == parts.theta.tobytes()
        assert whole.rows == parts.rows


def test_who_asks_for_what_cannot_be_compiled_is_told() -> None:
    change = content({"execution": {"kernel": "numba"}})
    change["optimizer"] = {"kind": "naive_sgd", "lr": 1e-3, "updates": "sample"}
    change["training"] = {"scheme": "per_sample", "batch": 4, "epochs": 1}
    with pytest.raises(InputError, match=r"execution\.kernel: numba is for .* use auto"):
        build(from_mapping(change))


def test_numpy_where_it_is_asked_for() -> None:
    made = experiment({})
    job, loss = made.job, made.job.loss
    from fdtrain.turns import LocalLoss

    parts = job.model, job.network, loss, LocalLoss(loss), job.optimizer
    assert isinstance(make_pass(*parts, "test", job.test_schedule, 3, "numpy"), Pass)
    assert isinstance(make_pass(*parts, "test", job.test_schedule, 3, "auto"), CompiledPass)


def test_compiled_code_is_kept_by_the_content_of_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder() -> Path:
        compiling._folder.cache_clear()
        return Path(compiling._folder())

    try:
        (tmp_path / "one.py").write_text("a")
        monkeypatch.setattr(compiling, "_HERE", tmp_path)
        monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
        first = folder()
        assert first.parent == tmp_path / "__pycache__"
        (tmp_path / "one.py").write_text("b")
        assert folder() != first
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "asked"))
        assert folder().parent == tmp_path / "asked"
    finally:
        monkeypatch.undo()
        compiling._folder.cache_clear()


@pytest.mark.parametrize("arithmetic", ["float64", "float32"])
def test_a_run_compiles_nothing_but_what_rank_0_has_compiled_for_all(arithmetic: str) -> None:
    """In a process of its own, since others have compiled other things."""
    code = (
        "import sys\n"
        "from fdtrain import run\n"
        "from fdtrain.config import load\n"
        "from fdtrain.kernels import loop\n"
        "def compiled():\n"
        "    return [len(f.signatures) for f in (loop.rounds, loop.work)]\n"
        "loop.warm(sys.argv[1])\n"
        "before, asked = compiled(), ['execution.kernel=numba', 'precision.arithmetic=' + sys.argv[1]]\n"
        "run(load(sys.argv[2], asked), ranks=2)\n"
        "assert compiled() == before, (before, compiled())\n"
    )
    smoke = Path(__file__).parent.parent / "configs/ci/smoke.yaml"
    subprocess.run([sys.executable, "-c", code, arithmetic, str(smoke)], check=True, timeout=120)


def test_zeros_are_zeros() -> None:
    found: Any = zeros(3, 4)
    assert found.shape == (3, 4)
    assert not found.any()


def test_samples_of_other_widths_are_refused() -> None:
    """Compiled loops do not look where arrays end."""
    made = CompiledPass(
        Gcnn((3, 2), ("tanh",)),
        "test",
        build_schedule("inference", outline=Gcnn((3, 2), ("tanh",)).outline, batch=2),
        4,
    )
    x, y = np.zeros((4, 5, 3)), np.zeros((4, 5, 2))
    for rows in (
        Rows(np.zeros((4, 5, 4)), y),
        Rows(x, np.zeros((4, 5, 1))),
        Rows(x[:3], y[:3]),
        Rows(x, y),
        Rows(x, y, order=np.array([0, 5])),
        Rows(x, y, order=np.array([-1, 0])),
    ):
        with pytest.raises(ValueError, match="need 4 nodes, 2 samples"):
            made.load(rows)


@pytest.mark.skipif(not launcher.has_mpi(), reason="needs an MPI")
def test_handles_of_any_mpi_are_bytes() -> None:
    """Those of MPICH are of 32 bits and negative; in a process of its own, since it loads the MPI."""
    code = (
        "from mpi4py import rc; rc.initialize = False\n"
        "from mpi4py import MPI\n"
        "from fdtrain.transport import persistent\n"
        "MPI._handleof = lambda request: request\n"
        "found = persistent.Native(0, 0, 4, 24).handles([-(2**31) + 5, 7])\n"
        "assert found.tobytes() == bytes([5, 0, 0, 128, 7, 0, 0, 0]), found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
