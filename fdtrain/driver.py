"""Runs an experiment from start to end on rank 0 (or in this process): verification, training, files.

:func:`run` is the Python API; the command line goes through :func:`lead` as well.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain import config as configuration
from fdtrain.baseline import train_centralized
from fdtrain.config import Config
from fdtrain.environment import environment, peak_memory
from fdtrain.errors import InputError, RunFailedError, StoppedError
from fdtrain.experiment import Experiment, build, run_job
from fdtrain.footprint import Footprint, available_memory, warning, why_unsaved
from fdtrain.ledger import Ledger
from fdtrain.minibatches import MinibatchRow
from fdtrain.observer import Observer as Observer
from fdtrain.observer import Quiet as Quiet
from fdtrain.outputs import writing
from fdtrain.profile import Profile
from fdtrain.resumption import Checkpoints, Saved, cut_back, newest
from fdtrain.rundir import COMPLETE, RunDirectory, is_complete, resumptions, write_json
from fdtrain.service import EpochRow, Outcome
from fdtrain.team import Team, in_threads
from fdtrain.topology import MovingSource
from fdtrain.topology.connectivity import Connectivity, Recorder
from fdtrain.training import follow, log_to
from fdtrain.verify import Comparison, Verifier

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
    profile: int = 0,
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
        profile: of how many mini-batches to keep a timeline of every rank, in `out`; half of them the first ones,
            half the last ones.

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
    _check_ranks(ranks, experiment)
    if profile and out is None:
        raise InputError("profile: needs a directory to be written into; name one with out")
    directory = None
    if out is not None:
        directory = RunDirectory.create(Path(out), config.to_yaml(), overwrite=overwrite)
    return _in_this_process(ranks, experiment, directory, on_epoch, verify=verify, profile=profile)


def resume(
    directory: str | Path,
    *,
    ranks: int = 1,
    verify: bool = True,
    allow_plugins: bool = False,
    on_epoch: Callable[[EpochRow], None] | None = None,
    profile: int = 0,
) -> Run:
    """Go on with the run in `directory` from its newest checkpoint, as :func:`run` does; the result has the same bits
    as without a break. Without a checkpoint it begins anew.

    Raises:
        InputError: there is no run, or it is complete, or its configuration or data have changed, or it has
            checkpoints of which none can be used.
        VerificationError, DivergenceError: as :func:`run`.
    """
    found = RunDirectory.existing(Path(directory))
    if is_complete(found.path):
        raise InputError(f"{found.path}: the run is complete; read its files")
    experiment = build(configuration.load(found.path / "config.yaml"), allow_plugins=allow_plugins)
    _check_ranks(ranks, experiment)
    how: dict[str, Any] = {"verify": verify, "goes_on": True, "profile": profile}
    return _in_this_process(ranks, experiment, found, on_epoch, **how)


def _check_ranks(ranks: int, experiment: Experiment) -> None:
    if not 1 <= ranks <= experiment.nodes:
        raise InputError(f"ranks: must be 1 … {experiment.nodes}, the number of nodes, found {ranks}")


def _in_this_process(
    ranks: int,
    experiment: Experiment,
    directory: RunDirectory | None,
    on_epoch: Callable[[EpochRow], None] | None,
    **how: Any,
) -> Run:
    observer = Quiet()
    if on_epoch is not None:
        observer.epoch = on_epoch  # type: ignore[method-assign, assignment]

    def work(team: Team) -> Run | None:
        if team.rank > 0:
            follow(team)
            return None
        finished = lead(team, experiment, directory, observer, **how)
        team.dismiss()
        return finished

    result: Run = in_threads(ranks, work)
    return result


def lead(
    team: Team,
    experiment: Experiment,
    directory: RunDirectory | None,
    observer: Observer,
    *,
    verify: bool,
    goes_on: bool = False,
    profile: int = 0,
) -> Run:
    """Rank 0's part of a run; the other ranks are in :func:`fdtrain.training.follow` until they are dismissed.

    `goes_on`: whether the run in `directory` is resumed. `profile`: mini-batches whose timeline is kept, if any.

    Raises:
        VerificationError, DivergenceError, InputError: as :func:`run`; the metrics of all finished
            epochs are on disk.
        StoppedError: a signal asked for it; there is a checkpoint.
    """
    with nullcontext() if directory is None else directory.locked():
        saved = _find(directory, experiment, observer) if directory is not None and goes_on else None
        leader = _Leader(team, experiment, directory, observer, saved)
        return leader.run(verify=verify, goes_on=goes_on, profile=profile)


def _find(directory: RunDirectory, experiment: Experiment, observer: Observer) -> Saved | None:
    """The checkpoint to go on from; without one the directory is emptied."""
    if is_complete(directory.path):
        raise InputError(f"{directory.path}: another process has completed the run meanwhile")
    saved, notes = newest(directory, experiment)
    for text in notes:
        observer.note(f"note: {text}")
    if saved is None:
        observer.note(
            f"note: {directory.path}: there is no checkpoint to go on from: starting from the beginning"
        )
        directory.begin_anew()
    else:
        cut_back(directory.path, saved.content["files"])
    return saved


class _Leader:
    """Rank 0 of a run, from verification to its files."""

    def __init__(
        self,
        team: Team,
        experiment: Experiment,
        directory: RunDirectory | None,
        observer: Observer,
        saved: Saved | None,
    ) -> None:
        self._team, self._experiment, self._directory = team, experiment, directory
        self._observer, self._saved = observer, saved
        self._started = self._training = time.monotonic()
        every = None if directory is None else experiment.config.checkpoint.every
        job = replace(experiment.job, save_every=every, done=0 if saved is None else saved.done)
        if experiment.config.training.mode == "distributed":
            job = replace(job, unsaved=why_unsaved(job, experiment.shares(team.size), available_memory()))
        self._host = experiment.host(team.size, self._on_epoch, job)
        self._host.on_minibatches = self._on_minibatches
        self._before = 0  # epochs of an earlier life
        self._resumptions = list[Any]()
        self._predicted: Footprint | None = None  # memory of a distributed run

    def run(self, *, verify: bool, goes_on: bool, profile: int) -> Run:
        """Do all of it; `goes_on`: not for the first time."""
        config, host, directory = self._experiment.config, self._host, self._directory
        outcome, keeper, ended = host.outcome, None, "interrupted"
        if directory is not None:
            keeper = self._open(directory, goes_on=goes_on)
        self._observer.started(
            config.name, self._experiment.nodes, self._team.size, config.training.epochs, host.job.minibatches
        )
        if host.job.done:
            self._observer.resumed(host.job.done)
        self._tell_what_is_idle()
        self._tell_of_memory()
        comparisons: list[Comparison] = []
        try:
            if verify and self._saved is None and config.training.mode == "distributed":
                comparisons = self._verify()
            self._train(profile)
            host.check()
            ended = outcome.stopped or COMPLETE
        except StoppedError as error:
            if keeper is None:
                raise
            raise StoppedError(f"{error}, {keeper.advice()}", error.signal) from None
        except Exception as error:
            ended = str(error)
            raise
        finally:
            host.close()
            if directory is not None:
                self._close(directory, ended, failed=ended not in (COMPLETE, outcome.stopped))
        self._observer.finished()
        if _is_asleep(self._experiment, outcome):
            self._observer.note(ASLEEP)
        if outcome.stopped:
            self._observer.note(outcome.stopped)
        path = None if directory is None else directory.path
        return Run(config, outcome.rows, outcome.theta, outcome.node_loss, outcome.ledger, comparisons, path)

    def _open(self, directory: RunDirectory, *, goes_on: bool) -> Checkpoints:
        if goes_on:
            self._resumptions = resumptions(directory.path)
            self._resumptions.append(
                {
                    "after_minibatch": self._host.job.done,
                    "ranks": self._team.size,
                    "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                }
            )
        try:
            if goes_on:
                self._write_environment(directory, "interrupted")
            directory.write_held_out(self._experiment.held_out())
        except OSError as error:
            raise RunFailedError(_unwritten(directory.path, error)) from None
        log_here = partial(log_to, directory.logs.absolute())
        self._team.order(log_here)
        log_here(self._team)
        source, every = self._experiment.config.topology, self._host.job.redraw_every
        if isinstance(source, MovingSource) and every is not None:
            self._host.connectivity = Recorder(every, source.window, self._on_graph)
        keeper = Checkpoints(directory, self._experiment, self._seconds, self._observer.note)
        self._host.keeper = keeper
        return keeper

    def _tell_what_is_idle(self) -> None:
        job = self._host.job
        if job.channel is None:
            return
        graph = self._experiment.topology.graph(0) if job.redraw_every is None else None
        for text in job.channel.idle(job.epochs * job.minibatches, graph):
            self._observer.note(f"note: {text}: without effect")

    def _tell_of_memory(self) -> None:
        experiment, host = self._experiment, self._host
        if experiment.config.training.mode == "distributed":
            self._predicted = experiment.footprint(self._team.size, host.job)
            text = warning(self._predicted, available_memory())
            if text:
                self._observer.note(f"note: {text}")

    def _verify(self) -> list[Comparison]:
        verifier = Verifier(self._experiment, self._team)
        if verifier.left_out:
            self._observer.note(f"note: {verifier.left_out}")
        try:
            comparisons = verifier.quick()
        except StoppedError as error:
            name = signal.Signals(error.signal).name
            raise StoppedError(f"stopped by {name} before the first mini-batch", error.signal) from None
        file = None if self._directory is None else self._directory.path / "verify.json"
        report_verification(comparisons, file, self._observer)
        return comparisons

    def _train(self, profile: int) -> None:
        host, saved, content = self._host, self._saved, None
        self._training = time.monotonic()
        if saved is not None and self._directory is not None:
            content = saved.content
            self._training -= content["seconds"]
            rows = self._directory.read_metrics() if "metrics.csv" in content["files"] else []
            host.take_up(content, rows)
            self._before = len(rows)
        if self._experiment.config.training.mode == "distributed":
            run_job(host.job, self._team, host, self._profile(profile))
        else:
            train_centralized(self._experiment, host, content)

    def _profile(self, minibatches: int) -> Profile | None:
        if not minibatches or self._directory is None:
            return None
        folder = self._directory.profile
        try:
            return Profile.into(folder, minibatches, self._observer.note)
        except OSError as error:
            raise RunFailedError(_unwritten(folder, error)) from None

    def _on_epoch(self, row: EpochRow) -> None:
        if self._directory is not None:
            with self._writing(self._directory.path / "metrics.csv"):
                self._directory.append_epoch(row, self._seconds())
        self._observer.epoch(row)

    def _on_minibatches(self, rows: Sequence[MinibatchRow]) -> None:
        if self._directory is not None:
            with self._writing(self._directory.path / "minibatches.csv"):
                self._directory.append_minibatches(rows)
        self._observer.minibatches(rows)

    def _on_graph(self, row: Connectivity) -> None:
        assert self._directory is not None
        with self._writing(self._directory.path / "connectivity.csv"):
            self._directory.append_connectivity(row)

    @contextmanager
    def _writing(self, file: Path) -> Iterator[None]:
        """Where a result cannot be written the run ends, on all ranks."""
        try:
            yield
        except OSError as error:
            self._host.fail(RunFailedError(_unwritten(file, error)))

    def _seconds(self) -> float:
        """Since training began."""
        return time.monotonic() - self._training

    def _close(self, directory: RunDirectory, ended: str, *, failed: bool) -> None:
        try:
            if len(self._host.outcome.rows) > self._before:  # otherwise there is nothing new
                _write_results(directory, self._experiment, self._host.outcome)
            self._write_environment(directory, ended)
        except OSError as error:
            if not failed:  # otherwise that is the smaller trouble
                raise RunFailedError(_unwritten(directory.path, error)) from None

    def _write_environment(self, directory: RunDirectory, ended: str) -> None:
        facts = {"outcome": ended, **environment(self._team, time.monotonic() - self._started)}
        facts["peak_memory"] = peak_memory(self._host.outcome.peaks, self._predicted)
        if self._resumptions:
            facts["resumptions"] = self._resumptions
        write_json(directory.path / "environment.json", facts)


def _unwritten(path: Path, error: OSError) -> str:
    return f"{path}: cannot be written: {error.strerror or error}; make room, and go on with --resume"


def _is_asleep(experiment: Experiment, outcome: Outcome) -> bool:
    """Whether an actor that ends in a relu puts out 0 at all nodes of the last graph."""
    output = getattr(experiment.oracle, "output", None)
    if output is None or not outcome.rows or not len(outcome.theta):
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
    if len(outcome.theta):
        directory.write_theta(outcome.theta)
    else:  # the ranks were lost before they could hand it in: what an earlier life left belongs to an earlier epoch
        directory.remove_theta()
    directory.write_network(experiment.topology.graph(minibatches - 1), node_loss)
    directory.write_baselines(experiment.config.model.kind, outcome)
