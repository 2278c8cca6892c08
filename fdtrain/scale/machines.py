"""Machines to predict for: a computer of so many ranks, or a radio network of one device per node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fdtrain import resources
from fdtrain.errors import InputError
from fdtrain.explain import check, suggestion
from fdtrain.section import Positive, Section
from fdtrain.yamlfile import read_mapping, shown

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Fit(Section):
    """How well a computer's figures agree with what they were fitted to; errors are relative."""

    points: int = Field(description="Points that were fitted.", ge=1)
    median_error: Seconds = Field(description="Median of |predicted / measured − 1|.")
    max_error: Seconds = Field(description="Largest.")
    left_out_median: Seconds = Field(description="Median for points that were left out of the fit.")
    left_out_max: Seconds = Field(description="Largest of these.")
    deviations: dict[str, Seconds] = Field(description="Standard error of each figure, by the jackknife.")


class Computer(Section):
    """Ranks that share or exchange messages; time is linear in what the busiest of them has to do."""

    kind: Literal["computer"] = "computer"
    name: str = Field(description="What it is called.")
    per_round: Seconds = Field(description="δ, seconds of every round, whatever is in it.")
    per_message: Seconds | None = Field(
        default=None, description="α, latency: seconds of every message that a rank sends in a round."
    )
    per_byte: Seconds | None = Field(default=None, description="β, seconds per byte: 1 / bandwidth.")
    per_visit: Seconds = Field(
        default=0.0, description="ζ, seconds of every node in a round, however short its row."
    )
    per_flop: Seconds = Field(description="γ, seconds per multiplication or addition of a rank.")
    per_gathered: Seconds = Field(
        default=0.0, description="ε, seconds per number that is summed over a neighbour."
    )
    ranks: int = Field(default=1, description="Ranks to predict for where the command names none.", ge=1)
    fit: Fit | None = Field(default=None, description="Where the figures are from a scaling study: errors.")


class Radio(Section):
    """A device per node that broadcasts to its neighbours, and does not hear while it sends."""

    kind: Literal["radio"] = "radio"
    name: str = Field(description="What it is called.")
    latency: Seconds = Field(
        description="Seconds of every packet besides its bits: access, preamble, turning round."
    )
    bandwidth: Positive = Field(description="Bits per second while a packet is on the air.")
    payload: int = Field(default=1500, description="Largest payload of a packet, bytes.", ge=1)
    header: int = Field(default=0, description="Bytes of every packet besides its payload.", ge=0)
    slots: Literal["colouring", "bound"] = Field(
        default="colouring",
        description="Slots of a round: a colouring in which nodes within two hops differ, or the bound max (1 + d_i).",
    )
    duty_cycle: float = Field(
        default=1.0, description="Largest part of the time that a device may send.", gt=0, le=1
    )
    flops: Positive = Field(description="Multiplications and additions per second of a device.")


Machine = Computer | Radio
_KINDS: dict[str, type[Computer] | type[Radio]] = {"computer": Computer, "radio": Radio}


def load_machine(name: str) -> Machine:
    """A machine by its file, or one that comes with fdtrain by name, e.g. ``wifi``.

    Raises:
        InputError: there is no such file, or it describes no machine.
    """
    path = resources.find_machine(name)
    content = read_mapping(path)
    section = content.get("machine")
    if set(content) != {"machine"} or not isinstance(section, dict):
        raise InputError(
            f"{path}: must have the key 'machine' alone, a section of keys; found {shown([*content])}"
        )
    kind = section.get("kind")
    if kind not in _KINDS:
        raise InputError(f"{path}: machine.kind: unknown {shown(kind)}; {suggestion(str(kind), [*_KINDS])}")
    return check(_KINDS[kind], section, f"{path}: machine")


def write_machine(path: Path, machine: Machine) -> None:
    """Write a file that :func:`load_machine` reads, as JSON."""
    path.write_text(
        f'{{"machine": {machine.model_dump_json(exclude_none=True, indent=1)}}}\n', encoding="utf-8"
    )
