"""The command line. Commands that run on ranks start an MPI job; under ``mpirun`` they are its rank 0."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from fdtrain import __version__, stopping
from fdtrain.commands import evaluate, look, measure, scale, schedule, study, train
from fdtrain.driver import VerificationError
from fdtrain.errors import DivergenceError, InputError, RunFailedError, StoppedError
from fdtrain.jobs import reports_to_launcher
from fdtrain.progress import Events
from fdtrain.team import Team

COMMANDS: dict[str, Callable[..., int]] = {
    "run": train.run,
    "verify": train.verify,
    "plan": look.plan,
    "sweep": study.sweep,
    "cost": measure.cost,
    "topology": look.topology,
    "config": look.check_config,
    "bench": measure.bench,
    "report": study.report,
    "evaluate": evaluate.evaluate,
    "schedule": schedule.schedule,
    "scale": scale.scale,
    "predict": scale.predict,
}

# What NumPy says of arrays that no machine could hold, in place of a MemoryError.
_BEYOND_MEMORY = (
    "Maximum allowed dimension exceeded", "array is too big", "Python int too large to convert to C",
)  # fmt: skip

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="Train graph neural networks on the network itself, with real messages between neighbours.",
)  # fmt: skip
for name, command in COMMANDS.items():
    app.command(name)(command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line in a process that no MPI launcher started; return the exit status."""
    return run_command(sys.argv[1:] if arguments is None else arguments, None)


def run_command(arguments: Sequence[str], team: Team | None) -> int:
    """Run the command line, on rank 0 of `team` if there is one; return the exit status.

    0: done; 1: the run failed (verification, divergence, a rank); 2: the input cannot be used, said in one line;
    130, 143: stopped, as a signal asked.
    """
    try:
        status = app(list(arguments), standalone_mode=False, obj=team, prog_name="fdtrain")
        return int(status or 0)
    except InputError as error:
        return _fail(str(error), 2)
    except StoppedError as error:
        return _fail(str(error), stopping.exit_status(error.signal))
    except (VerificationError, DivergenceError, RunFailedError) as error:
        return _fail(str(error), 1)
    except typer.Exit as exit_:
        return exit_.exit_code
    except MemoryError as error:
        return _fail(f"not enough memory: {error}; use fewer nodes or samples, or smaller waves or sizes", 2)
    except Exception as error:
        if isinstance(error, ValueError | OverflowError) and str(error).startswith(_BEYOND_MEMORY):
            return _fail(f"not enough memory: {error}; use smaller sizes, or fewer nodes or samples", 2)
        if hasattr(error, "format_message"):  # the command line itself was wrong
            return _fail(f"{error.format_message()} (see fdtrain --help)", 2)
        raise


def _fail(message: str, status: int) -> int:
    if reports_to_launcher():
        Events(sys.stdout).error(message)
    else:
        line = " ".join(message.split())
        print(f"error: {''.join(c if c.isprintable() else '?' for c in line)}", file=sys.stderr)
    return status


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"fdtrain {__version__}")
        raise typer.Exit
