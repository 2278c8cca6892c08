"""What docs/unreliable.md says, in short: push-sum learns what the run without loss learns, with a smaller step."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import fdtrain
from fdtrain import reference, resources
from fdtrain.config import Config
from fdtrain.experiment import build
from fdtrain.sweep import plan
from fdtrain.sweep.schema import SweepConfig

RATE = 0.3
STUDIES = ("loss", "bursts", "speed", "recovery")


def config_of(lost: str, rate: float, seed: int) -> Config:
    """That of one run of studies/loss."""
    wanted = {"lost": lost, "rate": f"{rate:g}", "seed": str(seed)}
    points = plan.load(resources.find_sweep("studies/loss")).points
    (found,) = [point.config for point in points if point.labels == wanted]
    assert found is not None
    return found


@cache
def final_mse(seed: int, rate: float = 0.0, lr: float | None = None) -> float:
    """Of training with push-sum, and that rate of loss of parameters."""
    config = config_of("parameters, push_sum", rate, seed)
    if lr is not None:
        config = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"lr": lr})})
    return fdtrain.run(config, verify=False).rows[-1].train


def share_on_nodes(config: Config) -> float:
    """Of all mass, that of a node in equilibrium: the rest waits on links, lost and not yet made up for."""
    graph = build(config).topology.graph(0)
    W = reference.mixing_matrix(graph.adjacency(), "metropolis")
    return float(1 / (1 + (1 - W.diagonal().mean()) * RATE / (1 - RATE)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_push_sum_with_30_percent_parameter_loss_is_within_10_percent(seed: int) -> None:
    assert final_mse(seed, RATE) <= 1.10 * final_mse(seed)


def test_push_sum_is_training_with_a_smaller_step() -> None:
    config = config_of("parameters, push_sum", RATE, 1)
    share = share_on_nodes(config)
    assert 0.7 < share < 0.8
    assert final_mse(1, RATE) / final_mse(1) > 1.05
    assert final_mse(1, RATE) == pytest.approx(final_mse(1, lr=share * config.optimizer.lr), rel=0.01)


def sweep_of(name: str) -> SweepConfig:
    return plan.load(resources.find_sweep(f"studies/{name}")).config


@pytest.mark.parametrize("name", STUDIES)
def test_studies_have_three_draws_and_figures_of_lines(name: str) -> None:
    sweep = sweep_of(name)
    assert sweep.repetitions == ("seed",)
    assert len(sweep.axes["seed"]) >= 3
    assert {figure.kind for figure in sweep.figures} >= {"lines"}


def test_bursts_have_the_same_rate_and_the_length_that_their_label_says() -> None:
    for label, variant in sweep_of("bursts").axes["burst"].items():
        loss: dict[str, Any] = variant.set["channel.loss"]
        assert loss["to_bad"] / (loss["to_bad"] + loss["to_good"]) == pytest.approx(0.5)
        assert 1 / loss["to_good"] == pytest.approx(float(label))


def test_partitions_end_when_recovery_begins_and_last_as_long_as_their_label_says() -> None:
    sweep = sweep_of("recovery")
    assert sweep.recovery is not None
    for label, variant in sweep.axes["partition"].items():
        for partition in variant.set.get("channel.partitions", []):
            assert partition["stop"] == sweep.recovery.since
            assert partition["stop"] - partition["start"] == int(label)
    configs = [point.config for point in plan.load(resources.find_sweep("studies/recovery")).points]
    lengths = {(one.task.train_samples, one.training.batch) for one in configs if one}  # type: ignore[union-attr]
    assert all(samples == batch for samples, batch in lengths)  # an epoch is a mini-batch
    assert np.isin([one.training.epochs for one in configs if one], 300).all()
