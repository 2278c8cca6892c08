"""``fdtrain scale``: from the study to its tables, figures and fitted model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from fdtrain.errors import InputError, RunFailedError, StoppedError
from fdtrain.outputs import contents, make_folder, writing
from fdtrain.scale import measured, pictures, table
from fdtrain.scale.fit import Fitted, fit
from fdtrain.scale.machines import write_machine
from fdtrain.scale.measured import Measured
from fdtrain.scale.points import Point, plan
from fdtrain.scale.study import Loaded

FOLDER = "points"
Measure = Callable[[Path, Path, int], None]  # (configuration, where to write, ranks)


def run_study(loaded: Loaded, out: Path, console: Console, measure: Measure, *, figures: bool) -> int:
    """Measure what is missing of a study into the directory `out`, and make of all of it tables, figures and a fit.

    `measure` does so for one configuration. A point that fails is told, and the others go on.

    Returns:
        The exit status: 0, or 1 where a point has failed.

    Raises:
        InputError: the study or `out` cannot be used.
    """
    points, scaling = plan(loaded), loaded.study.scaling
    _check_out(out)
    with writing(f"--out {out}"):
        make_folder(out / FOLDER)
    failed = list[str]()
    for visit in range(1, scaling.visits + 1):
        for number, point in enumerate(points, start=1):
            if _kept(out, point, loaded, visit) is not None:
                continue
            at = f"{number} of {len(points)}" + (f", visit {visit}" if scaling.visits > 1 else "")
            console.print(f"point {at}: {point.title}", markup=False, soft_wrap=True)
            problem = _measure_point(out, point, visit, measure)
            if problem is not None:
                failed.append(point.title)
                console.print(f"failed: {problem}", markup=False, soft_wrap=True)
    found = [
        (point, visits)
        for point in points
        if (
            visits := [
                m for v in range(scaling.visits) if (m := _kept(out, point, loaded, v + 1)) is not None
            ]
        )
    ]
    if not found:
        raise RunFailedError("scale: no point could be measured")
    _conclude(
        loaded, [p for p, _ in found], [measured.joined(v) for _, v in found], out, console, figures=figures
    )
    return int(bool(failed))


def show_plan(loaded: Loaded, out: Path, console: Console) -> int:
    """Say what :func:`run_study` would measure, and write every point's configuration into `out`."""
    points = plan(loaded)
    _check_out(out)
    with writing(f"--out {out}"):
        make_folder(out / FOLDER)
        for point in points:
            _settings_file(out, point).write_text(point.config.to_yaml(), encoding="utf-8")
            state = "measured" if _kept(out, point, loaded, 1) is not None else "missing"
            console.print(
                f"{state}: {_settings_file(out, point)} on {point.ranks} ranks", markup=False, soft_wrap=True
            )
    return 0


def identity(text: str, ranks: int, warmup: int, repeats: int) -> dict[str, Any]:
    """What a measurement is of; `text` is its configuration."""
    return {"config": text, "ranks": ranks, "warmup": warmup, "repeats": repeats}


def _measure_point(out: Path, point: Point, visit: int, measure: Measure) -> str | None:
    """Measure; why it failed, if it did."""
    settings = _settings_file(out, point)
    with writing(f"--out {out}"):
        settings.write_text(point.config.to_yaml(), encoding="utf-8")
    try:
        measure(settings, _result_file(out, point, visit), point.ranks)
    except StoppedError:
        raise
    except InputError as error:
        raise InputError(f"{point.title}: {error}") from None
    except RunFailedError as error:
        return str(error)
    return None


def _conclude(
    loaded: Loaded, points: list[Point], found: list[Measured], out: Path, console: Console, *, figures: bool
) -> None:
    """Tables, fit and figures of what was measured."""
    scaling = loaded.study.scaling
    frame = table.points_frame(points, found, scaling.mode, scaling.statistic)
    kept = [place for place, one in enumerate(found) if not one.crowded]
    fitted, problem = _fit(loaded, [found[k] for k in kept])
    frame = table.with_predictions(frame, fitted, kept)
    ranks = table.ranks_frame(points, found)
    table.write_tables(out, frame, ranks)
    console.print(table.results_table(frame))
    if len(kept) < len(found):
        told = "* ranks shared cores, which the model does not know of: not fitted"
        console.print(told, markup=False, soft_wrap=True)
    if fitted is None:
        console.print(f"no fit: {problem}", markup=False, soft_wrap=True)
    else:
        with writing(f"--out {out}"):
            write_machine(out / table.MODEL, fitted.machine)
        lines = table.fit_lines(fitted, [frame["seconds"][k] for k in kept])
        console.print("\n".join(["model of a mini-batch's seconds:", *lines]), markup=False, soft_wrap=True)
    files = [out / name for name in (table.POINTS, table.RANKS, *([table.MODEL] if fitted else []))]
    if figures:
        with writing(f"--out {out}"):
            files += pictures.draw(frame, ranks, out)
    console.print("written: " + ", ".join(map(str, files)), markup=False, soft_wrap=True)


def _fit(loaded: Loaded, found: list[Measured]) -> tuple[Fitted | None, str]:
    """The fit, or why there is none."""
    seconds = [one.summary(loaded.study.scaling.statistic)["seconds"] for one in found]
    ranks = max((one.ranks for one in found), default=1)
    try:
        return fit(loaded.study.name, [one.features for one in found], seconds, ranks), ""
    except InputError as error:
        return None, str(error)


def _kept(out: Path, point: Point, loaded: Loaded, visit: int) -> Measured | None:
    scaling = loaded.study.scaling
    wanted = identity(point.config.to_yaml(), point.ranks, scaling.warmup, scaling.repeats)
    return measured.read(_result_file(out, point, visit), wanted)


def _settings_file(out: Path, point: Point) -> Path:
    return out / FOLDER / f"{point.key}.yaml"


def _result_file(out: Path, point: Point, visit: int) -> Path:
    return out / FOLDER / f"{point.key}-{visit}.json"


def _check_out(out: Path) -> None:
    """Refuse a directory that holds something else.

    Raises:
        InputError: it does, or is none.
    """
    present = contents(out)
    if present and FOLDER not in present:
        raise InputError(
            f"--out {out}: holds '{present[0]}', which is no scaling study's; name another directory"
        )
