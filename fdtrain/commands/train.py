"""Commands that train: a run, and the comparison of what its messages compute with the oracle."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fdtrain import config, restarts
from fdtrain.commands.options import (
    ConfigArgument,
    OptionalConfigArgument,
    OverridesArgument,
    PluginsOption,
    RanksOption,
    load_experiment,
)
from fdtrain.driver import Observer, lead, report_verification
from fdtrain.errors import BusyError, InputError
from fdtrain.experiment import build
from fdtrain.jobs import count_ranks, on_ranks, repeated, reports_to_launcher
from fdtrain.outputs import check_file
from fdtrain.profile.orders import KEPT
from fdtrain.progress import Events, make_console
from fdtrain.rundir import RunDirectory, check_free, is_complete
from fdtrain.summary import summarize
from fdtrain.team import Team
from fdtrain.verify import Verifier


def run(
    context: typer.Context,
    config_name: OptionalConfigArgument = None,
    overrides: OverridesArgument = None,
    ranks: RanksOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="The run's directory; default: runs/NAME-TIMESTAMP.", show_default=False),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run in that directory.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Go on with the run in DIR from its newest checkpoint, on any number of ranks.",
            show_default=False,
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare the first mini-batch with the reference.")
    ] = True,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw the figures after the run.")
    ] = True,
    max_restarts: Annotated[
        int,
        typer.Option(min=0, help="After a crash go on from the newest checkpoint, at most so many times."),
    ] = 0,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Also write a timeline of every rank into the directory's profile/."),
    ] = False,
    profile_minibatches: Annotated[
        int,
        typer.Option(
            min=1, help="Mini-batches of that timeline: half of them the first ones, half the last ones."
        ),
    ] = KEPT,
    allow_plugins: PluginsOption = False,
) -> int:
    """Train. Writes metrics, parameters, the ledger of messages and figures into the run's directory."""
    team: Team | None = context.obj
    if resume is None:
        if config_name is None:
            raise InputError("CONFIG: is missing; name a configuration, or a run to go on with: --resume DIR")
        experiment = load_experiment(config_name, overrides, allow_plugins=allow_plugins)
        settings = experiment.config
        path = out or Path("runs") / f"{settings.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        check_free(path, overwrite=overwrite)
        repeat = repeated(context, out=path)
    else:
        path = _check_resumed(resume, config_name, overrides, out, overwrite=overwrite)
        if is_complete(path):
            _say(f"{path}: the run is complete")
            return 0
        experiment = build(config.load(path / "config.yaml"), allow_plugins=allow_plugins)
        settings = experiment.config
        repeat = repeated(context)
    count = count_ranks(ranks, experiment, team)
    if profile and settings.training.mode == "centralized":
        raise InputError(
            "--profile: training.mode: centralized runs in one process without messages; use distributed"
        )
    how: dict[str, Any] = {"verify": verify, "profile": profile_minibatches * profile}

    def work(team: Team, observer: Observer) -> None:
        if resume is not None:
            lead(team, experiment, RunDirectory(path), observer, goes_on=True, **how)
            return
        directory = RunDirectory.create(path, settings.to_yaml(), overwrite=overwrite)
        try:
            lead(team, experiment, directory, observer, **how)
        except BusyError:  # it is another's
            raise
        except InputError:
            if not directory.has_metrics():
                directory.discard()
            raise

    def start(arguments: list[str]) -> None:
        on_ranks(count, team, arguments, path / "logs", work, stoppable=True, apart=max_restarts > 0)

    if max_restarts:
        restarts.check(count, team)
        if settings.checkpoint.every is None:
            print("note: --max-restarts without checkpoint.every begins anew after a crash", file=sys.stderr)
    try:
        restarts.with_restarts(start, repeat, context, path, max_restarts)
    except KeyboardInterrupt:
        if not reports_to_launcher():
            print(_interrupted(RunDirectory(path)), file=sys.stderr)
        raise
    if reports_to_launcher():
        return 0
    if figures:
        from fdtrain.figures import draw_profile, draw_run

        directory = RunDirectory(path)
        draw_run(directory)
        if profile:
            draw_profile(directory.profile, directory.figures / "profile.png")
    make_console(plain=team is not None).print(summarize(RunDirectory(path)))
    return 0


def _check_resumed(
    path: Path, config_name: str | None, overrides: list[str] | None, out: Path | None, *, overwrite: bool
) -> Path:
    """The directory of a run that goes on as it is configured there."""
    given = {
        "CONFIG": config_name,
        "KEY=VALUE": overrides[0] if overrides else None,
        "--out": out,
        "--overwrite": overwrite or None,
    }
    for name, value in given.items():
        if value is not None:
            raise InputError(
                f"{name}: has no meaning beside --resume {path}, which goes on with the run as it is configured "
                f"there, found {value}; remove it"
            )
    return RunDirectory.existing(path).path


def _say(text: str) -> None:
    if reports_to_launcher():
        Events(sys.stdout).note(text)
    else:
        print(text)


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
