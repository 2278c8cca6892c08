"""Link scheduling in a wireless network (SPEC §6 C): its settings."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fdtrain.section import Positive, Section
from fdtrain.tasks.section import TaskSection


class Critic(Section):
    """The twin GCNN that predicts who is going to be chosen, and so knows what z does to the utility."""

    kind: Literal["central", "neighbours"] = Field(
        default="central",
        description="central: one model, at rank 0, to which nodes report; neighbours: a part of every node's "
        "parameters, trained by messages.",
    )
    hidden: int = Field(default=64, description="Width of the hidden layers.", ge=1, le=10_000)
    layers: int = Field(default=5, description="Graph convolutions.", ge=1, le=100)
    negative_slope: float = Field(default=0.2, description="Slope of leaky_relu below 0.", ge=0, le=1)
    samples: int = Field(
        default=10,
        description="Samples of a mini-batch from which a central critic learns: the first ones.",
        ge=1,
    )
    lr: Positive = Field(
        default=1e-4,
        description="α of the critic: of its own Adam, or for its part of the nodes' parameters.",
    )
    l2: float = Field(
        default=5e-4,
        description="Weight of Σ φ² beside the RMSE or, among neighbours, the squared error.",
        ge=0,
        allow_inf_nan=False,
    )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Layer sizes, from (1, z) to (chosen, not)."""
        return (2, *[self.hidden] * (self.layers - 1), 2)


class LinkScheduling(TaskSection):
    """Actor and critic: links of a wireless network decide, without a centre, which of them are on."""

    kind: Literal["link_scheduling"] = Field(default="link_scheduling", description="The task.")
    graphs: int = Field(
        default=250, description="Mini-batches per epoch, each with new weights.", ge=1, le=10_000_000
    )
    test_graphs: int = Field(default=100, description="Held-out conflict graphs.", ge=1, le=1_000_000)
    test_samples: int = Field(
        default=10, description="Draws of the weights on each of them.", ge=1, le=1_000_000
    )
    test_seed: int = Field(
        default=0,
        description="Seed of the held-out graphs and weights, whatever the run's seed.",
        ge=0,
        lt=2**63,
    )
    decision_noise: float = Field(
        default=0.075, description="z + U(−e, e) decides in training.", ge=0, allow_inf_nan=False
    )
    exploration: float = Field(
        default=0.03,
        description="z + U(−d, d) is where a central critic is asked.",
        ge=0,
        allow_inf_nan=False,
    )
    explorations: int = Field(
        default=10,
        description="m, its draws per node and mini-batch: sample b has that of sample b mod m.",
        ge=1,
    )
    start: Positive = Field(
        default=0.2,
        description="Mean of z on the first graph before training, to which a last layer with relu is scaled.",
    )
    critic: Critic = Field(default=Critic(), description="The critic.")
    optimum_within: float = Field(
        default=0.0,
        description="Seconds for the exact optimum of a held-out sample, for comparison; 0: not at all.",
        ge=0,
        le=1e6,
    )

    bundle: ClassVar[None] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.critic.kind == "neighbours":
            changed = [
                key for key in ("exploration", "explorations") if getattr(self, key) != _default(self, key)
            ]
            if self.critic.samples != _default(self.critic, "samples"):
                changed.append("critic.samples")
            if changed:
                raise ValueError(f"{changed[0]}: belongs to a central critic, which nodes ask; remove it")
        return self

    @classmethod
    def complete(cls, content: dict[str, Any]) -> None:
        """The published sizes, noises and rates, with one update per mini-batch, whose samples are one wave; or ten
        waves, where every sample is an update: then they send w·|θ| numbers of the gradient."""
        topology = content.setdefault(
            "topology", {"kind": "erdos_renyi", "nodes": 100, "mean_degree": [2, 25]}
        )
        if isinstance(topology, dict) and topology.get("kind") != "channels":
            content["topology"] = {"connected": False, **topology}
            if topology.get("kind") == "erdos_renyi":
                content["topology"] = {"redraw": {"every": 1}, **content["topology"]}
        model = content.setdefault("model", {})
        if isinstance(model, dict) and model.get("kind", "gcnn") == "gcnn":
            content["model"] = {**_ACTOR, **model}
        training = content.setdefault("training", {})
        if not isinstance(training, dict):
            return
        content["training"] = training = {"epochs": 22, "batch": 100, "log_every": 50, **training}
        optimizer = content.setdefault("optimizer", {})
        if isinstance(optimizer, dict) and "kind" not in optimizer:
            centralized = training.get("mode") == "centralized"
            content["optimizer"] = optimizer = {
                "kind": "adam" if centralized else "naive_adam",
                "lr": 5e-5,
                **optimizer,
            }
        by_sample = isinstance(optimizer, dict) and optimizer.get("updates") == "sample"
        if isinstance(optimizer, dict) and optimizer.get("kind") in ("naive_adam", "naive_sgd"):
            training.setdefault("scheme", "per_sample" if by_sample else "per_batch")
        batch = training["batch"]
        training.setdefault("wave", -(-batch // 10) if by_sample and isinstance(batch, int) else batch)

    def adds_layers(self) -> bool:
        return self.critic.kind == "neighbours"

    def of_one_minibatch(self, batch: int) -> dict[str, Any]:
        return {"graphs": 1, "test_graphs": 1, "test_samples": 1}


def _default(section: Section, key: str) -> Any:
    return type(section).model_fields[key].default


_ACTOR = {
    "sizes": [1, 32, 32, 1],
    "activation": ["leaky_relu", "leaky_relu", "relu"],
    "negative_slope": 0.2,
    "init": {"kind": "glorot_uniform", "neighbour_scale": 0.1},
}
