"""A sweep's results: one line per point, and their summary over the repetitions."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import polars as pl

from fdtrain import reference
from fdtrain.config import Config
from fdtrain.experiment import mixing_rule
from fdtrain.minibatches import averages
from fdtrain.outputs import writing
from fdtrain.rundir import RunDirectory, is_complete
from fdtrain.sweep.compared import add_differences, add_recovery, pairs
from fdtrain.sweep.plan import Point, Sweep
from fdtrain.sweep.schema import MISSING, NETWORK, PUBLISHED, RECOVERY, TARGET, SweepConfig
from fdtrain.topology import diameter, spectral_gap

WHOLE = {"epochs", "rounds", "messages", "bytes", "nodes", "edges", "diameter", *TARGET, *RECOVERY, *MISSING}
TABLES = ("table.csv", "table.parquet", "summary.csv")
Row = dict[str, Any]

# What reading the files of a run raises when they are not there, cut off, or something else.
DAMAGED = (
    OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError,
    csv.Error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def failure_file(out: Path, point: Point) -> Path:
    """Where it stands why a point's run failed, in the first line."""
    return out / "failures" / f"{Path(point.directory).name}.txt"


class Results:
    """The table of the sweep in `out`, kept up to date while its runs finish."""

    def __init__(self, sweep: Sweep, out: Path) -> None:
        self._sweep = sweep
        self._out = out
        self._complete: dict[str, Row] = {}  # by directory: read once
        self._metric: dict[str, list[float]] = {}  # by directory: that which has to recover, after each epoch
        self._kinds = {axis: sweep.config.kind(axis) for axis in sweep.config.axes}

    def status(self, point: Point) -> str:
        """complete, failed or missing."""
        if point.error is not None:
            return "failed"
        found = self._read(point)
        if isinstance(found, dict):
            return "complete"
        return "failed" if found or failure_file(self._out, point).is_file() else "missing"

    def reason(self, point: Point) -> str | None:
        """Why the point failed, on one line."""
        if point.error is not None:
            return point.error
        found = self._read(point)
        if isinstance(found, str):
            return found
        try:
            return failure_file(self._out, point).read_text(encoding="utf-8").partition("\n")[0]
        except OSError:
            return None

    def frame(self) -> pl.DataFrame:
        """The table, in the order of the points.

        The numbers of a run that has failed, or is missing, are null: what it had reached is no result, and how far
        it went stands in `error`.
        """
        rows = [self._row(point) for point in self._sweep.points]
        if self._sweep.config.baseline:
            found = [*pairs(rows, self._sweep.points, self._sweep.config)]
            add_differences(found, self._sweep.config)
            add_recovery(found, self._sweep.config, self._metric_of)
        return pl.DataFrame(rows, schema=schema(self._sweep.config))

    def write(self) -> None:
        """Write ``table.csv``, ``table.parquet`` and ``summary.csv``; each is whole at any time.

        Raises:
            InputError: they cannot be written.
        """
        frame = self.frame()
        summary, parquet = summarize(frame, self._sweep.config), io.BytesIO()
        frame.write_parquet(parquet)
        contents = (frame.write_csv().encode(), parquet.getvalue(), summary.write_csv().encode())
        with writing(f"--out {self._out}"):
            for name, content in zip(TABLES, contents, strict=True):
                atomically(self._out / name, content)

    def damaged(self) -> list[tuple[Point, str]]:
        """The points whose runs came to their end but cannot be read, and why."""
        found = [(point, self._read(point)) for point in self._sweep.points]
        return [(point, reason) for point, reason in found if isinstance(reason, str)]

    def _read(self, point: Point) -> Row | str | None:
        """What the table says of a complete run, why it cannot be read, or None where the run is not complete."""
        if point.config is None:
            return None
        path = self._out / point.directory
        if point.directory not in self._complete:
            if not is_complete(path):
                return None
            try:
                self._complete[point.directory] = _measure(path, point.config, self._sweep.config)
            except DAMAGED as error:
                problem = " ".join(str(getattr(error, "strerror", None) or error or "is empty").split())
                file = getattr(error, "filename", None)
                named = f"{Path(file).name}: {problem}" if isinstance(file, str) else problem
                return f"its files cannot be read: {named}"
        return self._complete[point.directory]

    def _metric_of(self, point: Point) -> list[float]:
        recovery = self._sweep.config.recovery
        if point.directory not in self._metric and recovery is not None:
            rows = RunDirectory(self._out / point.directory).read_metrics()
            self._metric[point.directory] = [row.columns()[recovery.metric] for row in rows]
        return self._metric[point.directory]

    def _row(self, point: Point) -> Row:
        row: Row = {axis: kind(point.labels[axis]) for axis, kind in self._kinds.items()}
        row |= {**point.published, "status": self.status(point)}
        row["directory"] = None if point.error else point.directory
        if row["status"] == "failed":
            row["error"] = self.reason(point)
        elif row["status"] == "complete":
            row |= self._complete[point.directory]
        return row


