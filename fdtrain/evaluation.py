"""How a trained model does on networks of other sizes than its own: inference by messages, on channels it never saw.

θ [V, p] has a row per trained node; the nodes of another network take theirs from these rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fdtrain import config as configuration
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.experiment import Experiment, build, run_job
from fdtrain.minibatches import MinibatchRow
from fdtrain.sizes import Size
from fdtrain.tasks.channel_data import ChannelData, SyntheticChannels
from fdtrain.tasks.power_allocation import PowerAllocation
from fdtrain.team import Team
from fdtrain.topology.channels import ChannelTopology
from fdtrain.trained import Parameters, check_fits, config_file, notes_on, on_nodes, read_theta
from fdtrain.yamlfile import apply_override

Array = NDArray[np.float64]
Content = dict[str, Any]
Density = Literal["same", "fixed"]

# What overrides may change: how channels are drawn, and in what portions they are used.
CHANGEABLE = (
    "task.area", "task.carrier", "task.path_loss_exponent", "task.shadowing", "task.shadowing_clip", "task.fading",
    "task.max_path_loss", "task.noise_power", "task.max_power", "training.batch", "training.wave",
)  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A run's model, and the recipe of the channels on which it is evaluated."""

    recipe: Config  # of a network of `pairs` in its own area
    theta: Array  # [V, p]
    pairs: int  # on recipe.task.area
    notes: tuple[str, ...]  # what a reader of the results has to know


def read_run(path: Path, overrides: Sequence[str] = (), seed: int | None = None) -> Trained:
    """The model of the run in `path`, and the recipe of its channels with `overrides`.

    Raises:
        InputError: it is no run, or one of a task that has no other sizes; a file is missing or damaged; an override
            changes what belongs to the model, or what the evaluation itself sets.
    """
    file = config_file(path)
    base = configuration.load(file)
    prepare = PREPARED.get(base.task.kind)
    if prepare is None:
        raise InputError(
            f"{path}: is a run of {base.task.kind}, which has no other sizes; known: {', '.join(PREPARED)}"
        )
    theta = read_theta(path)
    content, pairs, notes = prepare(base, len(theta))
    for override in overrides:
        key = override.partition("=")[0]
        if "=" in override and key not in CHANGEABLE:
            raise InputError(
                f"override '{override}': of a trained run only the channels change: {', '.join(CHANGEABLE)}"
            )
        apply_override(content, override)
    training = content["training"]
    if all(override.partition("=")[0] != "training.wave" for override in overrides):
        training["wave"] = min(training["wave"], training["batch"])
    if seed is not None:
        content["seed"] = seed
    notes += notes_on(path)
    recipe = configuration.from_mapping(content, source=str(file))
    trained = Trained(recipe, theta, pairs, tuple(notes))
    check_fits(path, theta, build(_of_size(trained, pairs, 1, "same")).job.model)
    return trained


def _prepare_power_allocation(base: Config, nodes: int) -> tuple[Content, int, list[str]]:
    """The recipe of its channels; of a bundle's, which say nothing of how they came about, the default recipe."""
    task, notes, pairs = base.task, list[str](), nodes
    assert isinstance(task, PowerAllocation)
    content = base.model_dump(mode="json", exclude_none=True)
    if task.bundle is not None:
        kept = PowerAllocation(noise_power=task.noise_power, max_power=task.max_power)
        content["task"] = kept.model_dump(mode="json", exclude_none=True)
        pairs = content["task"]["pairs"]
        notes.append(
            f"the run's channels came from a bundle: those here are drawn by the default recipe ({pairs} pairs on "
            f"a square of {content['task']['area']:g} m) with the run's noise_power and max_power"
        )
    content["task"].pop("mobility", None)  # test channels are on places of their own
    # Inference runs in the run's own waves; a centralized run had none.
    wave = base.training.wave if base.training.mode == "distributed" else base.training.batch
    content["training"] = {"batch": base.training.batch, "wave": wave, "scheme": "inference"}
    content["training"] |= {"epochs": 1, "log_every": 1}
    content["optimizer"] = {"kind": "d_sgd"}  # nothing trains
    return content, pairs, notes


# Tasks that can be evaluated on other sizes: from a run's configuration and its number of nodes to the recipe, the
# number of pairs for which its area is meant, and notes.
PREPARED: dict[str, Callable[[Config, int], tuple[Content, int, list[str]]]] = {
    "power_allocation": _prepare_power_allocation,
}


def _of_size(trained: Trained, pairs: int, minibatches: int, density: Density) -> Config:
    content = trained.recipe.model_dump(mode="json", exclude_none=True)
    task = content["task"]
    if density == "same":
        task["area"] *= math.sqrt(pairs / trained.pairs)
    task |= {
        "pairs": pairs,
        "minibatches": minibatches,
        "test_minibatches": 1,
        "baselines_every": 1,
        "online": True,
    }
    return configuration.from_mapping(content)


def make_experiment(
    trained: Trained, pairs: int, minibatches: int, *, parameters: Parameters, density: Density
) -> Experiment:
    """Inference on so many mini-batches of test channels, as the only epoch of a run in which nothing trains."""
    config = _of_size(trained, pairs, minibatches, density)
    task, made = config.task, build(config)
    assert isinstance(task, PowerAllocation)
    channels = HeldOut(task, config.training.batch, config.seed)
    topology = ChannelTopology(channels)
    return replace(
        made,
        job=replace(made.job, test_samples=channels.test_batch),
        topology=topology,
        data=ChannelData(channels, topology, task, config.seed),
        theta=on_nodes(trained.theta, pairs, parameters),
    )


class HeldOut(SyntheticChannels):
    """The test channels as the mini-batches of an epoch. What is tested after it is one sample: its result is not
    used."""

    def __init__(self, config: PowerAllocation, batch: int, seed: int) -> None:
        super().__init__(config, batch, seed)
        self.test_batch = 1

    def channels(self, t: int) -> Array:
        return super().test_channels(t)

    def test_channels(self, k: int) -> Array:
        return super().test_channels(k)[:1]


def evaluate(experiment: Experiment, team: Team) -> Size:
    """On rank 0: let the team infer; what comes of it, beside what other methods reach on the same channels."""
    rows: list[MinibatchRow] = []
    host = experiment.host(team.size)
    host.on_minibatches = rows.extend
    run_job(experiment.job, team, host)
    task, count = experiment.config.task, host.outcome.ledger.total["train"]
    assert isinstance(task, PowerAllocation)
    return Size(
        experiment.nodes,
        task.area,
        experiment.job.batch,
        np.array([row.train for row in rows]),
        {name: float(np.mean([row.baselines[name] for row in rows])) for name in rows[0].baselines},
        count.rounds,
        count.link_messages,
        count.link_bytes,
    )
