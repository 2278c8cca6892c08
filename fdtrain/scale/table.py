"""The results of a study as tables: a line per point, and a line per point and rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from fdtrain.outputs import writing
from fdtrain.scale.fit import COEFFICIENTS, SYMBOLS, Fitted
from fdtrain.scale.measured import Measured, relative_errors
from fdtrain.scale.points import Point
from fdtrain.scale.study import AXES
from fdtrain.scale.work import FEATURES, sizes_of

POINTS, RANKS, MODEL = "scaling.csv", "ranks.csv", "model.json"
_UNITS = dict(zip(FEATURES, ("s", "s", "s/byte", "s", "s/flop", "s/number"), strict=True))


def points_frame(
    points: Sequence[Point], found: Sequence[Measured], mode: str, statistic: str = "median"
) -> pl.DataFrame:
    """A line per point, with what follows from the comparison with fewer ranks."""
    rows: list[dict[str, Any]] = []
    for point, measured in zip(points, found, strict=True):
        settings = _settings(point, measured)
        rows.append(
            {
                "mode": mode,
                "statistic": statistic,
                **settings,
                **measured.summary(statistic),
                **_features(measured),
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.Series(
            "efficiency", _efficiencies(points, [row["seconds"] for row in rows], mode), dtype=pl.Float64
        )
    )


def ranks_frame(points: Sequence[Point], found: Sequence[Measured]) -> pl.DataFrame:
    """A line per point and rank: its part of the network, its messages, and the medians of its times."""
    rows = [
        {**_settings(point, measured, total="all_nodes"), **line}
        for point, measured in zip(points, found, strict=True)
        for line in measured.rank_medians()
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def with_predictions(frame: pl.DataFrame, fitted: Fitted | None, kept: Sequence[int]) -> pl.DataFrame:
    """The points' frame with what the model says of each: of those that were fitted, numbers `kept`, alone."""
    columns: dict[str, list[float | None]] = {name: [None] * len(frame) for name in ("predicted", "left_out")}
    if fitted is not None:
        for place, predicted, left_out in zip(kept, fitted.predicted, fitted.left_out, strict=True):
            columns["predicted"][place], columns["left_out"][place] = float(predicted), float(left_out)
    return frame.with_columns(pl.Series(name, values, dtype=pl.Float64) for name, values in columns.items())


def write_tables(out: Path, points: pl.DataFrame, ranks: pl.DataFrame) -> None:
    """Write both into the study's directory."""
    with writing(f"--out {out}"):
        points.write_csv(out / POINTS)
        ranks.write_csv(out / RANKS)


def _settings(point: Point, measured: Measured, total: str = "nodes") -> dict[str, Any]:
    """The values of the axes; those that do not vary as the configuration has them, or its network."""
    config = point.config
    sizes = sizes_of(config)
    return {
        "ranks": point.ranks,
        total: measured.nodes,
        "degree": float(point.values["degree"] or 2 * measured.edges / measured.nodes),
        "hidden": sizes[1] if len(sizes) > 2 else None,
        "wave": min(config.training.wave, measured.samples),
    }


def _features(measured: Measured) -> dict[str, float]:
    return {f"model_{name}": measured.features[name] for name in FEATURES}


def _efficiencies(points: Sequence[Point], seconds: Sequence[float], mode: str) -> list[float | None]:
    """Of every point: against the fewest ranks with all else the same; None where there is no other."""
    found: list[float | None] = []
    for point, own in zip(points, seconds, strict=True):
        alike = [
            (other.ranks, time)
            for other, time in zip(points, seconds, strict=True)
            if all(other.values[axis] == point.values[axis] for axis in AXES[1:])
        ]
        ranks, time = min(alike)
        ideal = time * (1 if mode == "weak" else ranks / point.ranks)
        found.append(ideal / own if len(alike) > 1 else None)
    return found


def results_table(frame: pl.DataFrame) -> Table:
    """The points for a terminal."""
    table = Table(box=None, header_style="", padding=(0, 1, 0, 0), pad_edge=False)
    for heading in (
        "ranks", "nodes", "degree", "hidden", "wave", "ms per\nmini-batch", "µs per node\nand sample", "efficiency",
        "busy\nmax/mean", "waiting", "MB\nsent", "predicted /\nmeasured",
    ):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for row in frame.iter_rows(named=True):
        predicted = row["predicted"]
        table.add_row(
            f"{row['ranks']:,}",
            f"{row['nodes']:,}",
            f"{row['degree']:.2f}",
            "–" if row["hidden"] is None else f"{row['hidden']:,}",
            f"{row['wave']:,}",
            f"{1e3 * row['seconds']:.4g}{'*' if row['crowded'] else ''}",
            f"{1e6 / row['node_samples_per_second']:.3f}",
            "–" if row["efficiency"] is None else f"{100 * row['efficiency']:.0f} %",
            f"{row['imbalance']:.2f}",
            f"{100 * row['waiting']:.0f} %",
            f"{row['bytes'] / 1e6:.4g}",
            "–" if predicted is None else f"{predicted / row['seconds']:.2f}",
        )
    return table


def fit_lines(fitted: Fitted, seconds: Sequence[float]) -> list[str]:
    """The fit in words: its figures with their standard errors, and how far it is from what was measured."""
    machine, lines = fitted.machine, list[str]()
    assert machine.fit is not None
    for feature, name in COEFFICIENTS.items():
        value = getattr(machine, name)
        if name in machine.fit.deviations:
            deviation = machine.fit.deviations[name]
            told = (
                f"{value:.3g} ± {deviation:.1g} {_UNITS[feature]}"
                if value
                else "0: not told apart from the others"
            )
        else:
            told = "–: nothing of it in this study"
        lines.append(f"  {SYMBOLS[feature]}  {name:<13} {told}")
    errors = [abs(error) for error in relative_errors(list(fitted.predicted), seconds)]
    worst = max(errors)
    lines.append(
        f"  errors over {machine.fit.points} points: median {100 * machine.fit.median_error:.1f} %, largest "
        f"{100 * worst:.1f} %; of points left out of the fit: median {100 * machine.fit.left_out_median:.1f} %, "
        f"largest {100 * machine.fit.left_out_max:.1f} %"
    )
    return lines
