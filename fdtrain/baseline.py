"""The centralized baseline: one model, trained by SGD in one process, on the same data in the same order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fdtrain import reference
from fdtrain.errors import DivergenceError
from fdtrain.experiment import Experiment
from fdtrain.graph import Graph
from fdtrain.service import EpochRow, Outcome
from fdtrain.tasks.base import Samples


def train_centralized(
    experiment: Experiment, outcome: Outcome, on_epoch: Callable[[EpochRow], None] | None = None
) -> None:
    """Train and fill `outcome`: θ ← θ − α ∇ Σ_b ℓ(b) (SPEC §4), with the oracle's gradient on global matrices.

    Raises:
        DivergenceError: θ became infinite or NaN.
    """
    job, data, topology = experiment.job, experiment.data, experiment.topology
    model = reference.Model(job.model.sizes, job.model.activations, job.model.form, job.model.negative_slope)
    theta, t = experiment.theta[0].copy(), 0
    fixed = None if job.streamed else data.dataset(topology.graph(0))
    S, graph = _shift(topology.graph(0), job.shift)
    for epoch in range(job.epochs):
        losses = []
        for chosen in job.batches(data.order(epoch)):
            if job.rewires_at(t):
                S, graph = _shift(topology.graph(t), job.shift)
            if fixed is None:
                x, y = data.minibatch(t, chosen, graph)
            else:
                x, y = fixed[0].x[chosen], fixed[0].y[chosen]
            with np.errstate(all="ignore"):
                losses.append(reference.mse(y, model.forward(S, x, theta)))
                theta = theta - experiment.config.optimizer.lr * model.centralized_gradient(S, x, y, theta)
            t += 1
        test: Samples = data.test(graph) if fixed is None else fixed[1]
        with np.errstate(all="ignore"):
            outcome.node_loss = np.square(test.y - model.forward(S, test.x, theta)).mean(axis=(0, 2))
        row = EpochRow(epoch + 1, float(np.mean(losses)), float(outcome.node_loss.mean()), 0.0, 0, 0, 0)
        outcome.rows.append(row)
        outcome.theta = np.tile(theta, (experiment.nodes, 1))
        if on_epoch is not None:
            on_epoch(row)
        if not np.isfinite(theta).all():
            layer = job.model.layer_of(int(np.flatnonzero(~np.isfinite(theta))[0]))
            raise DivergenceError(
                f"training diverged: epoch {epoch + 1}: layer {layer} of the centralized model has parameters that are "
                "not finite; lower optimizer.lr, or check the scale of the data"
            )


def _shift(graph: Graph, kind: str) -> tuple[reference.Matrix, Graph]:
    return reference.shift_matrix(graph.adjacency(), kind), graph
