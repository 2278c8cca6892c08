"""A run's directory: what is written there, and how it is read again."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fdtrain.errors import BusyError, InputError
from fdtrain.graph import Graph
from fdtrain.ledger import Count, Ledger
from fdtrain.measure import found_in
from fdtrain.minibatches import MinibatchRow, averages, read_header, read_minibatches
from fdtrain.outputs import contents, make_folder, writing
from fdtrain.service import EpochRow, Outcome
from fdtrain.topology import connectivity
from fdtrain.topology.connectivity import Connectivity, cells

_CONTENTS = (
    "config.yaml",
    "metrics.csv",
    "minibatches.csv",
    "connectivity.csv",
    "baselines.csv",
    "timing.csv",
    "ledger.csv",
    "verify.json",
    "theta.npz",
    "network.npz",
    "heldout.npz",
    "environment.json",
    "report.html",
    ".environment.json.writing",
    ".verify.json.writing",
)
_FOLDERS = ("figures", "logs", "checkpoints", "profile")
GROWING = (
    "metrics.csv",
    "minibatches.csv",
    "timing.csv",
    "connectivity.csv",
)  # line by line, while the run goes on
COMPLETE = "complete"  # the outcome of a run that reached its last epoch
STOPPED = "stopped early"  # the outcome of a run that its configuration let end before begins like this


class RunDirectory:
    """Writer and reader of one run's files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, config_yaml: str, *, overwrite: bool = False) -> RunDirectory:
        """Make the directory with its ``config.yaml``; with `overwrite`, the files of an earlier run are removed first.

        Raises:
            InputError: it exists and may not be overwritten, holds files that are no run's, cannot be written, or
                another process works on it.
        """
        check_free(path, overwrite=overwrite)
        with writing(f"--out {path}"):
            if os.path.isdir(path):
                earlier = cls(path)
                with earlier.locked():
                    earlier.clear()
            make_folder(path)
            (path / "config.yaml").write_text(
                config_yaml, encoding="utf-8"
            )  # first: it makes this a run's directory
            make_folder(path / "logs")
        return cls(path)

    @classmethod
    def existing(cls, path: Path) -> RunDirectory:
        """The directory of a run that is there.

        Raises:
            InputError: it is none.
        """
        if not (path / "config.yaml").is_file():
            found = "holds no config.yaml" if path.is_dir() else "is no directory"
            raise InputError(f"--resume {path}: is not the directory of a run: it {found}")
        return cls(path)

    @contextmanager
    def locked(self, patience: float = 10.0) -> Iterator[None]:
        """Let no other process work on this run meanwhile; one that is about to end is waited for, so many seconds.

        Raises:
            BusyError: another process works on it.
        """
        handle, start = os.open(self.path, os.O_RDONLY), time.monotonic()
        try:
            while not _lock(handle):
                if time.monotonic() - start > patience:
                    raise BusyError(
                        f"{self.path}: another process is at work on this run; wait for it, or end it"
                    )
                time.sleep(0.05)
            yield
        finally:
            os.close(handle)

    def begin_anew(self) -> None:
        """Remove all that a run has left but its configuration, and what was said of its ends."""
        for name in _CONTENTS:
            if name not in ("config.yaml", "environment.json"):
                (self.path / name).unlink(missing_ok=True)
        for folder in (self.figures, self.checkpoints, self.profile):
            shutil.rmtree(folder, ignore_errors=True)
        self.logs.mkdir(exist_ok=True)

    def clear(self) -> None:
        """Remove all that a run has left; last what makes the directory that of a run."""
        for name in _FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in sorted(_CONTENTS, key=lambda name: name == "config.yaml"):
            (self.path / name).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove a run that came to nothing, with its directory."""
        self.clear()
        self.path.rmdir()

    def has_metrics(self) -> bool:
        """Whether an epoch was finished, or mini-batches of one were told."""
        return (self.path / "metrics.csv").exists() or self.has_minibatches()

    @property
    def logs(self) -> Path:
        """The folder of the ranks' logs."""
        return self.path / "logs"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def profile(self) -> Path:
        """The folder of the timelines, where they were asked for."""
        return self.path / "profile"

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.path / "figures"

    def append_epoch(self, row: EpochRow, seconds: float) -> None:
        """Add a line to ``metrics.csv``, and to ``timing.csv`` the `seconds` since training began.

        Floats have 17 significant digits, which read back exactly.
        """
        columns = row.columns()
        self._append("metrics.csv", [*columns], [_exact(columns.values())])
        self._append("timing.csv", ["epoch", "seconds"], [[row.epoch, f"{seconds:.3f}"]])

    def read_metrics(self) -> list[EpochRow]:
        """The rows of ``metrics.csv``.

        Raises:
            OSError, ValueError, TypeError, LookupError: it is not there or damaged.
        """
        kinds: dict[str, Any] = {f.name: float if f.type == "float" else int for f in fields(EpochRow)[:-1]}
        with (self.path / "metrics.csv").open(newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            measure = found_in(table.fieldnames or ())
            if measure is None:
                return []
            names = {measure.column(name): name for name in kinds}
            lines = [{names[column]: text for column, text in line.items()} for line in table]
        return [
            EpochRow(**{name: kinds[name](text) for name, text in line.items()}, measure=measure)
            for line in lines
        ]

    def append_minibatches(self, rows: Sequence[MinibatchRow]) -> None:
        """Add lines to ``minibatches.csv``; the first ones settle which baselines have a column.

        Floats have 17 significant digits; the cell of a baseline is empty where it was not evaluated.

        Raises:
            ValueError: a row has a baseline without a column, or another measure.
        """
        if not rows:
            return
        file = self.path / "minibatches.csv"
        if file.exists():
            measure, names = read_header(file)
        else:
            measure, names = rows[0].measure, [*dict.fromkeys(name for row in rows for name in row.baselines)]
        for row in rows:
            if row.measure != measure or not {*row.baselines} <= {*names}:
                found = ", ".join((row.measure.train, *row.baselines))
                raise ValueError(
                    f"{file}: has columns for {', '.join((measure.train, *names))}, but mini-batch {row.minibatch} "
                    f"has {found}; name all baselines in the first rows, with NaN where one was not evaluated"
                )
        self._append(
            file.name, ["minibatch", measure.train, *names], [_exact(row.columns(names)) for row in rows]
        )

    def has_minibatches(self) -> bool:
        """Whether there is a ``minibatches.csv``."""
        return (self.path / "minibatches.csv").exists()

    def read_minibatches(self) -> list[MinibatchRow]:
        """The rows of ``minibatches.csv``, without one that is being written.

        Raises:
            OSError, ValueError: it is not there or damaged.
        """
        return read_minibatches(self.path / "minibatches.csv")

    def append_connectivity(self, row: Connectivity) -> None:
        """Add a line to ``connectivity.csv``."""
        columns = cells(row)
        self._append("connectivity.csv", [*columns], [_exact(columns.values())])

    def read_connectivity(self) -> list[Connectivity]:
        """The rows of ``connectivity.csv``; none without one, since the network does not move.

        Raises:
            OSError, ValueError, LookupError: it is damaged.
        """
        file = self.path / "connectivity.csv"
        return connectivity.read(file) if file.exists() else []

    def write_baselines(self, method: str, outcome: Outcome) -> None:
        """Write ``baselines.csv``, if other methods were compared with: a line for the run's own `method`, and one for
        each of them. ``train`` is the mean over the mini-batches on which a method was evaluated, ``train_of_run`` the
        run's own over the same ones."""
        means = averages(self.read_minibatches()) if self.has_minibatches() else {}
        names = dict.fromkeys([*means, *outcome.test_baselines])
        if not names:
            return
        with np.errstate(all="ignore"):  # where it diverged
            own = float(np.mean([row.train for row in outcome.rows]))
        rows: list[list[float | None]] = [[own, own, outcome.rows[-1].test]]
        for name in names:
            found = means.get(name)
            rows.append([found and found.mean, found and found.own, outcome.test_baselines.get(name)])
        header = ["method", "train", "train_of_run", "test"]
        self._write_csv(
            "baselines.csv",
            header,
            ([name, *_exact(row)] for name, row in zip([method, *names], rows, strict=True)),
        )

    def read_test_baselines(self) -> dict[str, float]:
        """What other methods reach on the test samples, by name; empty without ``baselines.csv``.

        Raises:
            OSError, ValueError, LookupError: it is damaged.
        """
        if not (self.path / "baselines.csv").exists():
            return {}
        with (self.path / "baselines.csv").open(newline="", encoding="utf-8") as stream:
            _, *lines = csv.DictReader(stream)  # the first one is the run itself
        return {line["method"]: float(line["test"]) for line in lines if line["test"]}

    def read_timing(self) -> list[float]:
        """Seconds from the start of training to the end of each epoch, from ``timing.csv``."""
        with (self.path / "timing.csv").open(newline="", encoding="utf-8") as stream:
            return [float(row["seconds"]) for row in csv.DictReader(stream)]

    def write_ledger(self, ledger: Ledger) -> None:
        """Write ``ledger.csv``: a line per phase (field ``all``) and per field of it, and the physical sends."""
        rows: list[tuple[str, str, Count]] = []
        for phase, total in ledger.total.items():
            rows.append((phase, "all", total))
            rows += [(phase, kind, count) for (where, kind), count in ledger.fields.items() if where == phase]
        physical = Count(link_messages=ledger.physical_messages, link_bytes=ledger.physical_bytes)
        rows.append(("physical", "mpi", physical))
        names = [field.name for field in fields(Count)]
        self._write_csv(
            "ledger.csv", ["phase", "field", *names], ((p, f, *asdict(c).values()) for p, f, c in rows)
        )

    def read_ledger(self) -> list[dict[str, Any]]:
        """The lines of ``ledger.csv``."""
        with (self.path / "ledger.csv").open(newline="", encoding="utf-8") as stream:
            return [
                {key: value if key in ("phase", "field") else int(value) for key, value in row.items()}
                for row in csv.DictReader(stream)
            ]

    def write_theta(self, theta: NDArray[np.float64]) -> None:
        """Write ``theta.npz``: `theta` [V, p]."""
        np.savez(self.path / "theta.npz", theta=theta)

    def remove_theta(self) -> None:
        """Remove ``theta.npz``, if it is there."""
        (self.path / "theta.npz").unlink(missing_ok=True)

    def write_held_out(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Write ``heldout.npz``, if there is something: the graphs and samples that are tested on."""
        if arrays:
            named: dict[str, Any] = arrays
            np.savez_compressed(self.path / "heldout.npz", **named)

    def write_network(self, graph: Graph, node_loss: NDArray[np.float64]) -> None:
        """Write ``network.npz``: the last topology, and the measure of each node on the test samples."""
        arrays: dict[str, Any] = {"indptr": graph.indptr, "indices": graph.indices, "weights": graph.weights}
        if graph.positions is not None:
            arrays["positions"] = graph.positions
        if graph.labels is not None:
            arrays["labels"] = np.array(graph.labels, dtype=np.str_)
        np.savez(self.path / "network.npz", node_loss=node_loss, **arrays)

    def read_network(self) -> tuple[Graph, NDArray[np.float64]]:
        """The last topology, and the measure of each node on the test samples [V].

        Raises:
            OSError, ValueError, KeyError, zipfile.BadZipFile: the file is not there or damaged.
        """
        with np.load(self.path / "network.npz", allow_pickle=False) as stored:
            labels = tuple(str(label) for label in stored["labels"]) if "labels" in stored else None
            positions = stored.get("positions")
            graph = Graph(stored["indptr"], stored["indices"], stored["weights"], labels, positions)
            node_loss = stored["node_loss"]
        _check_network(graph, node_loss)
        return graph, node_loss

    def _append(self, name: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        file = self.path / name
        new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerows([header, *rows] if new else rows)

    def _write_csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        with (self.path / name).open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _exact(values: Iterable[int | float | None]) -> list[Any]:
    """Cells; floats with 17 significant digits."""
    return [f"{value:.17g}" if isinstance(value, float) else value for value in values]


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse an output directory in which something would be lost.

    Raises:
        InputError: it exists and `overwrite` is not set, or holds something that no run wrote.
    """
    present = contents(path)
    foreign = [name for name in present if name not in (*_CONTENTS, *_FOLDERS)]
    if present and "config.yaml" not in present:  # every run has one
        foreign = foreign or present
    if foreign:
        raise InputError(f"--out {path}: holds '{foreign[0]}', which is not a run's; name another directory")
    if present and not overwrite:
        raise InputError(f"--out {path}: already holds a run; name another directory or add --overwrite")


def _check_network(graph: Graph, node_loss: NDArray[Any]) -> None:
    """Refuse arrays that are no graph: compiled code would go where they point."""
    indptr, indices, n = graph.indptr, graph.indices, len(graph.indptr) - 1
    fits = (
        indptr.dtype.kind == indices.dtype.kind == "i"
        and indptr.ndim == indices.ndim == 1
        and n >= 1
        and indptr[0] == 0
        and indptr[-1] == len(indices) == len(graph.weights)
        and bool((np.diff(indptr) >= 0).all())
        and (len(indices) == 0 or 0 <= indices.min() <= indices.max() < n)
        and graph.weights.dtype.kind == node_loss.dtype.kind == "f"
        and node_loss.shape in ((n,), (0,))
        and (graph.positions is None or graph.positions.shape == (n, 2))
        and (graph.labels is None or len(graph.labels) == n)
    )
    if not fits:
        raise ValueError("network.npz holds no graph")


def is_complete(path: Path) -> bool:
    """Whether the run in `path` went to its end, or to where its configuration let it stop early."""
    try:
        content = json.loads((path / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or half written
        return False
    outcome = content.get("outcome") if isinstance(content, dict) else None
    return isinstance(outcome, str) and (outcome == COMPLETE or outcome.startswith(STOPPED))


def resumptions(path: Path) -> list[Any]:
    """What ``environment.json`` says of how often, and where, the run in `path` was resumed."""
    try:
        content = json.loads((path / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    found = content.get("resumptions") if isinstance(content, dict) else None
    return found if isinstance(found, list) else []


def write_json(file: Path, content: Any) -> None:
    """Write `content` as an indented JSON file, as a whole or not at all."""
    unfinished = file.with_name(f".{file.name}.writing")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(file)
