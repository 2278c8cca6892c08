"""The command line. Commands that run on ranks start an MPI job; under ``mpirun`` they are its rank 0."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer
from rich.table import Table

from fdtrain import __version__, config, launcher, resources
from fdtrain.config import Config
from fdtrain.driver import Observer, VerificationError, lead, report_verification
from fdtrain.errors import DivergenceError, InputError, RunFailedError
from fdtrain.experiment import Experiment, build
from fdtrain.jobs import count_ranks, launched_at, on_ranks, reports_to_launcher
from fdtrain.progress import Events, make_console
from fdtrain.rundir import RunDirectory, check_free
from fdtrain.summary import summarize
from fdtrain.team import Team
from fdtrain.topology import TopologyConfig, TopologyService, describe, named_networks
from fdtrain.verify import Verifier

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="Train graph neural networks on the network itself, with real messages between neighbours.",
)  # fmt: skip

ConfigArgument = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help="A YAML file, or one that comes with fdtrain, e.g. quickstart."),
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. training.epochs=5.")
]
RanksOption = Annotated[
    str,
    typer.Option(
        metavar="N|pure|auto", help="MPI ranks: a number (1: this process), one per node, or one per core."
    ),
]
OutOption = Annotated[
    Path | None, typer.Option(help="The run's directory; default: runs/NAME-TIMESTAMP.", show_default=False)
]
PluginsOption = Annotated[
    bool,
    typer.Option("--allow-plugins", help="Execute an optimizer of your own that the configuration names."),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier run in that directory.")
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line in a process that no MPI launcher started; return the exit status."""
    return run_command(sys.argv[1:] if arguments is None else arguments, None)


def run_command(arguments: Sequence[str], team: Team | None) -> int:
    """Run the command line, on rank 0 of `team` if there is one; return the exit status.

    0: done; 1: the run failed (verification, divergence, a rank); 2: the input cannot be used, said in one line.
    """
    try:
        status = app(list(arguments), standalone_mode=False, obj=team, prog_name="fdtrain")
        return int(status or 0)
    except InputError as error:
        return _fail(str(error), 2)
    except (VerificationError, DivergenceError, RunFailedError) as error:
        return _fail(str(error), 1)
    except typer.Exit as exit_:
        return exit_.exit_code
    except Exception as error:
        if hasattr(error, "format_message"):  # the command line itself was wrong
            return _fail(f"{error.format_message()} (see fdtrain --help)", 2)
        raise


def _fail(message: str, status: int) -> int:
    if reports_to_launcher():
        Events(sys.stdout).error(message)
    else:
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"fdtrain {__version__}")
        raise typer.Exit


@app.command("run")
def run(
    context: typer.Context,
    config_name: ConfigArgument,
    overrides: OverridesArgument = None,
    ranks: RanksOption = "auto",
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare the first mini-batch with the oracle.")
    ] = True,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Draw the figures after the run.")
    ] = True,
    allow_plugins: PluginsOption = False,
) -> int:
    """Train. Writes metrics, parameters, the ledger of messages and figures into the run's directory."""
    experiment = _load(config_name, overrides, allow_plugins)
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

    options = ["--overwrite"] if overwrite else []
    options += [] if verify else ["--no-verify"]
    options += ["--allow-plugins"] if allow_plugins else []
    arguments = ["run", config_name, *(overrides or []), "--out", str(path), *options]
    on_ranks(count, team, arguments, path / "logs", work)
    if reports_to_launcher():
        return 0
    if figures:
        from fdtrain.figures import draw_run

        draw_run(RunDirectory(path))
    make_console(plain=team is not None).print(summarize(RunDirectory(path)))
    return 0


