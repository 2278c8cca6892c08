"""Commands on scale: how the time of a mini-batch grows, and what it would be on other machines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from fdtrain import config, launcher, resources
from fdtrain.commands.options import ConfigArgument, OverridesArgument, PluginsOption
from fdtrain.driver import Observer
from fdtrain.errors import InputError
from fdtrain.jobs import on_ranks
from fdtrain.outputs import check_file, writing
from fdtrain.progress import make_console
from fdtrain.team import Team


def _axis(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(metavar="N,N,…", help=what, show_default=False)
    return option


def scale(
    context: typer.Context,
    study_name: Annotated[
        str,
        typer.Argument(metavar="STUDY|CONFIG", help="A scaling study, or a configuration, by file or name."),
    ] = "quickstart",
    overrides: OverridesArgument = None,
    ranks: Annotated[str | None, _axis("MPI ranks; default: 1, 2, 4 … up to the cores.")] = None,
    nodes: Annotated[str | None, _axis("Nodes; in weak scaling those of a rank.")] = None,
    degree: Annotated[str | None, _axis("Mean degrees.")] = None,
    hidden: Annotated[str | None, _axis("Sizes of the hidden layers.")] = None,
    wave: Annotated[str | None, _axis("w, samples that share a round's messages.")] = None,
    mode: Annotated[
        Literal["strong", "weak"] | None, typer.Option(help="What stays: all nodes, or those of a rank.")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Mini-batches that are timed.")] = None,
    statistic: Annotated[
        Literal["median", "shortest"] | None, typer.Option(help="Which of these counts.")
    ] = None,
    warmup: Annotated[int | None, typer.Option(min=1, help="Mini-batches before them.")] = None,
    visits: Annotated[int | None, typer.Option(min=1, help="Times to go through the whole study.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The study's directory; default: runs/NAME.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write every point's configuration, and measure nothing.")
    ] = False,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw figures at the end.")] = True,
    measure: Annotated[
        Path | None,
        typer.Option(
            help="Measure CONFIG alone, on the ranks that there are, into this .json.", show_default=False
        ),
    ] = None,
    allow_plugins: PluginsOption = False,
) -> int:
    """Measure mini-batches over ranks, nodes, degrees, widths and waves; fit a latency–bandwidth model to them."""
    from fdtrain.scale import command, study

    axes = {"ranks": ranks, "nodes": nodes, "degree": degree, "hidden": hidden, "wave": wave}
    options = {
        **axes,
        "mode": mode,
        "repeats": repeats,
        "statistic": statistic,
        "warmup": warmup,
        "visits": visits,
    }
    team: Team | None = context.obj
    if measure is not None:
        unused = next((name for name, value in axes.items() if value is not None and name != "ranks"), None)
        if unused is not None:
            raise InputError(
                f"--{unused}: has no meaning with --measure, which is of one configuration; remove it"
            )
        count = _count(ranks, team)
        _measure(study_name, overrides or [], measure, count, team, warmup or 2, repeats or 5, allow_plugins)
        return 0
    if team is not None:
        raise InputError(
            "scale: starts its processes itself; under mpirun or srun, measure points with --measure"
        )
    loaded = study.load(study_name, overrides or [], options)
    if max(loaded.study.scaling.ranks) > 1:
        launcher.find_mpirun()
    path, scaling = out or Path("runs") / loaded.study.name, loaded.study.scaling
    if dry_run:
        return command.show_plan(loaded, path, make_console())

    def one(settings: Path, result: Path, count: int) -> None:
        _measure(str(settings), [], result, count, None, scaling.warmup, scaling.repeats, allow_plugins)

    return command.run_study(loaded, path, make_console(), one, figures=figures)


def _measure(
    name: str,
    overrides: list[str],
    result: Path,
    count: int,
    team: Team | None,
    warmup: int,
    repeats: int,
    allow_plugins: bool,
) -> None:
    """Measure one configuration on so many ranks, into a file. One rank is an MPI job, too, where there is an MPI."""
    from fdtrain.scale import command, measured

    check_file(result, ".json", "--measure")
    settings = resources.find_config(name)

    def work(team: Team, observer: Observer) -> None:
        found_config = config.load(settings, overrides)
        found = measured.take(found_config, team, warmup=warmup, repeats=repeats, allow_plugins=allow_plugins)
        of = command.identity(found_config.to_yaml(), team.size, warmup, repeats)
        with writing(f"--measure {result}"):
            measured.write(result, found, of)

    options = ["--measure", str(result), "--warmup", str(warmup), "--repeats", str(repeats)]
    options += ["--allow-plugins"] * allow_plugins
    again = ["scale", *options, "--", str(settings), *overrides]
    on_ranks(count, team, again, None, work, apart=launcher.has_mpi())


def _count(ranks: str | None, team: Team | None) -> int:
    """The ranks of a single measurement."""
    if team is not None:
        if ranks not in (None, str(team.size)):
            raise InputError(f"--ranks: {ranks}, but {team.size} processes were started; leave --ranks out")
        return team.size
    if ranks is not None and not re.fullmatch("[1-9][0-9]{0,6}", ranks):
        raise InputError(f"--ranks: must be one number ≥ 1 with --measure, found '{ranks:.60}'")
    return int(ranks or 1)


def predict(
    config_name: ConfigArgument,
    overrides: OverridesArgument = None,
    machine: Annotated[
        str,
        typer.Option(help="A machine's file, such as a study's model.json, or one that comes with fdtrain."),
    ] = "laptop",
    ranks: Annotated[str | None, _axis("Ranks of a computer; default: the machine's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table into this CSV file.")] = None,
    allow_plugins: PluginsOption = False,
) -> int:
    """Predict the time of a mini-batch under every scheme, on a computer or a radio network."""
    from fdtrain.scale import predict as prediction
    from fdtrain.scale.machines import load_machine
    from fdtrain.scale.study import read_numbers

    if out is not None:
        check_file(out, ".csv")
    counts = [] if ranks is None else read_numbers("ranks", ranks)
    found = prediction.predict(
        config.load(resources.find_config(config_name), overrides or []),
        load_machine(machine),
        counts,
        allow_plugins=allow_plugins,
    )
    make_console().print(prediction.render(found), markup=False, soft_wrap=True)
    if out is not None:
        prediction.write_csv(out, found)
    return 0
