"""The figures that a sweep file asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fdtrain import figures
from fdtrain.measure import Measure, found_in
from fdtrain.rundir import RunDirectory
from fdtrain.sweep.labels import describe
from fdtrain.sweep.minibatches import Curves, levels
from fdtrain.sweep.plan import Sweep
from fdtrain.sweep.schema import Figure

Array = NDArray[np.float64]
Curve = tuple[Array, Array]

NAMES = {
    "epochs": "epoch",
    "rounds": "message-passing rounds",
    "bytes": "bytes over all links",
    "minibatches": "mini-batch",
    "mean_degree": "mean degree",
    "epochs_to_recover": "epochs until it has recovered",
    "spectral_gap": r"spectral gap, $1-|\lambda_2|$",
}


def draw(sweep: Sweep, frame: pl.DataFrame, out: Path) -> list[Path]:
    """Draw the sweep's figures into ``figures/`` of `out`; those for which there is no complete run are left out."""
    complete = frame.filter(pl.col("status") == "complete")
    if not sweep.config.figures or complete.is_empty():
        return []
    (out / "figures").mkdir(exist_ok=True)
    written = []
    for figure in sweep.config.figures:
        file = out / "figures" / f"{figure.name}.png"
        chosen = complete
        for axis, among in figure.where.items():
            chosen = chosen.filter(pl.col(axis).is_in(among))
        if not chosen.is_empty() and _draw(sweep, chosen, out, figure, file):
            written.append(file)
    return written


def _draw(sweep: Sweep, chosen: pl.DataFrame, out: Path, figure: Figure, file: Path) -> bool:
    """Draw a figure of the chosen runs; whether there was something to draw."""
    final = figure.kind != "curves"
    names = (figure.xlabel or _name(figure.x, final=final), figure.ylabel or _name(figure.y, final=final))
    if figure.kind == "curves":
        found, more = _curves(sweep, chosen, out, figure)
        figures.draw_comparison(file, found, *names, **more)
        return True
    shown = {"x": _measure(figure.x), "y": _measure(figure.y)}
    linear = "".join(side for side, one in shown.items() if one is not None and not one.logarithmic)
    if figure.kind == "scatter":
        points = scatter(sweep, chosen, figure)
        if points:
            figures.draw_scatter(file, points, *names, linear)
        return bool(points)
    drawn, notes = lines(sweep, chosen, figure)
    if drawn:
        figures.draw_lines(file, drawn, *names, linear, notes=notes)
    return bool(drawn)


def _curves(
    sweep: Sweep, chosen: pl.DataFrame, out: Path, figure: Figure
) -> tuple[list[figures.Series], dict[str, Any]]:
    """What is drawn of a figure's runs, and beside them."""
    measure, groups = _measure(figure.y), _groups(sweep, chosen)
    more: dict[str, Any] = {"rises": measure is not None and not measure.falls}
    if figure.along_minibatches:
        along = Curves(sweep.config, out)
        found = along.of_runs(groups, figure.y)
        if measure is not None and figure.y == measure.train:
            more |= {"lower": along.beside_nearest(groups), "beside": along.of_baselines(chosen)}
            more["values"] = "average"
        more["note"] = along.note
    else:
        found, more["note"] = series(sweep, chosen, out, figure)
    if measure is None:
        return found, more
    if figure.y == measure.test:
        more["levels"] = levels(sweep.config, chosen)
    column = "published_train" if figure.y == measure.train else "published_test"
    known = [{row.get(column) for row in rows} for _, rows in groups]
    return [
        replace(one, published=next(iter(values)) if len(values) == 1 else None)
        for one, values in zip(found, known, strict=True)
    ], more


def _name(column: str, *, final: bool) -> str:
    """How an axis is called that shows a column of the table, or that measure along the training."""
    name, at, epoch = column.partition("_at_")
    measure = found_in([name])
    metric = measure is not None or name == "disagreement"
    when = f" after epoch {epoch}" if at else " at the end" if final and metric else ""
    if measure is None:
        return NAMES.get(name, name.replace("_", " ")) + when
    side = "training" if name == measure.train else "test"
    return measure.with_unit(f"{side} {measure.title}{when}")


def _measure(column: str) -> Measure | None:
    """The measure that a column of the table shows, itself or early in the training."""
    return found_in([column.partition("_at_")[0]])


