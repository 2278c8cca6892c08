"""Commands that measure: what the schemes cost in messages, and how fast they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fdtrain import config, resources
from fdtrain.commands.options import (
    ConfigArgument,
    OverridesArgument,
    PluginsOption,
    RanksOption,
    load_experiment,
)
from fdtrain.driver import Observer, VerificationError
from fdtrain.errors import InputError
from fdtrain.jobs import count_ranks, launched_at, on_ranks, repeated
from fdtrain.outputs import check_file
from fdtrain.team import Team


def cost(
    context: typer.Context,
    config_name: ConfigArgument = "paper/table1",
    overrides: OverridesArgument = None,
    layers: Annotated[str | None, typer.Option(help="L, e.g. 1,2,3,4.", show_default=False)] = None,
    batches: Annotated[str | None, typer.Option(help="B, e.g. 1,10,100.", show_default=False)] = None,
    waves: Annotated[str | None, typer.Option(help="w, e.g. 1,10.", show_default=False)] = None,
    consensus: Annotated[str | None, typer.Option(help="K, e.g. 1,3.", show_default=False)] = None,
    ranks: RanksOption = "auto",
    out: Annotated[Path | None, typer.Option(help="Also write the table into this CSV file.")] = None,
    allow_plugins: PluginsOption = False,
) -> int:
    """The paper's Table I: rounds and message sizes of all schemes by formula, as planned, and counted on the wire.

    Without options for the configuration's own L, B, w and K.
    """
    from fdtrain.cost import measure, read_cases, render, write_csv

    experiment = load_experiment(config_name, overrides, allow_plugins=allow_plugins)
    settings, training = experiment.config, experiment.config.training
    if settings.task.bundle is not None or training.mode == "centralized":
        raise InputError(
            "cost: needs synthetic data, of which it draws as much as it needs, and training.mode: distributed"
        )
    if out is not None:
        check_file(out, ".csv")
    grid = read_cases(experiment, layers, batches, waves, consensus)
    team: Team | None = context.obj

    def work(team: Team, observer: Observer) -> None:
        observer.started(settings.name, experiment.nodes, team.size, 0)
        lines = [measure(settings, case, team, allow_plugins=allow_plugins) for case in grid]
        observer.note(render(lines, experiment.job.model.outline))
        if out is not None:
            write_csv(out, lines)
        differing = [line.case for line in lines if not line.agrees]
        if differing:
            raise VerificationError(f"cost: formula, plan and wire differ for {differing[0]}")

    on_ranks(count_ranks(ranks, experiment, team), team, repeated(context), None, work)
    return 0


def bench(
    context: typer.Context,
    what: Annotated[
        Literal["rounds", "epochs", "minibatches", "start", "topology", "partitions"],
        typer.Argument(help="What to measure."),
    ],
    config_name: ConfigArgument = "quickstart",
    overrides: OverridesArgument = None,
    ranks: RanksOption = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Measurements; the median counts.")] = 15,
    allow_plugins: PluginsOption = False,
) -> int:
    """Measure: rounds of training against bare exchanges, epochs against plain NumPy, whole mini-batches of streamed
    data, the start of the ranks, new topologies; and what ranks send each other under every partition of the nodes."""
    from fdtrain.bench import Benchmark

    if what == "topology":
        return _bench_topology(context, config_name, overrides, ranks, repeats)
    experiment = load_experiment(config_name, overrides, allow_plugins=allow_plugins)
    if experiment.config.training.mode == "centralized":
        raise InputError("bench: needs training.mode: distributed")
    if experiment.job.streamed != (what == "minibatches") and what not in ("start", "partitions"):
        needs = "streamed data" if what == "minibatches" else "a static topology and a fixed data set"
        raise InputError(f"bench {what}: needs {needs}; see fdtrain bench --help")
    team: Team | None = context.obj

    def work(team: Team, observer: Observer) -> None:
        benchmark = Benchmark(experiment, team)
        if what == "start":
            observer.note(benchmark.start(launched_at()))
        elif what == "partitions":
            from fdtrain.bench_networks import partitions

            observer.note(partitions(experiment, team))
        else:
            measured = {
                "rounds": benchmark.rounds,
                "epochs": benchmark.epochs,
                "minibatches": benchmark.minibatches,
            }
            observer.note(measured[what](repeats))

    on_ranks(count_ranks(ranks, experiment, team), team, repeated(context), None, work)
    return 0


def _bench_topology(
    context: typer.Context, config_name: str, overrides: list[str] | None, ranks: str, repeats: int
) -> int:
    """Without the rest of the experiment: its data are not needed."""
    from fdtrain.bench_networks import Drawing, topology

    drawing = Drawing.of(config.load(resources.find_config(config_name), overrides or []))
    team: Team | None = context.obj

    def work(team: Team, observer: Observer) -> None:
        observer.note(topology(drawing, team, repeats))

    on_ranks(count_ranks(ranks, drawing, team), team, repeated(context), None, work)
    return 0
