"""The oracle of link scheduling against what is more elementary: complex steps, loops over nodes, mailboxes (§6 C)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from fdtrain import reference as ref
from fdtrain.errors import InputError

STEP = 1e-30  # of the complex-step derivative: exact to rounding
FORMS = ("receiver", "sender")
PATH = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]])  # 0 - 1 - 2
SLOPE = 0.2


@pytest.fixture(autouse=True)
def _strict_numpy():
    with np.errstate(all="raise"):
        yield


# --- elementary forms: one sample, complex numbers, a loop over the nodes ---


def layers(form: str, sizes: Any, names: Any, S: Any, x: Any, thetas: Any) -> Any:
    """§2's forward of one sample, x [V, g_0], thetas [V, p]; a loop over the nodes i and j."""
    V, at = len(S), 0
    for (g, h), name in zip(pairwise(sizes), names, strict=True):
        Theta0 = thetas[:, at : at + g * h].reshape(V, g, h)
        Theta1 = thetas[:, at + g * h : at + 2 * g * h].reshape(V, g, h)
        at += 2 * g * h
        rows = []
        for i in range(V):
            heard = [S[i, j] * (x[j] @ Theta1[i if form == "receiver" else j]) for j in range(V)]
            row = x[i] @ Theta0[i] + sum(heard)
            if name != "identity":
                row = np.where(row.real > 0, row, (SLOPE if name == "leaky_relu" else 0.0) * row)
            rows.append(row)
        x = np.stack(rows)
    return x


def softmax(h: Any) -> Any:
    e = np.exp(h)
    return e / e.sum(axis=-1, keepdims=True)


def actor(form: str, sizes: Any, S: Any, thetas: Any) -> Any:  # z [V]
    names = ["leaky_relu"] * (len(sizes) - 2) + ["relu"]
    return layers(form, sizes, names, S, np.ones((len(S), 1)), thetas)[:, 0]


def critic(form: str, sizes: Any, S: Any, seen: Any, phis: Any) -> Any:  # o [V, 2] of seen [V, 2]
    names = ["leaky_relu"] * (len(sizes) - 2) + ["identity"]
    return softmax(layers(form, sizes, names, S, seen, phis))


def joined(z: Any) -> Any:
    return np.stack([np.ones_like(z), z], axis=1)


def standardised(z: Any) -> Any:
    x = joined(z)
    var = ((x - x.mean()) ** 2).mean()
    return (x - x.mean()) / (6 * np.sqrt(var + 1e-12)) + 0.5


def derivative(f: Callable[[Any], Any], at: Any) -> Any:
    """df/d at, an entry for each of at's; f is real-valued, and takes complex numbers."""
    out = np.empty(at.shape)
    for k in np.ndindex(*at.shape):
        moved = at.astype(complex)
        moved[k] += 1j * STEP
        with np.errstate(under="ignore"):  # products of two steps
            out[k] = f(moved).imag / STEP
    return out


def close(got: Any, expected: Any) -> None:
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-12 * np.abs(expected).max()
    assert np.abs(expected).max() > 1e-4  # the instance says something


def lopsided(rng: Any, V: int) -> Any:  # asymmetric, with zeros and a diagonal
    return 0.5 * rng.normal(size=(V, V)) * (rng.random((V, V)) < 0.6)


def random_graph(rng: Any, V: int, p: float) -> Any:
    upper = np.triu(rng.random((V, V)) < p, 1)
    return (upper | upper.T).astype(int)


# --- pullbacks of the model ---

SHAPES = [
    ((1, 3, 2, 1), ("leaky_relu", "leaky_relu", "relu")),
    ((2, 3, 4, 2), ("leaky_relu", "leaky_relu", "identity")),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("sizes", "names"), SHAPES)