def series(
    sweep: Sweep, complete: pl.DataFrame, out: Path, figure: Figure
) -> tuple[list[figures.Series], str]:
    """A series per combination of labels, with its repetitions as runs, and what has to be said about them.

    What never sends has no rounds and no bytes: against them it goes along with the first of the longest runs
    that do, epoch by epoch.
    """
    found = []
    for labels, rows in _groups(sweep, complete):
        read = [_read(out / row["directory"], figure) for row in rows]
        sends = any(row["rounds"] for row in rows)
        found.append(figures.Series(describe(labels) or sweep.config.name, read, sends))
    talking = [(len(x), -place, x) for place, one in enumerate(found) if one.sends for x, _ in one.runs]
    if figure.x not in ("rounds", "bytes") or not talking or all(one.sends for one in found):
        return found, ""
    _, place, clock = max(talking, key=lambda entry: entry[:2])
    note = f"dashed: centralized, sends nothing; drawn at the {figure.x} of {found[-place].label}"
    return [one if one.sends else _along(one, clock) for one in found], note


def _along(silent: figures.Series, clock: Array) -> figures.Series:
    runs = [(clock[: len(y)], y[: len(clock)]) for _, y in silent.runs]
    return figures.Series(silent.label, runs, sends=False)


def _read(path: Path, figure: Figure) -> Curve:
    run = RunDirectory(path)
    rows = run.read_metrics()
    name = {"epochs": "epoch"}.get(figure.x, figure.x)
    x = run.read_timing() if name == "seconds" else [row.columns()[name] for row in rows]
    return np.array(x, np.float64), np.array([row.columns()[figure.y] for row in rows], np.float64)


def scatter(sweep: Sweep, complete: pl.DataFrame, figure: Figure) -> list[figures.Point]:
    """A point per combination of labels, the mean over its repetitions, where both columns have values."""
    points = []
    for labels, rows in _groups(sweep, complete):
        values = [(row[figure.x], row[figure.y]) for row in rows]
        known = np.array([pair for pair in values if None not in pair], np.float64)
        if len(known):
            group = labels.get(figure.colour or "", "")
            rest = {axis: label for axis, label in labels.items() if axis != figure.colour}
            x, y = known.mean(axis=0)
            spread = known.std(axis=0, ddof=1) if len(known) > 1 else np.zeros(2)
            text = describe(rest)
            points.append(
                figures.Point(text, float(x), float(y), (float(spread[0]), float(spread[1])), group)
            )
    return points


def lines(sweep: Sweep, complete: pl.DataFrame, figure: Figure) -> tuple[list[figures.Line], Sequence[str]]:
    """A line per combination of labels but those of the axis x, means over the repetitions; what has to be said."""
    found: dict[tuple[str, ...], list[tuple[float, float, float]]] = {}
    texts: dict[tuple[str, ...], tuple[str, str]] = {}
    partly = []
    alike = {axis for axis in sweep.config.groups if complete[axis].n_unique() == 1}
    for labels, rows in _groups(sweep, complete):
        rest = {axis: label for axis, label in labels.items() if axis != figure.x}
        known = np.array([row[figure.y] for row in rows if row[figure.y] is not None], np.float64)
        name = (
            describe({axis: label for axis, label in rest.items() if axis not in alike}) or sweep.config.name
        )
        if len(known) < len(rows):
            partly.append(f"{name}, {figure.x} {labels[figure.x]}: {len(known)} of {len(rows)}")
        if len(known):
            key = tuple(rest.values())
            texts[key] = name, rest.get(figure.colour or "", "")
            spread = float(known.std(ddof=1)) if len(known) > 1 else 0.0
            found.setdefault(key, []).append((float(labels[figure.x]), float(known.mean()), spread))
    drawn = []
    for key, points in found.items():
        x, y, spread = np.array(sorted(points)).T
        drawn.append(figures.Line(texts[key][0], x, y, spread, texts[key][1]))
    return drawn, ["not all repetitions have a value: " + "; ".join(partly)] if partly else []


def _groups(sweep: Sweep, complete: pl.DataFrame) -> list[tuple[dict[str, str], Sequence[dict[str, Any]]]]:
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in complete.iter_rows(named=True):
        groups.setdefault(tuple(row[axis] for axis in sweep.config.groups), []).append(row)
    return [(dict(zip(sweep.config.groups, labels, strict=True)), rows) for labels, rows in groups.items()]
