"""Early stop on a plateau, and what a run says of its end."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from teams import content

from fdtrain import driver
from fdtrain.errors import DivergenceError
from fdtrain.service import EpochRow, Plateau


def rows(*values: float) -> Iterator[EpochRow]:
    for epoch, value in enumerate(values, start=1):
        yield EpochRow(epoch, value, 100.0 - epoch, 0.0, 0, 0, 0)


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "stop"),
    [
        ([5, 4, 3, 2, 1], 1, 0.0, None),
        ([5, 5, 5], 1, 0.0, 2),  # equal is no improvement
        ([5, 5, 5], 2, 0.0, 3),
        ([5, 6, 4, 7, 3, 8, 2], 2, 0.0, None),  # an improvement starts the count anew
        ([5, 6, 4, 7, 8], 2, 0.0, 5),
        ([5, 6, 7, 4, 5, 6, 7, 1], 3, 0.0, 7),
        ([100, 91, 83, 75, 70], 1, 0.1, 2),  # 9 % of the best is too little; of 100, not of what came last
        ([100, 91, 89, 81, 80.5], 2, 0.1, 5),
        ([100, 91, 89, 81, 79], 2, 0.1, None),
        ([100, 90, 80], 1, 0.1, 2),  # 10 % exactly is not more than 10 %
        ([100, 99, 98, 97, 96, 95], 5, 0.1, 6),  # slow progress below min_delta does not count
        ([math.nan, math.nan], 2, 0.0, 2),
        ([math.inf, 1, 1], 1, 0.0, 1),
        ([math.nan, 3, 3, 3], 2, 0.0, 4),
    ],
)
def test_plateau(values: list[float], patience: int, min_delta: float, stop: int | None) -> None:
    plateau = Plateau("mse_train", patience, min_delta)
    told = [(row.epoch, why) for row in rows(*values) if (why := plateau.reached(row)) is not None]
    assert (told[0][0] if told else None) == stop


def test_what_a_plateau_says() -> None:
    plateau = Plateau("mse_train", 2, 0.25)
    said = [plateau.reached(row) for row in rows(8.0, 4.0, 3.5, 3.25)]
    assert said == [
        None, None, None,
        "stopped early after epoch 4: mse_train has not improved on 4 of epoch 2 by 0.25 of it for 2 epochs",
    ]  # fmt: skip
    falling = Plateau("mse_test", 1, 0.0)  # the other metric falls
    assert [falling.reached(row) for row in rows(1.0, 1.0, 1.0)] == [None] * 3


def outcome(folder: Path) -> str:
    found: str = json.loads((folder / "environment.json").read_text())["outcome"]
    return found


@pytest.mark.parametrize("metric", ["mse_train", "mse_test"])
@pytest.mark.parametrize("mode", ["distributed", "centralized"])
def test_early_stop(tmp_path: Path, mode: str, metric: str) -> None:
    """It ends after the epoch that the whole run's metrics say, and leaves what a run of so many epochs leaves."""
    kind, lr = ("d_sgd", 0.5) if mode == "distributed" else ("sgd", 0.9)
    change: dict[str, Any] = {"training": {"mode": mode, "epochs": 40}, "optimizer": {"kind": kind, "lr": lr}}
    whole = driver.run(content(change), out=tmp_path / "whole", verify=False)
    assert outcome(tmp_path / "whole") == "complete"
    values = [row.columns()[metric] for row in whole.rows]
    best, since, end = math.inf, 0, None
    for epoch, value in enumerate(values, start=1):
        if value < 0.95 * best:
            best, since = value, epoch
        elif epoch - since >= 3:
            end = epoch
            break
    assert end is not None
    assert 5 < end < 40
    change["training"]["early_stop"] = {"metric": metric, "patience": 3, "min_delta": 0.05}
    for ranks in (1, 3) if mode == "distributed" else (1,):
        out = tmp_path / f"stopped-{ranks}"
        stopped = driver.run(content(change), out=out, ranks=ranks, verify=False)
        assert stopped.rows == whole.rows[:end]
        assert outcome(out).startswith(
            f"stopped early after epoch {end}: {metric} has not improved on {best:.5g} of epoch"
        )
        assert len((out / "metrics.csv").read_text().splitlines()) == 1 + end
    change["training"] = {"mode": mode, "epochs": end}
    short = driver.run(content(change), out=tmp_path / "short", verify=False)
    assert short.theta.tobytes() == stopped.theta.tobytes()
    assert short.ledger.total == stopped.ledger.total


def test_a_run_that_reached_its_last_epoch_is_complete(tmp_path: Path) -> None:
    change = {"training": {"epochs": 3, "early_stop": {"patience": 2, "min_delta": 0.9}}}
    result = driver.run(content(change), out=tmp_path / "run", verify=False)
    assert len(result.rows) == 3
    assert outcome(tmp_path / "run") == "complete"


def test_outcomes(tmp_path: Path) -> None:
    driver.run(content({}), out=tmp_path / "complete")
    assert outcome(tmp_path / "complete") == "complete"
    diverging: dict[str, Any] = {"model": {"activation": "identity"}}
    for mode, kind in (("distributed", "d_sgd"), ("centralized", "sgd")):
        diverging |= {"training": {"mode": mode}, "optimizer": {"kind": kind, "lr": 1e40}}
        with pytest.raises(DivergenceError) as caught:
            driver.run(content(diverging), out=tmp_path / mode, verify=False)
        assert outcome(tmp_path / mode) == str(caught.value)
        assert "training diverged: epoch 1" in str(caught.value)

    def interrupt(row: EpochRow) -> None:
        if row.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        driver.run(content({}), out=tmp_path / "interrupted", on_epoch=interrupt)
    assert outcome(tmp_path / "interrupted") == "interrupted"
