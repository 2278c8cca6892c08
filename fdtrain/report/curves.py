"""The metrics of all runs, by epoch and by mini-batch, as data for the page's curves, which curves.js draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fdtrain import minibatches
from fdtrain.figures.canvas import readable
from fdtrain.measure import MEASURES, found_in
from fdtrain.report.compare import Group
from fdtrain.report.read import Run, finite
from fdtrain.rundir import STOPPED

X = {"epoch": "epochs", "rounds": "rounds", "bytes": "bytes over links", "seconds": "seconds"}
X_KEYS = {"epoch": "epochs"}  # in the address of the page
MINIBATCHES = {"key": "minibatches", "column": "minibatches", "label": "mini-batches"}
Y = {
    measure.column(side): f"{side} {measure.title}"
    for measure in MEASURES.values()
    for side in ("test", "train")
} | {"disagreement": "disagreement"}
MAX_POINTS = 60_000  # of all runs together; beyond it epochs are left out
MAX_SINGLE = 4000  # single mini-batches behind the curves against them


def curves(runs: Sequence[Run], groups: Sequence[Group]) -> dict[str, Any]:
    """Every run's metrics by column, and what the selectors offer; against mini-batches first, where runs tell."""
    step = -(-sum(run.epochs for run in runs) // MAX_POINTS)
    columns = [name for name in X if any(name in run.metrics for run in runs)]
    names = list(dict.fromkeys(name for run in runs for name in run.metrics))
    names = [name for name in names if name not in (*X, "messages")]
    x = [{"key": X_KEYS.get(name, name), "column": name, "label": X[name]} for name in columns]
    return {
        "x": [MINIBATCHES, *x] if any(run.minibatches for run in runs) else x,
        "y": [_vertical(name) for name in _ordered(names)],
        "measures": [
            {"name": one.name, "title": one.title, "unit": one.unit, "train": one.train, "test": one.test}
            for one in dict.fromkeys(run.measure for run in runs)
        ],
        "step": step,
        "groups": [{"label": one.label, "members": one.members} for one in groups],
        "runs": [
            {
                "label": run.label,
                "silent": run.silent,
                "status": run.status,
                "columns": {name: _thin(values, step) for name, values in run.metrics.items()},
                "tested": _tested(run),
            }
            | ({"minibatches": _minibatches(run, alone=len(runs) == 1)} if run.minibatches else {})
            for run in runs
        ],
    }


def _tested(run: Run) -> list[dict[str, Any]]:
    """What other methods reach on the test samples."""
    known = {name: value for name, value in run.test_baselines.items() if finite(value) is not None}
    return [{"label": f"{minibatches.title(name)}, test {y:.4g}", "y": y} for name, y in known.items()]


def _vertical(name: str) -> dict[str, Any]:
    """What a selector offers: with the unit for the axis, and whether that is never logarithmic by itself."""
    measure = found_in([name])
    label = Y.get(name, name.replace("_", " "))
    if measure is None:
        return {"key": name, "label": label}
    return {"key": name, "label": label, "axis": measure.with_unit(label), "linear": not measure.logarithmic}


def _minibatches(run: Run, *, alone: bool) -> dict[str, Any]:
    """The running means of a run and of the baselines on its mini-batches; if it is `alone`, also single ones."""
    drawn, rows = minibatches.curves(run.minibatches), run.minibatches
    width, means = minibatches.shared_window(drawn), minibatches.averages(rows)
    whole = run.status in ("complete", STOPPED)  # otherwise an epoch may have been interrupted
    told: dict[str, Any] = {
        "column": run.measure.train,
        "window": width,
        "of_epoch": rows[-1].minibatch / run.epochs if whole and run.epochs else None,
        "baselines": [],
    }
    for name, (x, values) in drawn.items():
        at, y = minibatches.thinned(*minibatches.running_mean(x, readable(values), width), width)
        curve = {"x": _thin(at.tolist(), 1), "y": _thin(y.tolist(), 1)}
        if name:
            said = f"{minibatches.title(name)}, average {means[name].mean:.4g}"
            told["baselines"].append({"label": said, **curve})
            continue
        told |= curve
        if alone and width > 1:
            some = np.arange(0, len(x), -(-len(x) // MAX_SINGLE))
            told["single"] = {"x": _thin(x[some].tolist(), 1), "y": _thin(values[some].tolist(), 1)}
    return told


def _ordered(measures: Sequence[str]) -> list[str]:
    known = list(Y)
    return sorted(measures, key=lambda name: known.index(name) if name in known else len(known))


def _thin(values: Sequence[float], step: int) -> list[float | None]:
    """Every `step`-th value, the last in any case, at nine digits; None for what is not finite."""
    last = len(values) - 1
    kept = [finite(value) for k, value in enumerate(values) if k % step == 0 or k == last]
    return [None if v is None else int(v) if v.is_integer() else float(f"{v:.9g}") for v in kept]