def test_pullbacks_and_input_gradient(form: str, sizes: Any, names: Any) -> None:
    V, B = 5, 3
    rng = np.random.default_rng(1)
    model = ref.Model(sizes, names, form, SLOPE)
    S, x = lopsided(rng, V), rng.normal(size=(B, V, sizes[0]))
    dz, theta = rng.normal(size=(B, V, sizes[-1])), rng.normal(size=(V, model.num_parameters))

    def f(b: int, x: Any, thetas: Any) -> Any:
        return (dz[b] * layers(form, sizes, names, S, x, thetas)).sum()

    def per_sample(point: Any, g: Callable[[int, Any], Any]) -> Any:
        return np.stack([derivative(lambda at: g(b, at), point) for b in range(B)])  # noqa: B023

    local = per_sample(theta, lambda b, at: f(b, x[b], at))
    inputs = np.stack([derivative(lambda at: f(b, at, theta), x[b]) for b in range(B)])  # noqa: B023
    shared = per_sample(theta[0], lambda b, at: f(b, x[b], np.stack([at] * V)) / V)
    shared_inputs = np.stack([
        derivative(lambda at: f(b, at, np.stack([theta[0]] * V)), x[b])  # noqa: B023
        for b in range(B)
    ])  # fmt: skip
    for shift in (S, csr_array(S)):
        close(model.pullback(shift, x, dz, theta), local)
        close(model.summed_pullback(shift, x, dz, theta), local.sum(axis=0))
        close(model.input_gradient(shift, x, dz, theta), inputs)
        close(model.shared_pullback(shift, x, dz, theta[0]), shared)
        close(model.input_gradient(shift, x, dz, theta[0]), shared_inputs)
    y = rng.normal(size=dz.shape)
    pulled = model.pullback(S, x, 2 * (model.forward(S, x, theta) - y), theta).sum(axis=0)
    close(pulled, model.local_gradients(S, x, y, theta))
    equal = np.tile(theta[0], (V, 1))
    close(model.pullback(S, x, dz, equal).mean(axis=1), shared)


# --- conflict graph and greedy solver ---


@pytest.mark.parametrize("container", [np.array, csr_array])
def test_conflict_shift_by_hand(container: Any) -> None:
    A = np.zeros((5, 5), dtype=int)  # 0 - 2 - 4, 1 and 3 alone
    A[0, 2] = A[2, 0] = A[2, 4] = A[4, 2] = 1
    r, S = np.sqrt(0.5), np.zeros((5, 5))
    S[[0, 2, 4], [0, 2, 4]] = 1
    S[0, 2] = S[2, 0] = S[2, 4] = S[4, 2] = -r
    got = ref.conflict_shift(container(A))
    assert isinstance(got, csr_array)
    np.testing.assert_allclose(got.toarray(), S, rtol=1e-15)
    np.testing.assert_array_equal(ref.conflict_shift(container(np.zeros((2, 2), dtype=int))).toarray(), 0.0)
    np.testing.assert_array_equal(
        ref.conflict_shift(container(PATH)).toarray(),
        ref.shift_matrix(PATH, "normalized_laplacian").toarray(),
    )


@pytest.mark.parametrize(
    ("weights", "chosen"),
    [
        ([1, 2, 1], [0, 1, 0]),
        ([3, 2, 1], [1, 0, 1]),
        ([1, 1, 1], [1, 0, 1]),  # ties: 0 before 1, and 2 is left over
        ([0, 1, 1], [0, 1, 0]),  # 1 before 2
        ([-3, -2, -1], [1, 0, 1]),
        ([0.0, -0.0, -1], [1, 0, 1]),
        ([-1, 0, 0], [0, 1, 0]),
    ],
)
def test_greedy_by_hand(weights: Any, chosen: Any) -> None:
    for A in (PATH, csr_array(PATH)):
        got = ref.greedy(A, np.array([weights], dtype=float))
        assert got.dtype == bool
        np.testing.assert_array_equal(got, [chosen])


def test_greedy_takes_isolated_vertices_and_every_sample_by_itself() -> None:
    np.testing.assert_array_equal(ref.greedy(np.zeros((2, 2)), np.array([[-1.0, 0.0]])), [[1, 1]])
    weights = np.array([[1.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(ref.greedy(PATH, weights), [[0, 1, 0], [1, 0, 1]])


def sorted_greedy(A: Any, weights: Any) -> Any:
    """One vertex after another, the heaviest first; weights [V]."""
    chosen = np.zeros(len(A), dtype=bool)
    for v in sorted(range(len(A)), key=lambda v: (-weights[v], v)):
        chosen[v] = not (A[v] * chosen).any()
    return chosen


class Vertex:
    """What a vertex knows in one sample; it learns from nothing but what it is told."""

    def __init__(self, me: int, weight: float, neighbours: list[int]) -> None:
        self.me, self.weight, self.state = me, weight, "undecided"
        self.weights: dict[int, float] = {}
        self.told = dict.fromkeys(neighbours, "undecided")
        self.open = set(neighbours)  # the live edges

    def decide(self) -> None:
        if self.state != "undecided":
            return
        rivals = [j for j, state in self.told.items() if state == "undecided"]
        if "joined" in self.told.values():
            self.state = "left"
        elif all((-self.weight, self.me) < (-self.weights[j], j) for j in rivals):
            self.state = "joined"

    def hear(self, sender: int, state: str) -> None:
        self.told[sender] = state
        if state != "undecided" or self.state != "undecided":
            self.open.discard(sender)


def mailboxes(A: Any, weights: Any) -> Any:
    """chosen [B, V] and the messages of a wave, vertex by vertex."""
    B, V = weights.shape
    near = [[int(j) for j in np.flatnonzero(row)] for row in A]
    wave = [[Vertex(v, weights[b, v], near[v]) for v in range(V)] for b in range(B)]
    rounds, radio, link = 1, sum(bool(n) for n in near), sum(len(n) for n in near)
    for sample in wave:
        for vertex in sample:
            vertex.weights = {j: sample[j].weight for j in near[vertex.me]}
    while True:
        for sample in wave:
            for vertex in sample:
                vertex.decide()
        letters = [
            (b, v.me, j, v.state) for b, sample in enumerate(wave) for v in sample for j in sorted(v.open)
        ]
        if not letters:
            break
        rounds += 1
        radio += len({sender for _, sender, _, _ in letters})
        link += len({(sender, receiver) for _, sender, receiver, _ in letters})
        for b, sender, receiver, state in letters:
            wave[b][receiver].hear(sender, state)
    states = [[vertex.state for vertex in sample] for sample in wave]
    assert "undecided" not in np.array(states)
    return np.array(states) == "joined", (rounds, radio, link)


@pytest.mark.parametrize("seed", range(12))
def test_greedy_three_ways_and_its_messages(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alone = tied = 0
    for _ in range(100):
        V, B = int(rng.integers(1, 15)), int(rng.integers(1, 4))
        A = random_graph(rng, V, float(rng.choice([0.0, 0.1, 0.3, 0.6, 1.0])))
        weights = rng.normal(size=(B, V))
        if rng.random() < 0.5:
            weights = rng.integers(-2, 3, size=(B, V)).astype(float)  # ties, 0, and negative ones
            tied += 1
        alone += (A.sum(axis=0) == 0).any()
        chosen = ref.greedy(csr_array(A), weights)
        np.testing.assert_array_equal(chosen, [sorted_greedy(A, w) for w in weights])
        told, cost = ref.greedy_by_messages(A, weights)
        np.testing.assert_array_equal(told, chosen)
        by_mail, expected = mailboxes(A, weights)
        np.testing.assert_array_equal(by_mail, chosen)
        assert cost == expected == ref.greedy_rounds(csr_array(A), weights)
        singly = [ref.greedy_rounds(A, w[None]) for w in weights]
        assert cost.rounds == max(one.rounds for one in singly)
        assert (A @ chosen.T)[chosen.T].sum() == 0  # independent
        assert ((A @ chosen.T).T[~chosen] > 0).all()  # maximal
    assert alone > 10
    assert tied > 10


@pytest.mark.parametrize(
    ("A", "weights", "cost"),
    [
        (np.zeros((3, 3)), [[1, 2, 3]], (1, 0, 0)),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 0]], [[1, 2, 3]], (2, 4, 4)),  # who leaves has nobody left to tell
        (PATH, [[1, 2, 1]], (2, 6, 8)),
        (PATH, [[3, 2, 1]], (3, 3 + 3 + 2, 4 + 4 + 2)),  # 0 joins; 1 leaves and tells 2
        (PATH, [[1, 2, 3]], (3, 3 + 3 + 2, 4 + 4 + 2)),
        (PATH, [[3, 2, 1], [1, 2, 3]], (3, 3 + 3 + 3, 4 + 4 + 4)),  # in the last round other edges are live
        (PATH, [[3, 2, 1], [1, 2, 1]], (3, 3 + 3 + 2, 4 + 4 + 2)),
    ],
)
def test_greedy_rounds_by_hand(A: Any, weights: Any, cost: Any) -> None:
    assert ref.greedy_rounds(np.array(A), np.array(weights, dtype=float)) == cost


def test_target_by_hand() -> None:
    got = ref.target(np.array([[0.25, 0.5]]), np.array([[True, False]]))
    np.testing.assert_array_equal(got, [[[0.25, 0.75], [0.0, 1.0]]])


# --- critic ---

CRITICS = [
    ref.Critic((2, 3, 4, 2), SLOPE),
    ref.Critic((2, 3, 3, 3, 3, 2), SLOPE, l2=0.3),
    ref.Critic((2, 2), SLOPE),
]


def critic_instance(model: ref.Critic, V: int = 6, B: int = 3) -> Any:
    rng = np.random.default_rng(2)
    S, z, phi = lopsided(rng, V), 3 + 2 * rng.normal(size=(B, V)), rng.normal(size=model.num_parameters)
    t = ref.target(rng.random((B, V)), rng.random((B, V)) < 0.5)
    return S, z, t, phi


@pytest.mark.parametrize("model", CRITICS, ids=lambda model: str(model.sizes))
def test_critic(model: ref.Critic) -> None:
    S, z, t, phi = critic_instance(model)
    V = len(S)

    def outputs(z: Any, phi: Any) -> Any:
        phis = np.stack([phi] * V)
        return np.stack([critic("receiver", model.sizes, S, standardised(row), phis) for row in z])

    def loss(phi: Any) -> Any:
        o = outputs(z, phi)
        total = sum((o[at] - t[at]) ** 2 for at in np.ndindex(*t.shape))
        return (total / t.size) ** 0.5 + model.l2 * sum(number * number for number in phi)

    expected, slope = outputs(z, phi), derivative(loss, phi)
    pushed = derivative(lambda at: -outputs(at, phi)[..., 0].mean(axis=1).sum(), z) * V
    for shift in (S, csr_array(S)):
        np.testing.assert_allclose(model.predict(shift, z, phi), expected, rtol=1e-12)
        got, gradient = model.loss_and_gradient(shift, z, t, phi)
        assert got == pytest.approx(loss(phi), rel=1e-13)
        close(gradient, slope)
        close(model.sensitivity(shift, z, phi), pushed)
        for b in range(len(z)):  # not divided by B
            close(model.sensitivity(shift, z[b : b + 1], phi)[0], pushed[b])
    assert np.abs(pushed.sum(axis=1)).min() > 1e-4  # the mean of z is seen


def test_critic_loss_by_hand() -> None:
    """phi = 0: both outputs are 1/2."""
    model, S = ref.Critic((2, 3, 2), l2=0.25), np.eye(2)
    t = np.array([[[0.25, 0.75], [0.0, 1.0]], [[0.5, 0.5], [1.0, 0.0]]])
    z, phi = np.array([[1.0, 2.0], [5.0, 1.0]]), np.zeros(2 * (6 + 6))
    rmse = np.sqrt((2 * 0.25**2 + 2 * 0.5**2 + 2 * 0.5**2) / 8)
    assert model.loss_and_gradient(S, z, t, phi)[0] == pytest.approx(rmse, rel=1e-15)
    phi[:2] = 1.0, 2.0  # the last layer is still 0
    loss, gradient = model.loss_and_gradient(S, z, t, phi)
    assert loss == pytest.approx(rmse + 0.25 * 5.0, rel=1e-15)
    np.testing.assert_allclose(gradient[:3], [0.5, 1.0, 0.0], rtol=1e-15)
    loss, gradient = model.loss_and_gradient(S, z, np.full((2, 2, 2), 0.5), 0 * phi)
    assert loss == 0.0
    np.testing.assert_array_equal(gradient, 0.0)
    assert ref.Critic().sizes == (2, 64, 64, 64, 64, 2)
    assert (ref.Critic().negative_slope, ref.Critic().l2) == (0.2, 5e-4)
    assert ref.Critic().num_parameters == 2 * (2 * 64 + 3 * 64 * 64 + 64 * 2)


def test_critic_input_by_hand() -> None:
    """One layer, S = 0: softmax of the standardised [1, z] itself; of the population, over both columns."""
    model, S, z = ref.Critic((2, 2)), np.zeros((4, 4)), np.array([[1.0, 1.0, 5.0, 5.0], [7.0, 7.0, 7.0, 7.0]])
    o = model.predict(S, z, np.array([1.0, 0, 0, 1, 0, 0, 0, 0]))
    logit = np.log(o[..., 1] / o[..., 0])
    far = 4 / (6 * np.sqrt(3))  # 1, 1, 1, 1 and 1, 1, 5, 5 have the variance 3; 1 and 7 have 9
    np.testing.assert_allclose(logit, [[0, 0, far, far], [1 / 3] * 4], rtol=1e-12, atol=1e-12)


def test_critic_far_out_and_with_equal_outputs() -> None:
    model = ref.Critic((2, 3, 2))
    rng = np.random.default_rng(3)
    S, phi = ref.conflict_shift(PATH), 200 * rng.normal(size=model.num_parameters)
    assert np.isfinite(model.predict(S, rng.normal(size=(2, 3)), phi)).all()
    assert np.isfinite(model.sensitivity(S, rng.normal(size=(2, 3)), phi)).all()
    same = model.sensitivity(S, np.zeros((1, 3)), phi / 200)  # what a dead relu puts out
    assert np.isfinite(same).all()


@pytest.mark.parametrize("form", FORMS)
def test_mean_of_the_actors_local_gradients_is_the_gradient_of_the_objective(form: str) -> None:
    V, B, sizes, critic_sizes = 5, 2, (1, 3, 2, 1), (2, 3, 2)
    rng = np.random.default_rng(4)
    S, model, judge = lopsided(rng, V), ref.actor_model(form, sizes), ref.Critic(critic_sizes)
    theta, phi = np.abs(rng.normal(size=model.num_parameters)), rng.normal(size=judge.num_parameters)
    explore = rng.normal(size=(B, V))

    def objective(theta: Any, b: int) -> Any:
        z = actor(form, sizes, S, np.stack([theta] * V))
        return -critic(form, critic_sizes, S, standardised(z + explore[b]), np.stack([phi] * V))[:, 0].mean()

    expected = np.stack([derivative(lambda at: objective(at, b), theta) for b in range(B)])  # noqa: B023
    local = ref.Scheduling(model, judge, ref.Recursion("naive_adam"), ref.Recursion("adam"))
    z, gradients = local.actor_gradients(S, np.tile(theta, (V, 1)), phi, explore)
    np.testing.assert_allclose(z, [actor(form, sizes, S, np.stack([theta] * V))] * B, rtol=1e-12)
    close(gradients.mean(axis=1), expected)
    shared = ref.Scheduling(model, judge, ref.Recursion("adam"), ref.Recursion("adam"))
    close(shared.actor_gradients(S, theta, phi, explore)[1], expected)


# --- the published training ---


class Adam:
    """Adam by hand: epsilon outside."""

    def __init__(self, theta: Any, lr: float, beta1: float, beta2: float, epsilon: float) -> None:
        self.theta, self.set = theta.copy(), (lr, beta1, beta2, epsilon)
        self.m, self.v, self.t = np.zeros_like(theta), np.zeros_like(theta), 0

    def step(self, g: Any) -> None:
        lr, beta1, beta2, epsilon = self.set
        self.t += 1
        self.m = beta1 * self.m + (1 - beta1) * g
        self.v = beta2 * self.v + (1 - beta2) * g * g
        m, v = self.m / (1 - beta1**self.t), self.v / (1 - beta2**self.t)
        self.theta = self.theta - lr * m / (np.sqrt(v) + epsilon)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("approach", ["by_sample", "by_batch", "centralized"])
def test_training_step_by_step(form: str, approach: str) -> None:
    V, B, K, lr, critic_lr, betas = 7, 4, 2, 0.05, 0.03, (0.8, 0.9, 1e-5)
    rng = np.random.default_rng(6)
    model, judge = ref.actor_model(form, (1, 3, 2, 1)), ref.Critic((2, 3, 3, 2))
    shared, by_sample = approach == "centralized", approach != "by_batch"
    theta = np.abs(rng.normal(size=(V, model.num_parameters)))
    theta, phi = theta[0] if shared else theta, rng.normal(size=judge.num_parameters)
    training = ref.Scheduling(
        model,
        judge,
        ref.Recursion("adam" if shared else "naive_adam", *betas, consensus_rounds=K),
        ref.Recursion("adam", *betas),
        by_sample,
    )
    state = training.start(theta, phi)
    nodes = [Adam(row, lr, *betas) for row in np.atleast_2d(theta)]
    judges = Adam(phi, critic_lr, *betas)
    noises = [0, 0]
    for _ in range(3):
        A = random_graph(rng, V, 0.3)
        S, W = ref.conflict_shift(A).toarray(), ref.mixing_matrix(A, "metropolis").toarray()
        u, noise, explore = rng.random((B, V)), *(5 * rng.normal(size=(2, B, V)))
        WK = None if shared else csr_array(W)
        state, seen = training.advance(state, A, WK, u, noise, explore, actor_lr=lr, critic_lr=critic_lr)

        thetas, phi, one = np.stack([node.theta for node in nodes]), judges.theta, np.ones((1, V, 1))
        every = np.tile(thetas[0], (V, 1)) if shared else thetas
        z = actor(form, model.sizes, S, every)
        gradients = []
        for b in range(B):
            dz = judge.sensitivity(S, (z + explore[b])[None], phi)[..., None]
            local = model.pullback(S, one, dz, every)[0]
            gradients.append(local.mean(axis=0)[None] if shared else W @ (W @ local))
        for g in gradients if by_sample else [sum(gradients)]:
            for i, node in enumerate(nodes):
                node.step(g[i])
        chosen = np.stack([sorted_greedy(A, (z + noise[b]) * u[b]) for b in range(B)])
        loss, gradient = judge.loss_and_gradient(S, z + noise, ref.target(u, chosen), phi)
        judges.step(gradient)

        np.testing.assert_allclose(seen.z, [z] * B, rtol=1e-11)
        np.testing.assert_array_equal(seen.chosen, chosen)
        assert seen.critic_loss == pytest.approx(loss, rel=1e-11)
        expected = np.stack([node.theta for node in nodes])
        np.testing.assert_allclose(np.atleast_2d(state.actor.theta), expected, rtol=1e-10)
        np.testing.assert_allclose(state.critic.theta, judges.theta, rtol=1e-10)
        assert state.actor.t == nodes[0].t
        for k, other in enumerate((z + explore, np.stack([z] * B))):
            noises[k] += (ref.greedy(A, other * u) != chosen).any()
    assert min(noises) >= 1  # whose noise decides can be seen
    assert state.actor.theta.shape == theta.shape


# --- the twin ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("critic_sizes", [(2, 3, 2, 2), (2, 2, 2, 2, 2, 2)])
def test_twin(form: str, critic_sizes: Any) -> None:
    V, B, actor_sizes = 5, 3, (1, 3, 2, 1)
    rng = np.random.default_rng(8)
    twin = ref.Twin(ref.actor_model(form, actor_sizes), ref.critic_model(form, critic_sizes))
    S, e, u = lopsided(rng, V), rng.normal(size=(B, V)), rng.random((B, V))
    theta = rng.normal(size=(V, twin.num_parameters))
    cut = 2 * (3 + 6 + 2)
    thetas, phis = theta[:, :cut], theta[:, cut:]
    assert twin.num_parameters == cut + 2 * sum(g * h for g, h in pairwise(critic_sizes))
    z = actor(form, actor_sizes, S, thetas)
    o = np.stack([critic(form, critic_sizes, S, joined(z + e[b]), phis) for b in range(B)])
    assert np.count_nonzero(z) >= 2  # the relu lets some through
    A = ((S != 0) | (S.T != 0)) & ~np.eye(V, dtype=bool)
    assert not A[np.triu_indices(V, 1)].all()
    expected = np.empty((B, *theta.shape))
    for b in range(B):
        chosen = sorted_greedy(A, (z + e[b]) * u[b])
        first = np.where(chosen, u[b], 0.0)
        t = np.stack([first, 1 - first], axis=1)

        def loss(phis: Any, b: int = b, t: Any = t) -> Any:
            return ((critic(form, critic_sizes, S, joined(z + e[b]), phis) - t) ** 2).sum()

        def reward(thetas: Any, b: int = b) -> Any:
            return -critic(form, critic_sizes, S, joined(actor(form, actor_sizes, S, thetas) + e[b]), phis)[
                :, 0
            ].sum()

        expected[b, :, :cut] = derivative(reward, thetas)
        expected[b, :, cut:] = derivative(loss, phis)
    for shift in (S, csr_array(S)):
        got_z, got_o = twin.forward(shift, e, theta)
        np.testing.assert_allclose(got_z, [z] * B, rtol=1e-12)
        np.testing.assert_allclose(got_o, o, rtol=1e-12)
        got = twin.local_gradients(shift, e, u, theta)
        close(got[..., :cut], expected[..., :cut])
        close(got[..., cut:], expected[..., cut:])
        close(twin.summed_gradients(shift, e, u, theta), expected.sum(axis=0))


def test_published_sizes() -> None:
    assert ref.actor_model("sender") == ref.Model(
        (1, 32, 32, 1), ("leaky_relu", "leaky_relu", "relu"), "sender", 0.2
    )
    twin = ref.Twin(ref.actor_model("receiver"), ref.critic_model("receiver"))
    assert (twin.actor.sizes, twin.critic.sizes) == ((1, 32, 32, 1), (2, 64, 64, 64, 64, 2))
    assert twin.critic.negative_slope == twin.actor.negative_slope == 0.2


def test_input_errors_are_named() -> None:
    judge, twin, S = (
        ref.Critic((2, 3, 2)),
        ref.Twin(ref.actor_model("receiver", (1, 2, 1)), ref.critic_model("receiver", (2, 2, 2))),
        np.eye(3),
    )
    model, z, phi = ref.actor_model("receiver", (1, 2, 1)), np.ones((2, 3)), np.ones(24)
    one, theta = z[..., None], np.ones((3, 8))
    wrong = [
        lambda: ref.conflict_shift(PATH[:2]),
        lambda: ref.conflict_shift(np.triu(PATH)),
        lambda: ref.conflict_shift(2 * PATH),
        lambda: ref.conflict_shift(np.eye(3)),
        lambda: ref.greedy(PATH, z[0]),
        lambda: ref.greedy(PATH, z[:, :2]),
        lambda: ref.greedy(PATH, np.array([[1.0, np.nan, 1.0]])),
        lambda: ref.greedy_rounds(PATH, z[:, :2]),
        lambda: ref.target(z, z[:1] > 0),
        lambda: ref.Critic((1, 3, 2)),
        lambda: ref.Critic((2,)),
        lambda: judge.predict(S, z, phi[:-1]),
        lambda: judge.predict(S, z[:, :2], phi),
        lambda: judge.loss_and_gradient(S, z, z, phi),
        lambda: ref.Twin(ref.actor_model("receiver", (1, 2, 2)), ref.critic_model("receiver")),
        lambda: twin.forward(S, z, theta[:, :-1]),
        lambda: model.pullback(S, one, one, theta[0]),
        lambda: model.pullback(S, one, z, theta),
        lambda: model.summed_pullback(S, one, one, theta[0]),
        lambda: model.shared_pullback(S, one, one, theta),
        lambda: model.input_gradient(S, one, one[:1], theta),
    ]
    for call in wrong:
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)
