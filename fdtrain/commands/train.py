"""Commands that train: a run, and the comparison of what its messages compute with the oracle."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from fdtrain.commands.options import (
    ConfigArgument,
    OverridesArgument,
    PluginsOption,
    RanksOption,
    load_experiment,
)
from fdtrain.driver import Observer, lead, report_verification
from fdtrain.errors import InputError
from fdtrain.jobs import count_ranks, on_ranks, repeated, reports_to_launcher
from fdtrain.outputs import check_file
from fdtrain.progress import make_console
from fdtrain.rundir import RunDirectory, check_free
from fdtrain.summary import summarize
from fdtrain.team import Team
from fdtrain.verify import Verifier


def run(
    context: typer.Context,
    config_name: ConfigArgument,
    overrides: OverridesArgument = None,
    ranks: RanksOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="The run's directory; default: runs/NAME-TIMESTAMP.", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in that directory.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare the first mini-batch with the reference.")
    ] = True,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw the figures after the run.")
    ] = True,
    allow_plugins: PluginsOption = False,
) -> int:
    """Train. Writes metrics, parameters, the ledger of messages and figures into the run's directory."""
    experiment = load_experiment(config_name, overrides, allow_plugins=allow_plugins)
    settings = experiment.config
    path = out or Path("runs") / f"{settings.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    team: Team | None = context.obj
    check_free(path, overwrite=overwrite)
    count = count_ranks(ranks, experiment, team)

    def work(team: Team, observer: Observer) -> None:
        directory = RunDirectory.create(path, settings.to_yaml(), overwrite=overwrite)
        try:
            lead(team, experiment, directory, observer, verify=verify)
        except InputError:
            if not directory.has_metrics():
                directory.discard()
            raise

    try:
        on_ranks(count, team, repeated(context, out=path), path / "logs", work)
    except KeyboardInterrupt:
        if not reports_to_launcher():
            print(_interrupted(RunDirectory(path)), file=sys.stderr)
        raise
    if reports_to_launcher():
        return 0
    if figures:
        from fdtrain.figures import draw_run

        draw_run(RunDirectory(path))
    make_console(plain=team is not None).print(summarize(RunDirectory(path)))
    return 0


def _interrupted(run: RunDirectory) -> str:
    """What there is of a run that was interrupted."""
    found = ["interrupted"]
    if (run.path / "metrics.csv").exists():
        number = len(run.read_metrics())
        found.append(f"{number:,} epoch{'s' * (number != 1)} in {run.path / 'metrics.csv'}")
    if run.has_minibatches():
        number = len(run.read_minibatches())
        found.append(f"{number:,} mini-batch{'es' * (number != 1)} in {run.path / 'minibatches.csv'}")
    return "; ".join(found)


def verify(
    context: typer.Context,
    config_name: ConfigArgument,
    overrides: OverridesArgument = None,
    ranks: RanksOption = "auto",
    minibatches: Annotated[int, typer.Option(min=1, help="Mini-batches of comparisons 3 and 4.")] = 3,
    out: Annotated[Path, typer.Option(help="Where verify.json is written.")] = Path("verify.json"),
    allow_plugins: PluginsOption = False,
) -> int:
    """Compare what the messages compute with the centralized reference: gradients, trajectory, consensus, cost."""
    experiment = load_experiment(config_name, overrides, allow_plugins=allow_plugins)
    settings = experiment.config
    if settings.training.mode == "centralized":
        raise InputError(
            "training.mode: centralized sends no messages, there is nothing to verify; use distributed"
        )
    check_file(out, ".json")
    team: Team | None = context.obj

    def work(team: Team, observer: Observer) -> None:
        observer.started(settings.name, experiment.nodes, team.size, 0)
        report_verification(Verifier(experiment, team).full(minibatches), out, observer)

    on_ranks(count_ranks(ranks, experiment, team), team, repeated(context), None, work)
    if not reports_to_launcher():
        print(f"written: {out}")
    return 0
