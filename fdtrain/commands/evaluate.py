"""The command that evaluates a trained model on networks of other sizes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from fdtrain.commands.options import RanksOption
from fdtrain.driver import Observer
from fdtrain.jobs import count_ranks, on_ranks, repeated
from fdtrain.outputs import check_file, writing
from fdtrain.team import Team


def evaluate(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="The directory of a finished run.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Other channels, e.g. task.carrier=2.4 task.fading=none."),
    ] = None,
    *,
    pairs: Annotated[str, typer.Option(help="Sizes: numbers of pairs, e.g. 10,25,50,100.")],
    minibatches: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Mini-batches of test channels, of each size.")
    ] = 20,
    parameters: Annotated[
        Literal["mean", "each"],
        typer.Option(help="On all nodes the mean over the trained ones; or on node i those of node i mod V."),
    ] = "mean",
    density: Annotated[
        Literal["same", "fixed"],
        typer.Option(
            help="same: the area grows with n, as dense as in training; fixed: the area of training."
        ),
    ] = "same",
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**63 - 1, help="Seed of the channels; default: the run's.", show_default=False
        ),
    ] = None,
    ranks: RanksOption = "auto",
    out: Annotated[Path | None, typer.Option(help="Also write the table into this CSV file.")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw the rates per pair into this PNG file.", show_default=False)
    ] = None,
) -> int:
    """How a trained model does on networks of other sizes, by messages, beside WMMSE, full and random power."""
    from fdtrain import evaluation
    from fdtrain.sizes import read_sizes, render, write_csv

    wanted = read_sizes(pairs)
    if out is not None:
        check_file(out, ".csv")
    if figure is not None:
        check_file(figure, ".png", "--figure")
    trained = evaluation.read_run(directory, overrides or [], seed)
    made = [
        evaluation.make_experiment(trained, n, minibatches, parameters=parameters, density=density)
        for n in wanted
    ]
    team: Team | None = context.obj
    count = count_ranks(ranks, min(made, key=lambda experiment: experiment.nodes), team)
    model = f"{trained.recipe.name}: trained on {len(trained.theta)} pairs"
    heading = f"{model}; parameters: {parameters}; density: {density}"

    def work(team: Team, observer: Observer) -> None:
        sizes = []
        for experiment in made:
            started = time.monotonic()
            sizes.append(evaluation.evaluate(experiment, team))
            spent = time.monotonic() - started
            batches = f"{minibatches} mini-batch{'es' * (minibatches > 1)}"
            observer.note(
                f"n = {experiment.nodes}: {batches} in {spent:.1f} s on {team.size} rank{'s' * (team.size > 1)}"
            )
        observer.note(render(sizes, heading))
        for note in trained.notes:
            observer.note(f"note: {note}")
        if out is not None:
            write_csv(out, sizes)
            observer.note(f"written: {out}")
        if figure is not None:
            from fdtrain.figures import draw_sizes

            with writing(figure):
                draw_sizes(sizes, len(trained.theta), figure, heading)
            observer.note(f"drawn into {figure}")

    on_ranks(count, team, repeated(context), None, work)
    return 0
