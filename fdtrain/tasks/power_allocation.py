"""Power allocation in a wireless network (SPEC §6 B): its settings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from fdtrain.section import Positive, Section, beside
from fdtrain.tasks.section import TaskSection

# What has a meaning beside a bundle; all else says how to draw.
_BESIDE_A_BUNDLE = {
    "kind", "bundle", "pairs", "noise_power", "max_power", "baselines_every", "allow_outages",
}  # fmt: skip


class Mobility(Section):
    """Terminals that move between mini-batches, each in a straight line of its own, reflected at the edges."""

    speed: float = Field(description="Metres per mini-batch.", gt=0, le=1e4)
    decorrelation: float = Field(
        default=50.0, description="Metres after which shadowing has become another draw.", ge=0.1, le=1e9
    )


class PowerAllocation(TaskSection):
    """Unsupervised: transmitters choose their power so that the sum of all pairs' rates is large."""

    model_kind: ClassVar[str] = "uwmmse"
    topology_kind: ClassVar[str | None] = "channels"

    kind: Literal["power_allocation"] = Field(default="power_allocation", description="The task.")
    pairs: int = Field(default=25, description="n, transmitter-receiver pairs.", ge=1, le=10_000)
    area: float = Field(
        default=1000.0, description="Side of the square in which terminals are, in metres.", gt=0, le=1e9
    )
    carrier: float = Field(default=0.9, description="Carrier frequency in GHz.", ge=1e-6, le=1e6)
    path_loss_exponent: float = Field(
        default=3.0, description="PL = 32.4 + 20 log10(f_GHz) + 10·exponent·log10(d_m) dB.", gt=0, le=10
    )
    shadowing: float = Field(
        default=7.2,
        description="Standard deviation of the shadowing in dB, one draw per mini-batch.",
        ge=0,
        le=50,
    )
    shadowing_clip: float = Field(
        default=2.0, description="Shadowing is clipped at so many standard deviations.", gt=0, le=10
    )
    fading: Literal["rayleigh", "none"] = Field(
        default="rayleigh", description="Of every sample: a Rayleigh(1/√2) factor of the amplitude, or none."
    )
    max_path_loss: Annotated[float, Field(gt=0)] = Field(
        default=138.86,
        description="Links whose amplitude is below 10^(−max_path_loss/20) are none; .inf: no threshold.",
    )
    noise_power: Positive = Field(default=10**-13.687, description="σ², noise power at a receiver, in W.")
    max_power: Positive = Field(default=5.0, description="Pmax, the most that a transmitter may send, in W.")
    minibatches: int = Field(default=10_000, description="M, mini-batches per epoch.", ge=1, le=1_000_000)
    test_minibatches: int = Field(default=100, description="Mini-batches for testing.", ge=1)
    online: bool = Field(
        default=True,
        description="Fresh channels for every mini-batch of every epoch; false: the same in a new order.",
    )
    mobility: Mobility | None = Field(
        default=None, description="Let terminals move between mini-batches, instead of drawing new places."
    )
    baselines_every: int = Field(
        default=1,
        description="Compare with WMMSE, full and random power on every so many mini-batches, and on those for "
        "testing; 0: never.",
        ge=0,
    )
    bundle: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="An .npz file with your own channels, instead of the settings that draw them.",
    )
    allow_outages: bool = Field(
        default=False,
        description="Whether a pair's own link may be 0 in a bundle, as it may in drawn channels.",
    )

    @field_validator("max_path_loss", mode="before")
    @classmethod
    def _none_is_no_threshold(cls, value: Any) -> Any:
        return math.inf if value is None else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mobility is not None and not self.online:
            raise ValueError(
                "online: false has no meaning beside mobility, where time runs on through the epochs; remove one"
            )
        if self.bundle is not None:
            given = sorted(self.model_fields_set - _BESIDE_A_BUNDLE)
            changed = [key for key in given if getattr(self, key) != type(self).model_fields[key].default]
            if changed:
                raise ValueError(
                    f"{changed[0]}: has no meaning beside a bundle, which brings its own channels; remove it"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_drawing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Beside a bundle nothing that says how to draw: it would not be true."""
        content: dict[str, Any] = serialize(self)
        if self.bundle is None:
            return content
        return {key: value for key, value in content.items() if key in _BESIDE_A_BUNDLE - {"pairs"}}

    @classmethod
    def complete(cls, content: dict[str, Any]) -> None:
        """The published settings, with one epoch and the samples of a mini-batch in one wave."""
        content.setdefault("topology", {"kind": "channels"})
        content.setdefault("model", {"kind": "uwmmse"})
        training = content.setdefault("training", {})
        if not isinstance(training, dict):
            return
        training = {"epochs": 1, "batch": 64, "log_every": 100, **training}
        training.setdefault("wave", training["batch"])
        centralized = training.get("mode") == "centralized"
        published = {"kind": "adam" if centralized else "naive_adam", "lr": 1e-2, "epsilon_form": "inside"}
        optimizer = content.setdefault("optimizer", published)
        kind = optimizer.get("kind") if isinstance(optimizer, dict) else None
        if kind in ("naive_adam", "naive_sgd") and not centralized:
            training.setdefault("scheme", "per_sample")
        content["training"] = training

    def of_one_minibatch(self, batch: int) -> dict[str, Any]:
        return {"minibatches": 1, "test_minibatches": 1}

    def resolved(self, base: Path | None) -> Self:
        """The same task with the bundle's path made absolute: from `base`, or else from the working directory."""
        if self.bundle is None:
            return self
        return self.model_copy(update={"bundle": beside(self.bundle, base)})
