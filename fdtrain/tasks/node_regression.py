"""Node regression: every node predicts its own label (SPEC §6 A), on synthetic data or on a bundle (SPEC §8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fdtrain import reference, rng
from fdtrain.drawing import Recipe, wave_for
from fdtrain.graph import Graph
from fdtrain.layers.gcnn import Gcnn
from fdtrain.section import beside
from fdtrain.tasks.base import Order, Samples
from fdtrain.tasks.section import TaskSection

Array = NDArray[np.float64]

_NUMBERS = count()  # of recipes


class NodeRegression(TaskSection):
    """Supervised regression of a label per node, with squared error."""

    kind: Literal["node_regression"] = Field(default="node_regression", description="The task.")
    train_samples: int = Field(default=1000, description="N, training samples per epoch.", ge=1)
    test_samples: int = Field(default=20, description="Test samples.", ge=1)
    features: Literal["mixed", "uniform", "normal"] = Field(
        default="mixed",
        description="mixed: U(0,1), N(0,1), integer 0..5, Bernoulli(.25), Bernoulli(.75), "
        "one-hot of 5, and over again.",
    )
    noise: float = Field(
        default=0.1, description="Standard deviation of the label noise.", ge=0, allow_inf_nan=False
    )
    online: bool = Field(default=False, description="Draw fresh samples for every mini-batch.")
    bundle: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="An .npz file with your own data, instead of the synthetic settings."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bundle is not None:
            given = sorted(self.model_fields_set - {"kind", "bundle"})
            changed = [key for key in given if getattr(self, key) != type(self).model_fields[key].default]
            if changed:
                raise ValueError(
                    f"{changed[0]}: has no meaning beside a bundle, which brings its own samples; remove it"
                )
        return self

    def max_batch(self) -> int | None:
        return self.train_samples if self.bundle is None else None

    def of_one_minibatch(self, batch: int) -> dict[str, Any]:
        return {"train_samples": batch, "test_samples": 1}

    def resolved(self, base: Path | None) -> Self:
        """The same task with the bundle's path made absolute: from `base`, or else from the working directory."""
        if self.bundle is None:
            return self
        return self.model_copy(update={"bundle": beside(self.bundle, base)})


class Shift:
    """S of the latest graph, on global matrices; it is made anew when the graph is another object."""

    def __init__(self, kind: str, *, isolated: bool = False) -> None:
        """`isolated`: whether nodes without a neighbour are welcome under a normalised shift, with a row of zeros."""
        self._make = reference.conflict_shift if isolated and kind == "normalized_laplacian" else None
        self._kind = kind
        self._made: tuple[Graph, reference.Matrix] | None = None

    def of(self, graph: Graph) -> reference.Matrix:
        """S [V, V] of `graph`."""
        if self._made is None or self._made[0] is not graph:
            A = graph.adjacency()
            self._made = graph, self._make(A) if self._make else reference.shift_matrix(A, self._kind)
        return self._made[1]


class SyntheticRegression:
    """Samples of the published recipe. Labels come from a teacher: a GCNN of the model's architecture with
    Θ0 ~ U(0,1), Θ1 ~ 2·U(0,1), plus noise.

    A fixed set on a static graph every rank draws for its own nodes (:mod:`fdtrain.drawing`); here are all of them, for
    those who see the whole network. Where the topology is redrawn, or samples are drawn online, labels
    follow the network of the moment: the teacher runs on the graph of the mini-batch.
    """

    def __init__(
        self, config: NodeRegression, model: Gcnn, shift: str, nodes: int, seed: int, *, redrawn: bool
    ) -> None:
        self.train_samples, self.test_samples = config.train_samples, config.test_samples
        self.streamed = config.online or redrawn
        self._config, self._nodes, self._seed, self._shift = config, nodes, seed, Shift(shift)
        self._g_in, self._g_out = model.sizes[0], model.sizes[-1]
        self._teacher = reference.Model(model.sizes, model.activations, model.form, model.negative_slope)
        self._recipe = Recipe(
            next(_NUMBERS),
            seed,
            config.features,
            config.noise,
            config.train_samples,
            config.test_samples,
            self._draw_teacher(model),
            wave_for(nodes, max(model.sizes), config.train_samples),
        )
        self._drawn_on: Graph | None = None  # by the latest recipe
        self._served: tuple[Graph, tuple[Samples, Samples]] | None = None
        self._train: Samples | None = None  # features and noise, as far as they are fixed

    def dataset(self, graph: Graph) -> tuple[Samples, Samples]:
        """All samples on a static graph."""
        if self._served is None or self._served[0] is not graph:
            train = self._fixed()
            self._served = (
                graph,
                (Samples(train.x, self._labels(graph, train.x, train.y)), self.test(graph, 0)[1]),
            )
        return self._served[1]

    def recipe(self, graph: Graph) -> Recipe | None:
        if self.streamed:
            return None
        if self._drawn_on is not graph:
            self._drawn_on, self._recipe = graph, replace(self._recipe, number=next(_NUMBERS))
        return self._recipe

    def order(self, epoch: int) -> Order:
        if self._config.online:
            return np.arange(self.train_samples)
        return rng.generator(self._seed, "order", epoch).permutation(self.train_samples)

    def minibatch(self, t: int, chosen: Order, graph: Graph) -> Samples:
        if self._config.online:
            drawn = self._draw("online", t, len(chosen))
        else:
            fixed = self._fixed()
            drawn = Samples(fixed.x[chosen], fixed.y[chosen])
        return Samples(drawn.x, self._labels(graph, drawn.x, drawn.y))

    def test(self, graph: Graph, k: int) -> tuple[Graph, Samples]:
        drawn = self._draw("test", 0, self.test_samples)
        return graph, Samples(drawn.x, self._labels(graph, drawn.x, drawn.y))

    def baselines(self, t: int) -> Mapping[str, float]:
        return {}

    def test_baselines(self, k: int) -> Mapping[str, float]:
        return {}

    def theta(self) -> Array | None:
        return None

    def _fixed(self) -> Samples:
        if self._train is None:
            self._train = self._draw("train", 0, self.train_samples)
        return self._train

    def _draw(self, purpose: str, step: int, samples: int) -> Samples:
        """Features and noise (in place of labels), every node's from a generator of its own."""
        widths = self._g_in, self._g_out
        rows = self._recipe.draw(purpose, step, np.arange(self._nodes), samples, widths)
        return Samples(*(np.ascontiguousarray(part.swapaxes(0, 1)) for part in (rows.x, rows.y)))

    def _draw_teacher(self, model: Gcnn) -> Array:
        draws = rng.generator(self._seed, "teacher")
        theta = draws.random((1, model.num_parameters))
        for name, part in model.views(theta).items():
            if name.startswith("Theta1"):
                part *= 2.0
        flat: Array = theta[0]
        return flat

    def _labels(self, graph: Graph, x: Array, noise: Array) -> Array:
        labels: Array = self._teacher.forward(self._shift.of(graph), x, self._recipe.teacher) + noise
        return labels