@app.command("verify")
def verify(
    context: typer.Context,
    config_name: ConfigArgument,
    overrides: OverridesArgument = None,
    ranks: RanksOption = "auto",
    minibatches: Annotated[int, typer.Option(min=1, help="Mini-batches of comparisons 3 and 4.")] = 3,
    out: Annotated[Path, typer.Option(help="Where verify.json is written.")] = Path("verify.json"),
    allow_plugins: PluginsOption = False,
) -> int:
    """Compare what the messages compute with the centralized oracle: gradients, trajectory, consensus, cost."""
    experiment = _load(config_name, overrides, allow_plugins)
    settings = experiment.config
    if settings.training.mode == "centralized":
        raise InputError(
            "training.mode: centralized sends no messages, there is nothing to verify; use distributed"
        )
    if not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no directory {out.parent}; make it, or name another")
    team: Team | None = context.obj

    def work(team: Team, observer: Observer) -> None:
        observer.started(settings.name, experiment.nodes, team.size, 0)
        report_verification(Verifier(experiment, team).full(minibatches), out, observer)

    arguments = [
        "verify",
        config_name,
        *(overrides or []),
        "--minibatches",
        str(minibatches),
        "--out",
        str(out),
        *(["--allow-plugins"] if allow_plugins else []),
    ]
    on_ranks(count_ranks(ranks, experiment, team), team, arguments, None, work)
    return 0


@app.command("plan")
def plan(
    config_name: ConfigArgument,
    overrides: OverridesArgument = None,
    rounds: Annotated[int, typer.Option(min=2, help="Rounds to show; the middle is left out.")] = 24,
    figure: Annotated[Path | None, typer.Option(help="Draw the timeline into this PNG file.")] = None,
    allow_plugins: PluginsOption = False,
) -> int:
    """Show the rounds of a mini-batch, what rides in each, and what they cost, without running anything."""
    from fdtrain.timeline import render

    job = _load(config_name, overrides, allow_plugins).job
    schedule = job.schedule(job.batch)
    make_console().print(render(schedule, rounds, job.optimizer.travels))
    if figure is not None:
        from fdtrain.figures import draw_schedule

        draw_schedule(schedule, figure)
        print(f"drawn into {figure}")
    return 0


@app.command("sweep")
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


@app.command("cost")
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
) -> int:
    """The paper's Table I: rounds and message sizes of all schemes by formula, as planned, and counted on the wire.

    Without options for the configuration's own L, B, w and K.
    """
    from fdtrain.cost import cases, measure, render, write_csv

    experiment = _load(config_name, overrides, allow_plugins=False)
    settings, training = experiment.config, experiment.config.training
    if settings.task.bundle is not None or training.mode == "centralized":
        raise InputError(
            "cost: needs synthetic data, of which it draws as much as it needs, and training.mode: distributed"
        )
    if out is not None and not out.parent.is_dir():
        raise InputError(f"--out {out}: there is no directory {out.parent}; make it, or name another")
    grid = list(
        cases(
            _numbers("--layers", layers, experiment.job.model.depth),
            _numbers("--batches", batches, training.batch),
            _numbers("--waves", waves, training.wave),
            _numbers("--consensus", consensus, training.consensus_rounds),
        )
    )
    if not grid:
        raise InputError("cost: no wave is at most a batch; lower --waves")
    team: Team | None = context.obj

    def work(team: Team, observer: Observer) -> None:
        observer.started(settings.name, experiment.nodes, team.size, 0)
        lines = [measure(settings, case, team) for case in grid]
        observer.note(render(lines, _cost_title(experiment)))
        if out is not None:
            write_csv(out, lines)
        differing = [line.case for line in lines if not line.agrees]
        if differing:
            raise VerificationError(f"cost: formula, plan and wire differ for {differing[0]}")

    arguments = ["cost", config_name, *(overrides or [])]
    given = {
        "--layers": layers,
        "--batches": batches,
        "--waves": waves,
        "--consensus": consensus,
        "--out": out,
    }
    arguments += [str(part) for option in given.items() if option[1] is not None for part in option]
    on_ranks(count_ranks(ranks, experiment, team), team, arguments, None, work)
    return 0


def _cost_title(experiment: Experiment) -> str:
    receiver = experiment.job.model.form == "receiver"
    return (
        f"Table I, {experiment.job.model.form} form: B' = ⌈B/w⌉ waves, R = {'L−1' if receiver else 'L'} backward rounds "
        "of each.\nRounds of a mini-batch; message: average numbers from a node to a neighbour in a round."
    )


def _numbers(option: str, given: str | None, default: int) -> list[int]:
    parts = [str(default)] if given is None else given.split(",")
    if not all(part.strip().isdigit() and int(part) >= 1 for part in parts):
        raise InputError(
            f"{option}: must be numbers ≥ 1 with commas between them, e.g. 1,10,100; found '{given}'"
        )
    return [int(part) for part in parts]


