"""The centralized baselines: one model, trained in one process, on the same data in the same order."""

from __future__ import annotations

import numpy as np

from fdtrain import reference
from fdtrain.errors import DivergenceError
from fdtrain.experiment import Experiment, make_recursion
from fdtrain.graph import Graph
from fdtrain.service import EpochRow, Host


def train_centralized(experiment: Experiment, host: Host) -> None:
    """Train by SGD or Adam on the gradient of Σ_b ℓ(b) (SPEC §4), all of it the oracle's; tell `host` of each epoch.

    Raises:
        DivergenceError: θ became infinite or NaN.
    """
    job, data, topology = experiment.job, experiment.data, experiment.topology
    model, recursion = experiment.oracle, make_recursion(experiment.config)
    max_norm = experiment.config.optimizer.clip_norm
    state, t = recursion.start(experiment.theta[0]), 0
    S, graph = _shift(topology.graph(0), job.shift)
    for epoch in range(job.epochs):
        order = host.begin(epoch)
        if order is None:
            break
        losses = []
        for chosen in job.batches(order):
            if job.rewires_at(t):
                S, graph = _shift(topology.graph(t), job.shift)
            x, y = experiment.samples(t, chosen, graph)
            with np.errstate(all="ignore"):
                output, gradient = model.shared_pass(S, x, y, state.theta)
                losses.append(reference.mse(y, output))
                if max_norm is not None:
                    gradient = reference.clip_rows(gradient, max_norm)
                state = recursion.advance(state, None, gradient, experiment.rate(t))
            t += 1
        test = data.test(graph) if job.streamed else data.dataset(graph)[1]
        with np.errstate(all="ignore"):
            host.outcome.node_loss = np.square(test.y - model.forward(S, test.x, state.theta)).mean(
                axis=(0, 2)
            )
        host.outcome.theta = np.tile(state.theta, (experiment.nodes, 1))
        node_loss = float(host.outcome.node_loss.mean())
        host.enter(EpochRow(epoch + 1, float(np.mean(losses)), node_loss, 0.0, 0, 0, 0))
        if not np.isfinite(state.theta).all():
            layer = job.model.layer_of(int(np.flatnonzero(~np.isfinite(state.theta))[0]))
            raise DivergenceError(
                f"training diverged: epoch {epoch + 1}: layer {layer} of the centralized model has parameters that are "
                "not finite; lower optimizer.lr, or check the scale of the data"
            )


def _shift(graph: Graph, kind: str) -> tuple[reference.Matrix, Graph]:
    return reference.shift_matrix(graph.adjacency(), kind), graph
