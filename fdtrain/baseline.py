"""The centralized baselines: one model, trained in one process, on the same data in the same order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fdtrain import reference, scans, states, stopping
from fdtrain.errors import DivergenceError
from fdtrain.experiment import Experiment, make_recursion
from fdtrain.job import Job
from fdtrain.minibatches import MinibatchRow
from fdtrain.oracles import updates
from fdtrain.service import EpochRow, Host


def train_centralized(experiment: Experiment, host: Host, saved: Mapping[str, Any] | None = None) -> None:
    """Train by SGD or Adam on the gradient of the objective, summed over samples or their mean as the task has it, or
    on every sample's (SPEC §4, §6), all of it the oracle's; tell `host` of each epoch.

    With `saved`, what an earlier run kept after the job's ``done`` mini-batches, it goes on from there.

    Raises:
        DivergenceError: θ became infinite or NaN.
    """
    job, data = host.job, experiment.data
    oracle, recursion = experiment.oracle.fresh(), make_recursion(experiment.config)
    max_norm = experiment.config.optimizer.clip_norm
    state, t = recursion.start(experiment.theta[0]), job.done
    measures: list[float] = []
    unreported: list[MinibatchRow] = []
    if saved is not None:
        state = _restored(state, saved["state"])
        learned = oracle.learned()
        oracle.go_on(None if learned is None else _restored(learned, saved["learned"]))
        measures = saved["measures"].tolist()
        unreported = [
            MinibatchRow(number, own, found, job.measure) for number, own, found in saved["unreported"]
        ]
        graph = host.graph(job.done - 1)
    first, place = job.place(t)
    for epoch in range(first, job.epochs):
        order = host.begin(epoch)
        if order is None:
            break
        for chosen in job.batches(order, place):
            if job.rewires_at(t):
                graph = host.graph(t)
            samples = experiment.samples(t, chosen, graph)
            with np.errstate(all="ignore"):
                before = state.theta
                by_sample = experiment.config.optimizer.by_sample
                measure, gradients = updates(oracle, graph, samples, before, by_sample=by_sample)
                if max_norm is not None:
                    gradients = reference.clip_rows(gradients, max_norm)
                for gradient in gradients:
                    state = recursion.advance(state, None, gradient, experiment.rate(state.t))
                oracle.learn(graph, samples, before)
            measures.append(measure)
            t += 1
            if job.log_every is not None:
                unreported.append(MinibatchRow(t, measure, data.baselines(t - 1), job.measure))
                if len(unreported) == job.log_every:
                    if not host.enter_minibatches(unreported):
                        return
                    unreported = []
                    if not np.isfinite(state.theta).all():
                        raise _diverged(job, epoch, state.theta)
            stop = stopping.requested()
            if (stop or job.saves_after(t)) and np.isfinite(state.theta).all():
                host.keep(t, _kept(state, oracle.learned(), measures, unreported))
            if stop:
                host.stop(t, stop)
                return
        if unreported and not host.enter_minibatches(unreported):
            return
        with np.errstate(all="ignore"):
            host.outcome.node_loss = _test(experiment, host, t - 1, state.theta)
        host.outcome.theta = np.broadcast_to(state.theta, (experiment.nodes, len(state.theta)))
        test = job.loss.combine(host.outcome.node_loss)
        row = EpochRow(epoch + 1, float(np.mean(measures)), test, 0.0, 0, 0, 0, job.measure)
        host.enter(row, scans.largest(state.theta[None]))
        if not np.isfinite(state.theta).all():
            raise _diverged(job, epoch, state.theta)
        measures, unreported, place = [], [], 0


def _kept(
    state: reference.State,
    learned: reference.State | None,
    measures: Sequence[float],
    unreported: Sequence[MinibatchRow],
) -> dict[str, Any]:
    """What :func:`train_centralized` needs to go on."""
    return {
        "state": vars(state),
        "learned": None if learned is None else vars(learned),
        "measures": np.array(measures),
        "unreported": [[row.minibatch, row.train, dict(row.baselines)] for row in unreported],
    }


def _restored(like: reference.State, saved: Mapping[str, Any]) -> reference.State:
    found = replace(like, **saved)
    states.check_same(like, found)
    return found


def _diverged(job: Job, epoch: int, theta: reference.Array) -> DivergenceError:
    part = job.model.part_of(int(np.flatnonzero(~np.isfinite(theta))[0]))
    return DivergenceError(
        f"training diverged: epoch {epoch + 1}: {part} of the centralized model has parameters that are not finite; "
        "lower optimizer.lr, or check the scale of the data"
    )


def _test(experiment: Experiment, host: Host, t: int, theta: reference.Array) -> reference.Array:
    """Every node's measure on the test samples, [V]."""
    job, data, graph = experiment.job, experiment.data, host.topology.graph(t)
    found = []
    for k in range(job.test_minibatches):
        host.compare_on_test(k)
        on, samples = data.test(graph, k) if job.streamed else (graph, data.dataset(graph)[1])
        found.append(experiment.oracle.node_measures(on, samples, theta))
    mean: reference.Array = np.mean(found, axis=0)
    return mean
