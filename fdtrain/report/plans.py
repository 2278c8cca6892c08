"""The schedules that runs followed, built again from their configurations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fdtrain import config
from fdtrain.experiment import build
from fdtrain.report.charts import kinds_of, left_out
from fdtrain.report.read import Run
from fdtrain.schedule import Schedule


@dataclass
class Plan:
    """A schedule and the runs that follow it."""

    schedule: Schedule
    runs: list[str]  # labels

    @property
    def name(self) -> str:
        """What tells it from others."""
        plan = self.schedule
        return f"{plan.scheme}, {plan.outline.title}, B = {plan.batch:,}, w = {plan.wave:,}"

    @property
    def kinds(self) -> list[tuple[str, int, int, int]]:
        """As :func:`fdtrain.report.charts.kinds_of`."""
        return kinds_of(self.schedule)

    @property
    def left_out(self) -> int:
        """Rounds that are not drawn."""
        return left_out(self.schedule)


def plans(runs: Sequence[Run]) -> tuple[list[Plan], dict[str, list[str]]]:
    """The distinct schedules of `runs`, and why others are not shown, with the labels of the runs."""
    found: list[Plan] = []
    missing: dict[str, list[str]] = {}
    built: dict[str, Schedule | str] = {}
    for run in runs:
        if run.setting("training.mode") == "centralized":
            continue
        key = _key(run.config)
        if key not in built or isinstance(built[key], str):
            built[key] = _build(run)
        made = built[key]
        if isinstance(made, str):
            missing.setdefault(made, []).append(run.label)
            continue
        same = [plan for plan in found if plan.schedule == made]
        if same:
            same[0].runs.append(run.label)
        else:
            found.append(Plan(made, [run.label]))
    return found, missing


def _build(run: Run) -> Schedule | str:
    if run.setting("optimizer.kind") == "plugin":
        return "is not shown: the optimizer is one of the user's own, which a report does not execute"
    try:
        job = build(config.load(run.path / "config.yaml")).job
        return job.schedule(job.batch)
    except Exception as error:  # the data may be gone, the configuration an older version's
        said = " ".join(str(error).split()).removeprefix(
            f"{run.path / 'config.yaml'}: "
        )  # alike for all runs
        return f"cannot be built again: {said or type(error).__name__}"


def _key(content: dict[str, Any]) -> str:
    """What a schedule may depend on: model, training, optimizer and critic, but for real numbers such as rates."""
    task = content.get("task")
    parts = [
        *map(content.get, ("model", "training", "optimizer")),
        isinstance(task, dict) and task.get("critic"),
    ]
    return json.dumps([_without_reals(part) for part in parts], default=str)


def _without_reals(content: Any) -> Any:
    if isinstance(content, dict):
        kept = {key: _without_reals(value) for key, value in content.items() if key != "epochs"}
        return {key: value for key, value in kept.items() if not isinstance(value, float)}
    return content
