"""The paper's Table I: rounds and message sizes of every scheme, by formula, as planned, and as counted on the wire."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from fdtrain import config as configuration
from fdtrain.config import Config
from fdtrain.errors import InputError
from fdtrain.experiment import Experiment, build, run_job
from fdtrain.formulas import expected_bytes, expected_numbers, expected_rounds
from fdtrain.models import MAX_LAYERS, GcnnModel
from fdtrain.optimizers import Decentralized, fits
from fdtrain.outputs import writing
from fdtrain.progress import as_text
from fdtrain.rounds import Outline
from fdtrain.schemes import SCHEMES
from fdtrain.team import Team


class Case(NamedTuple):
    """One line of the table."""

    scheme: str
    layers: int  # L
    batch: int  # B
    wave: int  # w
    consensus: int  # K; 0 where the scheme has none


class Found(NamedTuple):
    """The same quantity from three sides."""

    formula: int
    planned: int
    measured: float  # whole, if all is well

    @property
    def agrees(self) -> bool:
        """Whether all three are equal."""
        return self.formula == self.planned == self.measured


class Sent(NamedTuple):
    """All messages of a run, and their bytes."""

    messages: int
    bytes: int


@dataclass(frozen=True)
class Line:
    """What a mini-batch of a case costs: rounds, and numbers and bytes that a node sends to each neighbour."""

    case: Case
    mixes: str  # what the optimizer mixes
    rounds: Found
    numbers: Found
    bytes: Found
    peak: int  # largest message, numbers
    counted: Sent  # over links, inference and degrees included
    physical: Sent  # by MPI, or what stands for it
    on_wire: bool  # one rank per node: every link message is a physical one

    @property
    def agrees(self) -> bool:
        """Whether formula, plan and wire agree."""
        sent = not self.on_wire or self.counted == self.physical
        return self.rounds.agrees and self.numbers.agrees and self.bytes.agrees and sent


def cases(
    layers: Iterable[int], batches: Iterable[int], waves: Iterable[int], rounds: Sequence[int]
) -> Iterator[Case]:
    """Every scheme with L, B, w ≤ B and, where it has rounds of consensus, K."""
    for depth, batch, wave, (name, scheme) in product(layers, batches, waves, SCHEMES.items()):
        if wave <= batch:
            for consensus in rounds if scheme.exchange in ("after_batch", "after_wave") else [0]:
                yield Case(name, depth, batch, wave, consensus)


def read_cases(
    experiment: Experiment, layers: str | None, batches: str | None, waves: str | None, consensus: str | None
) -> list[Case]:
    """The cases that the command's options list; what is not given is the experiment's own.

    Raises:
        InputError: an option does not list numbers ≥ 1, or no wave is at most a batch.
    """
    training, depth = experiment.config.training, experiment.job.model.outline.depth
    if not _is_stack(experiment.config) and layers not in (None, str(depth)):
        raise InputError(f"--layers: this model has {depth} rounds of messages; leave the option out")
    depths = _numbers("--layers", layers, depth)
    if max(depths) > MAX_LAYERS:
        raise InputError(f"--layers: must be at most {MAX_LAYERS}, found {max(depths)}")
    found = [
        *cases(
            depths,
            _numbers("--batches", batches, training.batch),
            _numbers("--waves", waves, training.wave),
            _numbers("--consensus", consensus, training.consensus_rounds),
        )
    ]
    if not found:
        raise InputError("cost: no wave is at most a batch; lower --waves")
    return found


def _numbers(option: str, given: str | None, default: int) -> list[int]:
    parts = [str(default)] if given is None else given.split(",")
    if not all(re.fullmatch("[1-9][0-9]{0,5}", part.strip()) for part in parts):
        found = f"{given:.60}" if given else given
        raise InputError(
            f"{option}: must be numbers from 1 to 999999 with commas between them, e.g. 1,10,100; found '{found}'"
        )
    return [int(part) for part in parts]


def _is_stack(config: Config) -> bool:
    """Whether L is the number of the model's layers, and could be another one."""
    return isinstance(config.model, GcnnModel) and not config.task.adds_layers()


