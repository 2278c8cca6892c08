"""What the commands share: their arguments and options, and the experiment that these describe."""

from __future__ import annotations

from typing import Annotated

import typer

from fdtrain import config, resources
from fdtrain.experiment import Experiment, build

ConfigArgument = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help="A YAML file, or one that comes with fdtrain, e.g. quickstart."),
]
OptionalConfigArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file, or one that comes with fdtrain, e.g. quickstart.",
        show_default=False,
    ),
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Overrides, e.g. training.epochs=5.")
]
RanksOption = Annotated[
    str,
    typer.Option(
        metavar="N|pure|auto", help="MPI ranks: a number (1: this process), one per node, or one per core."
    ),
]
PluginsOption = Annotated[
    bool,
    typer.Option("--allow-plugins", help="Execute an optimizer of your own that the configuration names."),
]


def load_experiment(config_name: str, overrides: list[str] | None, *, allow_plugins: bool) -> Experiment:
    """The experiment of a configuration file, or of one that comes with fdtrain."""
    settings = config.load(resources.find_config(config_name), overrides or [])
    return build(settings, allow_plugins=allow_plugins)
