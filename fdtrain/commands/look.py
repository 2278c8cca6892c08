"""Commands that look: at a schedule, a topology, a configuration. Nothing runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from fdtrain import config, resources
from fdtrain.commands.options import ConfigArgument, OverridesArgument, PluginsOption, load_experiment
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.experiment import Experiment
from fdtrain.jobs import count_ranks
from fdtrain.outputs import check_file
from fdtrain.problems import make_topology
from fdtrain.progress import make_console
from fdtrain.section import kinds_in
from fdtrain.service import Topology
from fdtrain.topology import MovingSource, TopologyConfig, TopologyService, describe, named_networks
from fdtrain.topology.connectivity import Connectivity, Watch, smallest_window

MAX_STEPS = 1_000_000  # of a network that moves


def plan(
    config_name: ConfigArgument,
    overrides: OverridesArgument = None,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds to show; the middle is left out.")] = 24,
    ranks: Annotated[
        int | None, typer.Option(min=1, help="Also show what so many ranks host, and send each other.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the timeline into this PNG file.")] = None,
    allow_plugins: PluginsOption = False,
) -> int:
    """Show the rounds of a mini-batch, what rides in each, and what they cost in messages and memory, without running
    anything."""
    from fdtrain.timeline import render

    if figure is not None:
        check_file(figure, ".png", "--figure")
    experiment = load_experiment(config_name, overrides, allow_plugins=allow_plugins)
    if experiment.config.training.mode == "centralized":
        raise InputError("plan: training.mode centralized sends nothing; set it to distributed")
    job = experiment.job
    schedule = job.schedule(job.batch)
    if ranks is not None and ranks > experiment.nodes:
        raise InputError(
            f"--ranks: {ranks}, but the network has only {experiment.nodes} nodes; use at most as many"
        )
    console = make_console()
    console.print(render(schedule, rounds, job.optimizer.travels, job.beside(schedule)))
    if ranks is not None:
        from fdtrain import placement

        graph, partition = experiment.topology.graph(0), experiment.config.execution.partition
        owner = partition.owners(graph, ranks, experiment.config.seed)
        console.print()
        console.print(placement.render(partition.kind, placement.shares(graph, owner, ranks), schedule))
    console.print()
    console.print(_memory(experiment, ranks or count_ranks("auto", experiment, None)))
    if figure is not None:
        from fdtrain.figures import draw_schedule

        draw_schedule(schedule, figure)
        print(f"drawn into {figure}")
    return 0


def _memory(experiment: Experiment, ranks: int) -> Table:
    """What a run takes."""
    from fdtrain.footprint import table_of

    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")
    table.add_column(f"memory on {ranks:,} rank{'s' * (ranks != 1)}", no_wrap=True)
    table.add_column("of a rank", justify="right", no_wrap=True)
    table.add_column("of all", justify="right", no_wrap=True)
    for line in table_of(experiment.footprint(ranks)):
        table.add_row(*line)
    return table


def topology(
    source: Annotated[
        str,
        typer.Argument(
            help="A kind (barabasi_albert), a graph file, a named network (abilene), or a CONFIG."
        ),
    ],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Parameters of the kind, e.g. nodes=50 m=2."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the draw.")] = 0,
    minibatch: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="The mini-batch whose topology is shown.")
    ] = 0,
    steps: Annotated[
        int,
        typer.Option(min=1, max=MAX_STEPS, help="Graphs of a moving network whose connectivity is shown."),
    ] = 200,
    figure: Annotated[Path | None, typer.Option(help="Draw the network into this PNG file.")] = None,
) -> int:
    """Describe a topology, and draw it; of one that moves, also how connected it is over time."""
    if figure is not None:
        check_file(figure, ".png", "--figure")
    service = _topology_service(source, parameters or [], seed)
    watched = _watch(service, minibatch, steps)
    graph = service.graph(minibatch)
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in describe(graph).items():
        shown = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " "), shown)
    console = make_console()
    console.print(source, style="italic", highlight=False)
    console.print(table)
    if watched:
        console.print(f"\n{len(watched):,} graphs from mini-batch {minibatch} on", highlight=False)
        console.print(_over_time(watched))
    if figure is not None:
        from fdtrain.figures import draw_connectivity, draw_topology

        draw_topology(graph, figure, source)
        print(f"drawn into {figure}")
        if watched:
            beside = figure.with_name(f"{figure.stem}-connectivity.png")
            draw_connectivity(watched, beside)
            print(f"connectivity drawn into {beside}")
    return 0


def _watch(service: Topology, minibatch: int, steps: int) -> list[Connectivity]:
    """How connected so many graphs of a moving network are, from a mini-batch on; none of one that stays."""
    if not isinstance(service, TopologyService) or not isinstance(service.source, MovingSource):
        return []
    source = service.source
    if source.redraw is None:
        return []
    watch, first = Watch(source.window), minibatch // source.redraw.every
    if first > MAX_STEPS:
        raise InputError(
            f"--minibatch: {minibatch}, but a network that moves is followed from its start; at most "
            f"{MAX_STEPS * source.redraw.every:,}"
        )
    starts = [number * source.redraw.every for number in range(first, first + steps)]
    return [watch.see(t, service.graph(t)) for t in starts]


def _over_time(watched: list[Connectivity]) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    window, smallest = watched[0].window, smallest_window(watched)
    ends = [row.window_connected for row in watched if row.window_connected is not None]
    unions = f"{np.mean(ends):.1%} of {len(ends):,} windows" if ends else "–"
    table.add_row("edges", f"{np.mean([row.edges for row in watched]):.4g} on average")
    table.add_row("isolated nodes", f"{np.mean([row.isolated for row in watched]):.4g} on average")
    table.add_row(
        "largest component", f"{np.mean([row.largest for row in watched]):.1%} of the nodes on average"
    )
    table.add_row("connected", f"{np.mean([row.components == 1 for row in watched]):.1%} of the graphs")
    table.add_row(f"union of {window:,} connected", unions)
    table.add_row("smallest window", f"{smallest:,} graphs" if smallest else "none: not even all of them")
    return table


def _topology_service(source: str, parameters: list[str], seed: int) -> Topology:
    """The topology of a kind, a named network, a configuration by file or name, or a graph file."""
    kinds = {*kinds_in(TopologyConfig)} - {"bundle", "channels"}
    if source in kinds:
        return TopologyService(config.topology_from(source, parameters), seed)
    shipped = source in resources.known_configs()
    if (shipped and source not in named_networks()) or source.endswith((".yaml", ".yml")):
        return make_topology(config.load(resources.find_config(source), parameters))
    known = ", ".join([*sorted(kinds), *named_networks()])
    if Path(source).suffix == "" and source not in named_networks():
        raise InputError(
            f"topology: '{source}' is no kind, no named network, no configuration and no graph file; known: {known}"
        )
    return TopologyService(config.topology_from("file", [f"path={source}", *parameters]), seed)


def check_config(
    config_name: Annotated[
        str | None,
        typer.Argument(metavar="CONFIG", help="A file to check; without it, every key is printed."),
    ] = None,
    overrides: OverridesArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="The schema as JSON Schema, for editors.")] = False,
    allow_plugins: PluginsOption = False,
) -> int:
    """Check a configuration and print it with all defaults; without one, print every key with its meaning."""
    if config_name is not None:
        print(load_experiment(config_name, overrides, allow_plugins=allow_plugins).config.to_yaml(), end="")
    elif as_json:
        print(json.dumps(Config.model_json_schema(), indent=2))
    else:
        from fdtrain.schema import describe_schema

        console = make_console()
        console.print(describe_schema(console.width))
    return 0
