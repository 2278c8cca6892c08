"""Reading a run for a report: whatever is there, and a note on whatever is not."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from fdtrain.errors import InputError
from fdtrain.figures.canvas import EXTREME
from fdtrain.graph import Graph
from fdtrain.ledger import Count
from fdtrain.measure import MSE, Measure, found_in
from fdtrain.minibatches import MinibatchRow
from fdtrain.rundir import STOPPED, RunDirectory, is_complete
from fdtrain.service import EpochRow

T = TypeVar("T")

_MISSING = " is missing"


@dataclass
class Run:
    """One run as its files tell it; None for what they do not."""

    path: Path
    label: str
    metrics: dict[str, list[float]]  # by column of metrics.csv, with "seconds" where they are known
    config: dict[str, Any]
    config_text: str
    environment: dict[str, Any]
    ledger: list[dict[str, Any]] | None = None
    verification: list[dict[str, Any]] | None = None
    network: tuple[Graph, NDArray[np.float64]] | None = None
    notes: list[str] = field(default_factory=list)
    axes: dict[str, str] = field(default_factory=dict)  # of a sweep
    published: dict[str, float] = field(default_factory=dict)  # the measure by "train", "test": of a sweep
    minibatches: list[MinibatchRow] = field(default_factory=list)
    test_baselines: dict[str, float] = field(default_factory=dict)  # of other methods

    @property
    def measure(self) -> Measure:
        """What its task is measured by."""
        return found_in(self.metrics) or MSE

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.metrics["epoch"])

    @property
    def planned(self) -> int | None:
        """Epochs that the configuration asks for."""
        planned = self.setting("training.epochs")
        return planned if isinstance(planned, int) else None

    @property
    def silent(self) -> bool:
        """Whether the run sent nothing, as a centralized one."""
        if not self.epochs:
            return bool(self.setting("training.mode") == "centralized")
        return not any(self.metrics.get("rounds", ())) and not any(self.metrics.get("bytes", ()))

    @property
    def status(self) -> str:
        """``complete``, ``stopped early``, ``incomplete`` or ``diverged``."""
        measures = [values for name, values in self.metrics.items() if name != "seconds"]
        if not all(abs(value) < EXTREME for values in measures for value in values):
            return "diverged"
        if "outcome" in self.environment:
            ended = STOPPED if str(self.environment["outcome"]).startswith(STOPPED) else "complete"
            return ended if is_complete(self.path) else "incomplete"
        finished = (self.path / "theta.npz").is_file() and self.epochs >= (self.planned or 0)
        return "complete" if finished and self.environment else "incomplete"  # of a version without outcomes

    def setting(self, key: str) -> Any:
        """A value of the configuration by its dotted key, None where there is none."""
        found: Any = self.config
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def last(self, column: str) -> float | None:
        """The value of `column` after the last epoch."""
        values = self.metrics.get(column)
        return values[-1] if values else None


def read_run(path: Path, label: str) -> Run:
    """The run in `path`.

    Raises:
        InputError: it holds none, or neither a finished epoch nor a mini-batch.
    """
    directory = RunDirectory(path)
    notes: list[str] = []
    if not (path / "config.yaml").is_file():
        raise InputError(f"report: {path}: is not the directory of a run: it holds no config.yaml")
    minibatches: list[MinibatchRow] = []
    if directory.has_minibatches():
        minibatches = _attempt("minibatches.csv", directory.read_minibatches, notes) or []
    if minibatches and not (path / "metrics.csv").exists():
        metrics: dict[str, list[float]] = {name: [] for name in _columns(minibatches[0].measure)}
        notes.append(f"no epoch is finished: this is what {len(minibatches):,} mini-batches tell")
    else:
        metrics = _read_metrics(path / "metrics.csv", notes)
    text = (path / "config.yaml").read_text(encoding="utf-8", errors="replace")
    config = _attempt("config.yaml", lambda: yaml.safe_load(text), notes)
    seconds = _attempt("timing.csv", directory.read_timing, notes)
    if seconds is not None and len(seconds) >= len(metrics["epoch"]):
        metrics["seconds"] = seconds[: len(metrics["epoch"])]
    elif seconds is not None:
        notes.append("timing.csv has fewer lines than metrics.csv: no curves against seconds")
    environment = _attempt("environment.json", lambda: _read_json(path / "environment.json"), notes)
    run = Run(
        path,
        label,
        metrics,
        config if isinstance(config, dict) else {},
        text,
        environment or {},
        ledger=_attempt("ledger.csv", lambda: _read_ledger(directory), notes),
        network=_attempt("network.npz", directory.read_network, notes),
        notes=notes,
        minibatches=minibatches,
        test_baselines=_attempt("baselines.csv", directory.read_test_baselines, notes) or {},
    )
    if not (path / "theta.npz").is_file():
        notes.append(f"theta.npz{_MISSING}")
    if run.setting("training.mode") != "centralized":
        run.verification = _attempt("verify.json", lambda: _read_comparisons(path / "verify.json"), notes)
        if run.verification is None and not (path / "verify.json").exists():
            notes.pop()  # the page's section on it says so
    missing = [note.removesuffix(_MISSING) for note in notes if note.endswith(_MISSING)]
    if missing:
        notes[:] = [note for note in notes if not note.endswith(_MISSING)]
        notes.append(f"missing: {', '.join(missing)}")
    return run


def _columns(measure: Measure) -> list[str]:
    """Those of a ``metrics.csv``."""
    return [measure.column(one.name) for one in fields(EpochRow) if one.name != "measure"]


def _read_metrics(file: Path, notes: list[str]) -> dict[str, list[float]]:
    """The columns of ``metrics.csv``, up to the first line that is cut off."""
    columns: dict[str, list[float]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            table = csv.DictReader(stream)
            columns = {name: [] for name in table.fieldnames or ()}
            for line in table:
                values = {name: float(line[name]) for name in columns}
                for name, value in values.items():
                    columns[name].append(value)
    except (TypeError, ValueError, csv.Error):
        notes.append(f"metrics.csv cannot be read from line {len(columns.get('epoch', ())) + 2} on")
    except OSError:
        columns = {}
    if not columns.get("epoch"):
        raise InputError(f"report: {file.parent}: has no finished epoch in metrics.csv, nothing to show")
    return columns


def _read_json(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content


def _read_comparisons(file: Path) -> list[dict[str, Any]]:
    found = _read_json(file).get("comparisons")
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError("holds no comparisons")
    return found


def _read_ledger(directory: RunDirectory) -> list[dict[str, Any]]:
    lines = directory.read_ledger()
    needed = {"phase", "field", *(field.name for field in fields(Count))}
    if not lines or not all(needed <= line.keys() for line in lines):
        raise ValueError(f"needs lines with {', '.join(sorted(needed))}")
    return lines


def _attempt(name: str, read: Callable[[], T], notes: list[str]) -> T | None:
    try:
        return read()
    except FileNotFoundError:
        notes.append(f"{name}{_MISSING}")
    except Exception as error:  # whatever a damaged file makes its reader raise
        notes.append(f"{name} cannot be read: {' '.join(str(error).split())[:200]}")
    return None


def finite(value: float | None) -> float | None:
    """None for what no axis can show, as JSON has no NaN."""
    return value if value is not None and math.isfinite(value) and abs(value) < EXTREME else None
