"""The matrix recursions of SPEC §4: all nodes' parameters in one [V, p], one matrix W [V, V] per mini-batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fdtrain.errors import InputError
from fdtrain.reference.model import Array, Matrix, check_choice, check_shape
from fdtrain.reference.rounding import mix

DISTRIBUTED = ("d_sgd", "d_adam", "d_amsgrad", "gradient_tracking", "naive_sgd", "naive_adam")
CENTRALIZED = ("sgd", "adam")


@dataclass(frozen=True)
class State:
    """Before mini-batch t = 0, 1, ...; arrays have theta's shape. What a kind does not use stays as it started."""

    theta: Array
    t: int  # mini-batches so far
    m: Array
    v: Array
    v_hat: Array
    u: Array  # u~ of D-AMSGrad
    y: Array
    gradient: Array  # g(t - 1) of gradient tracking


@dataclass(frozen=True)
class Recursion:
    """One training approach of SPEC §4 on global matrices; mix(X) = W^K X, K = consensus_rounds.

    d_sgd, d_adam: theta is mixed; d_amsgrad: theta and u~; gradient_tracking: theta and y; naive_*: the gradient.
    parameters is the type in which what is mixed travels (rounding.mix).
    epsilon_form is of adam and naive_adam alone: d_adam's is outside, as in the table.
    """

    kind: str
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    epsilon_form: str = "outside"
    consensus_rounds: int = 1
    parameters: str = "float64"

    def __post_init__(self) -> None:
        check_choice("training approach", self.kind, *DISTRIBUTED, *CENTRALIZED)
        check_choice("epsilon_form", self.epsilon_form, "inside", "outside")
        if self.consensus_rounds < 1:
            raise InputError(f"consensus needs at least 1 round; found {self.consensus_rounds}")

    def start(self, theta: Array) -> State:
        """theta [V, p]; sgd, adam: [1, p] or [p]. m, v, y, g start at 0, v^ and u~ at epsilon."""
        theta = np.array(theta, dtype=np.float64)
        zero, epsilon = np.zeros_like(theta), np.full_like(theta, self.epsilon)
        return State(theta, t=0, m=zero, v=zero, v_hat=epsilon, u=epsilon, y=zero, gradient=zero)

    def advance(self, state: State, W: Matrix | None, gradient: Array, lr: float) -> State:
        """The state after one mini-batch; gradient as theta, W [V, V] of this mini-batch (sgd, adam: None)."""
        check_shape("gradient", gradient.shape, state.theta.shape)
        if self.kind in CENTRALIZED:
            if W is not None:
                raise InputError(f"{self.kind} mixes nothing; found a mixing matrix")
        elif W is None:
            raise InputError(f"{self.kind} needs a mixing matrix; found none")
        else:
            check_shape("the mixing matrix", W.shape, (len(state.theta),) * 2)
        return self.advance_mixed(state, self._mix(W, self.rows(state, gradient)), gradient, lr)

    def rows(self, state: State, gradient: Array) -> Array:
        """What is mixed in a mini-batch, one row per node: [V, p] or, where two travel, [V, 2 p]."""
        match self.kind:
            case "d_sgd" | "d_adam":
                return state.theta
            case "d_amsgrad":
                return np.concatenate([state.theta, state.u], axis=1)
            case "gradient_tracking":
                return np.concatenate([state.theta, state.y], axis=1)
        return np.array(gradient, dtype=np.float64)

    def advance_mixed(self, state: State, mixed: Array, gradient: Array, lr: float) -> State:
        """`advance`, from rows that were mixed elsewhere; mixed as `rows`, of sgd and adam the gradient itself."""
        theta, g, t = state.theta, np.array(gradient, dtype=np.float64), state.t + 1
        match self.kind:
            case "d_sgd":
                return replace(state, t=t, theta=mixed - lr * g)
            case "gradient_tracking":
                theta, y = np.split(mixed, 2, axis=1)
                y = y + g - state.gradient
                return replace(state, t=t, theta=theta - lr * y, y=y, gradient=g)
            case "sgd" | "naive_sgd":
                return replace(state, t=t, theta=theta - lr * mixed)

        if self.kind in ("adam", "naive_adam"):
            g = mixed
        m = self.beta1 * state.m + (1.0 - self.beta1) * g
        v = self.beta2 * state.v + (1.0 - self.beta2) * g**2
        moved = replace(state, t=t, m=m, v=v)
        if self.kind == "d_amsgrad":
            theta, u = np.split(mixed, 2, axis=1)
            v_hat = np.maximum(state.v_hat, v)
            theta = theta - lr * m / np.sqrt(np.maximum(u, self.epsilon))
            return replace(moved, theta=theta, v_hat=v_hat, u=u - state.v_hat + v_hat)
        correction1, correction2 = 1.0 - self.beta1**t, 1.0 - self.beta2**t
        if self.kind != "d_adam" and self.epsilon_form == "inside":
            direction = np.sqrt(correction2) / correction1 * m / (np.sqrt(v) + self.epsilon)
        else:
            direction = (m / correction1) / (np.sqrt(v / correction2) + self.epsilon)
        if self.kind == "d_adam":
            theta = mixed
        return replace(moved, theta=theta - lr * direction)

    def _mix(self, W: Matrix | None, X: Array) -> Array:
        return X if W is None else mix(W, X, self.consensus_rounds, self.parameters)


def clip_rows(gradient: Array, max_norm: float) -> Array:
    """g min(1, max_norm / ||g||_2) of every row g; [V, p] or [p]."""
    if not max_norm > 0:
        raise InputError(f"the largest norm of a gradient needs to be > 0; found {max_norm}")
    norms = np.linalg.norm(gradient, axis=-1, keepdims=True)
    scale = np.divide(max_norm, norms, out=np.ones_like(norms), where=norms > max_norm)
    return np.asarray(gradient * scale, dtype=np.float64)
