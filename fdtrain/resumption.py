"""Checkpoints of a run: what is written into them beside the state of training, and which one a run goes on from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdtrain import checkpoint
from fdtrain.errors import InputError
from fdtrain.experiment import Experiment
from fdtrain.job import Job
from fdtrain.rundir import GROWING, RunDirectory


@dataclass(frozen=True)
class Saved:
    """A checkpoint that a run can go on from."""

    file: Path
    done: int  # mini-batches
    content: Mapping[str, Any]


class DamagedError(ValueError):
    """A checkpoint is not what it should be; the message says why."""

    what = "is damaged"


class UnfitError(DamagedError):
    """A checkpoint is whole, but the run's other files are not what they were."""

    what = "does not fit"


class Checkpoints:
    """The checkpoints of a run's directory: a :class:`fdtrain.memory.Keeper`."""

    def __init__(
        self,
        directory: RunDirectory,
        experiment: Experiment,
        seconds: Callable[[], float],
        note: Callable[[str], None],
    ) -> None:
        """`seconds` since training began; `note` is called with what the user has to know."""
        self._directory, self._experiment = directory, experiment
        self._seconds, self._note = seconds, note
        self._of = identity(experiment)
        self._told: set[str] = set()

    def write(self, t: int, content: Mapping[str, Any]) -> None:
        try:
            whole = {
                "of": self._of,
                "position": position(self._experiment, t),
                "files": fingerprints(self._directory.path),
                "seconds": self._seconds(),
                **content,
            }
            keep = self._experiment.config.checkpoint.keep
            checkpoint.write(self._directory.checkpoints, t, whole, keep)
        except OSError as error:
            self.refuse(t, error.strerror or str(error))

    def refuse(self, t: int, problem: str) -> None:
        if problem not in self._told:  # once is enough
            self._told.add(problem)
            self._note(f"note: no checkpoint after mini-batch {t:,}: {problem}")

    def advice(self) -> str:
        """How to go on after a stop."""
        files, path = checkpoint.found_in(self._directory.checkpoints), self._directory.path
        found = f"checkpoint {files[0]}" if files else "no checkpoint"
        return f"{found}; go on with: fdtrain run --resume {path}"


def fingerprints(run: Path) -> dict[str, list[Any]]:
    """Size and SHA-256 of a run's files that grow while it goes on; what is in them is on the disk.

    Raises:
        OSError: one cannot be read, or not be brought to the disk.
    """
    found: dict[str, list[Any]] = {}
    for name in GROWING:
        if (run / name).exists():
            with (run / name).open("rb+") as stream:
                os.fsync(stream.fileno())
                content = stream.read()
            found[name] = [len(content), hashlib.sha256(content).hexdigest()]
    return found


def changed(run: Path, before: Mapping[str, Sequence[Any]]) -> str | None:
    """The first file that does not begin with what was there when the :func:`fingerprints` were taken."""
    for name, (size, digest) in before.items():
        try:
            with (run / name).open("rb") as stream:
                content = stream.read(size)
        except OSError:
            return name
        if hashlib.sha256(content).hexdigest() != digest:
            return name
    return None


def cut_back(run: Path, before: Mapping[str, Sequence[Any]]) -> None:
    """Remove the lines that came after the :func:`fingerprints` were taken."""
    for name in GROWING:
        if name in before:
            os.truncate(run / name, before[name][0])
        else:
            (run / name).unlink(missing_ok=True)


def identity(experiment: Experiment) -> dict[str, Any]:
    """What a run has to have in common with the one that wrote a checkpoint: the configuration, but for that of
    checkpoints and for who hosts whom over what transport, and the content of the files that it names."""
    exclude: dict[str, Any] = {"checkpoint": True, "execution": {"partition", "transport"}}
    settings = experiment.config.model_dump(mode="json", exclude=exclude)
    plain = dict(checkpoint.items(settings))
    files = {}
    for key, value in plain.items():
        file = Path(value) if isinstance(value, str) else None
        if file is not None and file.suffix.rpartition(":")[0] == ".py":
            file = Path(str(value).rpartition(":")[0])
        if file is not None and file.is_absolute() and file.is_file():
            files[key] = _digest(file)
    return {"settings": plain, "files": files}


def position(experiment: Experiment, t: int) -> dict[str, Any]:
    """Where a run is after t mini-batches. All that is drawn is drawn by generators of counters, made anew from these
    numbers: a seed, what the draw is for, the mini-batch t, and the node or link."""
    config = experiment.config
    epoch, place = experiment.job.place(t)
    return {
        "minibatch": t,
        "epoch": epoch,
        "place": place,
        "seed": config.seed,
        "topology_seed": getattr(config.topology, "seed", None),
    }


def newest(directory: RunDirectory, experiment: Experiment) -> tuple[Saved | None, list[str]]:
    """The newest checkpoint that is whole, and notes on those that are not.

    Raises:
        InputError: a checkpoint is one of another configuration, or of other data; or none of them is whole.
    """
    checkpoint.remove_unfinished(directory.checkpoints)
    damaged, present = list[str](), identity(experiment)
    for file in checkpoint.found_in(directory.checkpoints):
        try:
            content = _read(file)
            compare(content["of"], present, file)
            _check(content, file, directory, experiment.job)
        except DamagedError as error:
            damaged.append(f"checkpoint {file} {error.what} ({error})")
            continue
        instead = f": going on from {file.name}"
        return Saved(file, content["position"]["minibatch"], content), [text + instead for text in damaged]
    if damaged:
        path, others = directory.path, f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise InputError(
            f"{damaged[0]}{others}, and there is no other; restore one, or begin anew, which loses what is there: "
            f"fdtrain run {path / 'config.yaml'} --out {path} --overwrite"
        )
    return None, []


def compare(saved: Mapping[str, Any], present: Mapping[str, Any], file: Path) -> None:
    """Check that a checkpoint is one of the present configuration and data.

    Raises:
        InputError: it is not; the message names the first difference.
    """
    before, now = saved["settings"], present["settings"]
    for key in [*now, *before]:
        if key not in before or key not in now or before[key] != now[key]:
            was = repr(before[key]) if key in before else "not there"
            found = repr(now[key]) if key in now else "nothing"
            raise InputError(
                f"{file}: is of another configuration: {key} was {was}, found {found} in config.yaml; "
                "restore it, or begin another run"
            )
    for key in [*present["files"], *saved["files"]]:
        if saved["files"].get(key) != present["files"].get(key):
            raise InputError(
                f"{file}: is of other data: the content of {key} ({now[key]}) has changed since; "
                "restore it, or begin another run"
            )


def _read(file: Path) -> Any:
    try:
        content = checkpoint.read(file)
        of, done = content["of"], content["position"]["minibatch"]
        _ = of["settings"], of["files"], content["files"], content["host"], content["seconds"], done > 0
    except InputError as error:
        raise DamagedError(str(error)) from None
    except (KeyError, TypeError) as error:
        raise DamagedError(f"is not a run's: {error!r:.80}") from None
    return content


def _check(content: Any, file: Path, directory: RunDirectory, job: Job) -> None:
    """Check that a checkpoint is what its name says, and that the run's files are not behind it."""
    done = content["position"]["minibatch"]
    if file.name != checkpoint.file_name(done):
        raise DamagedError(f"is that of mini-batch {done:,}")
    if not 0 < done <= job.epochs * job.minibatches:
        raise DamagedError(f"is after mini-batch {done:,} of {job.epochs * job.minibatches:,}")
    other = changed(directory.path, content["files"])
    if other is not None:
        raise UnfitError(f"{other} does not begin with what was there when it was written")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