@app.command("topology")
def topology(
    source: Annotated[
        str,
        typer.Argument(
            help="A kind (barabasi_albert), a graph file, a named network (abilene), or a CONFIG."
        ),
    ],
    parameters: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Parameters of the kind, e.g. nodes=50 m=2."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    minibatch: Annotated[int, typer.Option(min=0, help="The mini-batch whose topology is shown.")] = 0,
    figure: Annotated[Path | None, typer.Option(help="Draw the network into this PNG file.")] = None,
) -> int:
    """Describe a topology, and draw it."""
    graph = _topology_service(source, parameters or [], seed).graph(minibatch)
    table = Table(title=f"{source}", title_justify="left", show_header=False, box=None, pad_edge=False)
    for key, value in describe(graph).items():
        shown = "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(key.replace("_", " "), shown)
    make_console().print(table)
    if figure is not None:
        from fdtrain.figures import draw_topology

        draw_topology(graph, figure, source)
        print(f"drawn into {figure}")
    return 0


@app.command("config")
def check_config(
    config_name: Annotated[
        str | None,
        typer.Argument(metavar="[CONFIG]", help="A file to check; without it, the schema is printed."),
    ] = None,
    overrides: OverridesArgument = None,
    as_json: Annotated[bool, typer.Option("--json", help="The schema as JSON Schema, for editors.")] = False,
    allow_plugins: PluginsOption = False,
) -> int:
    """Check a configuration and print it with all defaults; without one, print every key with its meaning."""
    if config_name is not None:
        print(_load(config_name, overrides, allow_plugins).config.to_yaml(), end="")
    elif as_json:
        print(json.dumps(Config.model_json_schema(), indent=2))
    else:
        from fdtrain.schema import describe_schema

        make_console().print(describe_schema())
    return 0


@app.command("bench")
def bench(
    context: typer.Context,
    what: Annotated[Literal["rounds", "epochs", "start"], typer.Argument(help="What to measure.")],
    config_name: ConfigArgument = "quickstart",
    overrides: OverridesArgument = None,
    ranks: RanksOption = "auto",
    repeats: Annotated[int, typer.Option(min=1, help="Measurements; the median counts.")] = 15,
    allow_plugins: PluginsOption = False,
) -> int:
    """Measure: rounds of training against bare exchanges, epochs against plain NumPy, the start of the ranks."""
    from fdtrain.bench import Benchmark

    experiment = _load(config_name, overrides, allow_plugins)
    if experiment.job.streamed or experiment.config.training.mode == "centralized":
        raise InputError("bench: needs a static topology, a fixed data set and training.mode: distributed")
    team: Team | None = context.obj

    def work(team: Team, observer: Observer) -> None:
        benchmark = Benchmark(experiment, team)
        if what == "start":
            observer.note(benchmark.start(launched_at()))
        else:
            observer.note(benchmark.rounds(repeats) if what == "rounds" else benchmark.epochs(repeats))

    arguments = ["bench", what, config_name, *(overrides or []), "--repeats", str(repeats)]
    arguments += ["--allow-plugins"] if allow_plugins else []
    on_ranks(count_ranks(ranks, experiment, team), team, arguments, None, work)
    return 0


@app.command("report")
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


def _load(config_name: str, overrides: list[str] | None, allow_plugins: bool) -> Experiment:
    settings = config.load(resources.find_config(config_name), overrides or [])
    return build(settings, allow_plugins=allow_plugins)


def _topology_service(source: str, parameters: list[str], seed: int) -> TopologyService:
    kinds = {model.model_fields["kind"].default for model in get_args(get_args(TopologyConfig)[0])}
    if source in kinds - {"bundle"}:
        return TopologyService(config.topology_from(source, parameters), seed)
    if source.endswith((".yaml", ".yml")):
        return build(config.load(resources.find_config(source), parameters)).topology
    known = ", ".join([*sorted(kinds - {"bundle"}), *named_networks()])
    if Path(source).suffix == "" and source not in named_networks():
        raise InputError(
            f"topology: '{source}' is no kind, no named network and no graph file; known: {known}"
        )
    return TopologyService(config.topology_from("file", [f"path={source}", *parameters]), seed)