def configure(base: Config, case: Case) -> Config:
    """`base` with the case's L, B, w, K and scheme, and one mini-batch of data.

    For an L other than its own the second size, g_1, is that of all hidden layers, and the first activation that of all
    layers. Under a scheme that its optimizer does not fit, D-SGD or naive SGD takes its place.
    """
    content: dict[str, Any] = base.model_dump(mode="json", exclude_none=True)
    if _is_stack(base) and isinstance(base.model, GcnnModel) and case.layers != len(base.model.sizes) - 1:
        first, hidden, last = base.model.sizes[0], base.model.sizes[1], base.model.sizes[-1]
        sizes = [first, *[hidden] * (case.layers - 1), last]
        content["model"] |= {"sizes": sizes, "activation": base.model.activations[0]}
    content["task"] |= base.task.of_one_minibatch(case.batch)
    training = {"epochs": 1, "batch": case.batch, "wave": case.wave, "scheme": case.scheme}
    if case.consensus:
        training["consensus_rounds"] = case.consensus
    if SCHEMES[case.scheme].exchange == "along":
        training["slices"] = base.training.slices
    content["training"] = training
    assert isinstance(base.optimizer, Decentralized)
    if not fits(case.scheme, base.optimizer.make(base.optimizer.rate(1, 1))):
        content["optimizer"] = {"kind": "naive_sgd" if case.consensus else "d_sgd"}
    return configuration.from_mapping(content)


def measure(base: Config, case: Case, team: Team, *, allow_plugins: bool = False) -> Line:
    """Run one mini-batch of the case on the team, and count."""
    experiment = build(configure(base, case), allow_plugins=allow_plugins)
    job = experiment.job
    host = experiment.host(team.size)
    run_job(replace(job, limit=1), team, host)
    schedule, ledger = job.schedule(case.batch), host.outcome.ledger
    links, train = 2 * experiment.topology.graph(0).num_edges, ledger.total["train"]
    kinds = [
        (count.link_bytes, schedule.precision.bytes(kind))
        for (phase, kind), count in ledger.fields.items()
        if phase == "train"
    ]
    numbers = sum(_shared(size, links * each) for size, each in kinds)
    every = ledger.total.values()
    return Line(
        case,
        "–" if case.scheme == "inference" else ", ".join(job.optimizer.travels),
        Found(expected_rounds(schedule), len(schedule.rounds), train.rounds),
        Found(expected_numbers(schedule), schedule.numbers, numbers),
        Found(expected_bytes(schedule), schedule.bytes, _shared(train.link_bytes, links)),
        schedule.peak_width,
        Sent(sum(count.link_messages for count in every), sum(count.link_bytes for count in every)),
        Sent(ledger.physical_messages, ledger.physical_bytes),
        on_wire=team.size == experiment.nodes,
    )


def _shared(total: int, count: int) -> float:
    """total / count, as a whole number if it is one."""
    return total / count if total % count else total // count


def render(lines: Sequence[Line], outline: Outline) -> str:
    """The table as text: a line per case; `outline` is that of the configured model."""
    missing = outline.depth - len(outline.returning)
    R, model = f"L−{missing}" if missing else "L", outline.title.split(", sizes")[0]
    title = [
        f"Table I, {model}: L layers (rounds forward), B samples in B' = ⌈B/w⌉ waves, K rounds of consensus, R = {R}",
        *(f"  {name:<13} {scheme.formula:<14} rounds" for name, scheme in SCHEMES.items()),
        "Rounds of a mini-batch, numbers and bytes in a message on average (peak: at most); as the",
        "formula has them, as the schedule plans them, as they were counted on the wire.",
    ]
    table = Table(box=None, header_style="", padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("scheme", "mixes", "L", "B", "w", "K", "rounds:\nformula", "plan", "wire"):
        left = heading in ("scheme", "mixes")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for heading in ("numbers:\nformula", "plan", "wire", "peak", "bytes:\nwire", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        case, sizes = line.case, [number / line.rounds.planned for number in line.numbers]
        table.add_row(
            case.scheme,
            line.mixes,
            *(f"{value:,}" for value in (case.layers, case.batch, case.wave)),
            str(case.consensus or "–"),
            *(f"{value:,}" for value in line.rounds),
            *(f"{size:,.2f}" for size in sizes),
            f"{line.peak:,}",
            f"{line.bytes.measured / line.rounds.planned:,.2f}",
            "equal" if line.agrees else "DIFFER",
        )
    agree = sum(line.agrees for line in lines)
    end = f"{agree} of {len(lines)} rows: formula = plan = wire"
    if all(line.on_wire for line in lines):
        end += "; one rank per node: MPI sent as many messages and bytes"
    else:
        end += ", as counted by the ranks (--ranks pure compares with what MPI sends)"
    return "\n".join([*title, "", as_text([table], 150), end])


def write_csv(file: Path, lines: Sequence[Line]) -> None:
    """A line per case, everything in numbers per node and neighbour."""
    names = [
        *Case._fields,
        *(f"{what}_{side}" for what in ("rounds", "numbers", "bytes") for side in Found._fields),
    ]
    with writing(file), file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        sent = [f"{how}_{what}" for how in ("link", "physical") for what in Sent._fields]
        writer.writerow([*names, "mixes", "peak", *sent, "agrees"])
        for line in lines:
            counts = [line.mixes, line.peak, *line.counted, *line.physical, line.agrees]
            writer.writerow([*line.case, *line.rounds, *line.numbers, *line.bytes, *counts])
