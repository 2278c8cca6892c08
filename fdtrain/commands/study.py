"""Commands on many runs: a sweep of them, and a page on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fdtrain import launcher, resources
from fdtrain.commands.options import OverridesArgument, PluginsOption
from fdtrain.errors import InputError
from fdtrain.progress import make_console


def sweep(
    context: typer.Context,
    sweep_name: Annotated[
        str, typer.Argument(metavar="SWEEP", help="A YAML file with axes, or one that comes with fdtrain.")
    ],
    overrides: OverridesArgument = None,
    out: Annotated[
        Path | None, typer.Option(help="The sweep's directory; default: runs/NAME.", show_default=False)
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Runs at a time; default: cores / ranks.", show_default=False),
    ] = None,
    ranks: Annotated[int, typer.Option(min=1, help="MPI ranks of each run; 1: one process.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")
    ] = False,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw the sweep's figures at the end.")
    ] = True,
    allow_plugins: PluginsOption = False,
) -> int:
    """Run all combinations of a sweep that are missing, and collect one table. Can be stopped and taken up again."""
    from fdtrain.sweep import command, plan

    if context.obj is not None:
        raise InputError("sweep: starts its processes itself; give the command without mpirun or srun")
    if ranks > 1:
        launcher.find_mpirun()
    found = plan.load(resources.find_sweep(sweep_name), overrides or [])
    path = out or Path("runs") / found.config.name
    if dry_run:
        return command.show_plan(found, path, make_console())
    options = ["--allow-plugins"] if allow_plugins else []
    return command.run_sweep(
        found, path, make_console(), jobs=jobs, ranks=ranks, figures=figures, options=options
    )


def report(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Directories of runs, and of sweeps.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page; default: DIR/report.html, for several ./report.html.", show_default=False
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="The heading of the page.", show_default=False)] = None,
) -> int:
    """Make one HTML page of a run, of several to compare them, or of a sweep; it needs no network."""
    from fdtrain.report import write_report

    print(f"written: {write_report(directories, out, title)}")
    return 0
