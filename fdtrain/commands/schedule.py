"""The command that lets a trained model schedule the links of a network, or any vertices in conflict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fdtrain.commands.options import RanksOption
from fdtrain.driver import Observer
from fdtrain.errors import InputError
from fdtrain.jobs import count_ranks, on_ranks, repeated
from fdtrain.outputs import check_file
from fdtrain.team import Team


def schedule(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="RUN", help="The directory of a run of link_scheduling.")
    ],
    name: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH", help="A graph file or a named network: who conflicts, or whose links do."
        ),
    ],
    weights: Annotated[
        Path,
        typer.Argument(
            metavar="WEIGHTS",
            help="A .csv file with the header node,weight and a line per vertex, by label or number; or a .npy file, "
            "or a .npz file's array weights, of V numbers or B x V.",
        ),
    ],
    *,
    interference: Annotated[
        Literal["none", "one_hop", "two_hop"],
        typer.Option(
            help="none: GRAPH is the conflict graph. Else its links are the vertices; one_hop: those that share an end "
            "conflict; two_hop: also those that an edge joins."
        ),
    ] = "none",
    parameters: Annotated[
        Literal["mean", "each"],
        typer.Option(
            help="On all vertices the mean over the trained nodes; or on vertex i those of node i mod V."
        ),
    ] = "mean",
    optimum: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Find the optimum, too, at most so long per sample."),
    ] = None,
    ranks: RanksOption = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Write who is on, with weights and z, into this CSV file.")
    ] = None,
) -> int:
    """Let a trained model choose who is on, by messages, beside greedy choices and the optimum.

    No two neighbours in the conflict graph are on together; the weights of those who are on are to be large.
    """
    from fdtrain import scheduling
    from fdtrain.weights_file import read_weights

    if optimum is not None and not 0 < optimum <= 1e6:
        raise InputError(f"--optimum: must be more than 0 seconds and at most 1e6, found {optimum:g}")
    if out is not None:
        check_file(out, ".csv")
    trained = scheduling.read_run(directory)
    graph, notes = scheduling.read_conflicts(name, interference)
    request = scheduling.Request(trained, graph, read_weights(weights, graph), parameters)
    trained.network.check(graph)
    team: Team | None = context.obj
    count = count_ranks(ranks, request, team)
    where = name if interference == "none" else f"links of {name}, {interference}"
    model = f"{trained.config.name}: trained on {len(trained.theta)} nodes; parameters: {parameters}"

    def work(team: Team, observer: Observer) -> None:
        found = scheduling.schedule(request, team, optimum)
        heading = f"{model}; {where}; on {team.size} rank{'s' * (team.size > 1)}"
        observer.note(scheduling.render(request, found, heading))
        for note in (*notes, *found.notes):
            observer.note(f"note: {note}")
        if out is not None:
            scheduling.write_csv(out, request, found)
            observer.note(f"written: {out}")

    on_ranks(count, team, repeated(context), None, work)
    return 0