def schema(sweep: SweepConfig) -> dict[str, Any]:
    """The columns of the table, and their types; those of an axis are numbers where all its labels are."""
    types = {int: pl.Int64, float: pl.Float64, str: pl.String}
    columns: dict[str, Any] = {axis: types[sweep.kind(axis)] for axis in sweep.axes}
    columns["status"] = pl.String
    columns |= {name: pl.Int64 if name in WHOLE else pl.Float64 for name in sweep.measures}
    return {**columns, "error": pl.String, "directory": pl.String}


def labelled(frame: pl.DataFrame, sweep: SweepConfig) -> pl.DataFrame:
    """A table or a summary with the labels themselves, as text, in place of the numbers that they stand for."""
    texts = []
    for axis in (axis for axis in sweep.axes if axis in frame.columns and sweep.kind(axis) is not str):
        label_of = {sweep.kind(axis)(label): label for label in sweep.axes[axis]}
        texts.append(pl.col(axis).replace_strict(label_of, return_dtype=pl.String))
    return frame.with_columns(texts)


def summarize(frame: pl.DataFrame, sweep: SweepConfig) -> pl.DataFrame:
    """Mean, sample standard deviation (null for one run) and number of complete runs over the repetitions.

    Epochs and rounds to the target are averaged over the `n_reached` runs that reach it, epochs to recover over the
    `n_recovered` ones.
    """
    complete = pl.col("status") == "complete"
    columns = [
        complete.sum().cast(pl.Int64).alias("n"),
        (pl.col("status") == "failed").sum().cast(pl.Int64).alias("failed"),
    ]
    for name in sweep.averaged:
        columns += [pl.col(name).mean().alias(f"{name}_mean"), pl.col(name).std().alias(f"{name}_std")]
    if sweep.target is not None:
        columns.append(pl.col(TARGET[0]).count().cast(pl.Int64).alias("n_reached"))
    if sweep.recovery is not None:
        columns.append(pl.col(RECOVERY[0]).count().cast(pl.Int64).alias("n_recovered"))
    columns += [pl.col(name).first() for name in sweep.measures if name in PUBLISHED]
    if not sweep.groups:
        return frame.select(columns)
    return frame.group_by(list(sweep.groups), maintain_order=True).agg(columns)


def _measure(path: Path, config: Config, sweep: SweepConfig) -> Row:
    """What the table says about a complete run.

    Raises:
        One of DAMAGED: its files cannot be read.
    """
    run = RunDirectory(path)
    rows, seconds, (graph, _) = run.read_metrics(), run.read_timing(), run.read_network()
    if not rows or len(rows) != len(seconds):
        raise ValueError(f"metrics.csv has {len(rows)} epochs, timing.csv {len(seconds)}")
    last, measure = rows[-1], sweep.measure
    if last.measure != measure:
        raise ValueError(f"metrics.csv has the column {last.measure.train}, not {measure.train}")
    row: Row = {name: value for name, value in last.columns().items() if name != "epoch"}
    row |= {"epochs": last.epoch, "seconds": seconds[-1], **dict.fromkeys(MISSING, 0)}
    if config.channel is not None:
        total = next(line for line in run.read_ledger() if (line["phase"], line["field"]) == ("train", "all"))
        row |= {name: total[name] for name in MISSING}
    gap = (
        spectral_gap(reference.mixing_matrix(graph.adjacency(), *mixing_rule(config)))
        if last.rounds
        else None
    )
    network = (graph.num_nodes, graph.num_edges, float(graph.degrees.mean()), diameter(graph), gap)
    row |= dict(zip(NETWORK, network, strict=True))
    if sweep.reads_minibatches and run.has_minibatches():
        found = averages(run.read_minibatches())
        row |= {name: found[name].mean for name in sweep.baselines if name in found}
    if sweep.tested:
        tested = {f"{name}_test": value for name, value in run.read_test_baselines().items()}
        known = (column for column in sweep.tested if not math.isnan(tested.get(column, math.nan)))
        row |= {column: tested[column] for column in known}
    if sweep.target is not None:
        target = sweep.target
        rises = target.metric in measure.columns and not measure.falls
        values = [one.columns()[target.metric] for one in rows]
        good = [value >= target.value if rises else value <= target.value for value in values]
        reached = rows[good.index(True)] if True in good else None
        at = (None, None) if reached is None else (reached.epoch, reached.rounds)
        row |= dict(zip(TARGET, at, strict=True))
    for epoch in sweep.snapshots:
        for metric in sweep.metrics:
            row[f"{metric}_at_{epoch}"] = rows[epoch - 1].columns()[metric] if epoch <= len(rows) else None
    return row


def atomically(file: Path, content: bytes) -> None:
    """Write `file` such that nobody ever sees a part of it."""
    scratch = file.with_name(f".{file.name}.new")
    try:
        scratch.write_bytes(content)
        os.replace(scratch, file)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise
