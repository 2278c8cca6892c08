"""The metrics of all runs as data for the page's curves, which curves.js draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fdtrain.report.compare import Group
from fdtrain.report.read import Run, finite

X = {"epoch": "epochs", "rounds": "rounds", "bytes": "bytes over links", "seconds": "seconds"}
X_KEYS = {"epoch": "epochs"}  # in the address of the page
Y = {"mse_test": "test MSE", "mse_train": "train MSE", "disagreement": "disagreement"}
MAX_POINTS = 60_000  # of all runs together; beyond it epochs are left out


def curves(runs: Sequence[Run], groups: Sequence[Group]) -> dict[str, Any]:
    """Every run's metrics by column, and what the selectors offer."""
    step = -(-sum(run.epochs for run in runs) // MAX_POINTS)
    columns = [name for name in X if any(name in run.metrics for run in runs)]
    measures = list(dict.fromkeys(name for run in runs for name in run.metrics))
    measures = [name for name in measures if name not in (*X, "messages")]
    return {
        "x": [{"key": X_KEYS.get(name, name), "column": name, "label": X[name]} for name in columns],
        "y": [{"key": name, "label": Y.get(name, name.replace("_", " "))} for name in _ordered(measures)],
        "step": step,
        "groups": [{"label": one.label, "members": one.members} for one in groups],
        "runs": [
            {
                "label": run.label,
                "silent": run.silent,
                "status": run.status,
                "columns": {name: _thin(values, step) for name, values in run.metrics.items()},
            }
            for run in runs
        ],
    }


def _ordered(measures: Sequence[str]) -> list[str]:
    known = list(Y)
    return sorted(measures, key=lambda name: known.index(name) if name in known else len(known))


def _thin(values: Sequence[float], step: int) -> list[float | None]:
    """Every `step`-th value, the last in any case, at nine digits; None for what is not finite."""
    last = len(values) - 1
    kept = [finite(value) for k, value in enumerate(values) if k % step == 0 or k == last]
    return [None if v is None else int(v) if v.is_integer() else float(f"{v:.9g}") for v in kept]
