"""Whether another search finds an actor that does better on the held-out graphs of Fig. 2(c): without a critic, and on
these very graphs.

The same GCNN ascends the utility itself, by differences of antithetic noise on z (Spall, "Multivariate stochastic
approximation using a simultaneous perturbation gradient approximation", IEEE Trans. Autom. Control 37, 1992). It sees
the 100 held-out graphs as often as it wants, with ever new weights. That is no bound; but where it ends up at the same
ratio as an actor that a critic trained on other graphs, what is missing is neither the critic's fault nor that of
training on other graphs.

Not a part of ``make test``: ``make ceiling-fig2c``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fdtrain import config, reference
from fdtrain.optim.adam import Adam
from fdtrain.optim.rates import Constant
from fdtrain.problems import make_problem
from fdtrain.tasks.independent_sets import local_greedy, utility
from fdtrain.tasks.schedules import WeightData

CONFIG = Path(__file__).parent.parent / "configs" / "paper" / "link_scheduling.yaml"
STEPS, PAIRS, RATE = 3000, 400, 2e-4
LEARNED, PUBLISHED = 1.04, 1.063


@pytest.mark.parametrize("seed", [4, 5])
def test_an_actor_that_is_trained_on_the_held_out_graphs_does_no_better(seed: int) -> None:
    problem = make_problem(config.load(CONFIG, [f"seed={seed}"]))
    data, draws = problem.data, np.random.default_rng(seed)
    assert isinstance(data, WeightData)
    held_out = []
    for k in range(problem.test_minibatches):
        graph, samples = data.test(problem.topology.graph(0), k)
        held_out.append((graph, samples.y[..., 0], reference.conflict_shift(graph.adjacency())))
    actor = reference.actor_model("receiver")
    adam = Adam(Constant(RATE))
    state = adam.init(problem.initial()[:1])
    one = np.ones((1, 100, 1))

    def reached(theta: np.ndarray) -> tuple[float, float]:
        """On the weights of the held-out samples, and on 1000 others of each graph."""
        given, fresh = [], []
        others = np.random.default_rng(0)
        for graph, u, S in held_out:
            z = actor.forward(S, one, theta)[0, :, 0]
            for weights, found in ((u, given), (others.random((1000, 100)), fresh)):
                plain = utility(weights, local_greedy(graph, weights))
                found.append(float((utility(weights, local_greedy(graph, z * weights)) / plain).mean()))
        return float(np.mean(given)), float(np.mean(fresh))

    best = (0.0, 0.0)
    for step in range(STEPS + 1):
        theta = adam.theta(state)[0]
        if step % 500 == 0:
            ratios = reached(theta)
            best = max(best, ratios)
            found = f"{ratios[0]:.4f} on the held-out weights, {ratios[1]:.4f} on others"
            print(f"seed {seed}, step {step}: {found}", flush=True)
        graph, _, S = held_out[draws.integers(len(held_out))]
        z = actor.forward(S, one, theta)[0, :, 0]
        scale = 0.3 * max(z.mean(), 1e-3)
        noise = scale * draws.uniform(-1.0, 1.0, (PAIRS, 100))
        u = draws.random((PAIRS, 100))
        more, less = (utility(u, local_greedy(graph, (z + e) * u)) for e in (noise, -noise))
        score = ((more - less)[:, None] * noise).mean(axis=0) / (2.0 * scale**2 / 3.0)
        gradient = actor.shared_pullback(S, one, -score[None, :, None], theta)
        rate = RATE if step < 0.6 * STEPS else 0.2 * RATE
        state = Adam(Constant(rate)).step(gradient, state)
    assert LEARNED < best[0] < PUBLISHED
