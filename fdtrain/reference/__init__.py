"""The oracle: the same training on global matrices, in one process, without a single message.

It shares no layer, optimizer, graph or transport code with what it checks; its formulas come from the paper,
arXiv 2412.06105, equations (8c), (10), (13b), (14), (15), (16), and from SPEC §4. Symbols: S shift, W mixing, V nodes,
B samples, layers l = 1..L of sizes g_0..g_L, p parameters per node. Inside, arrays are node-major: S acts on [V, B g].
"""

from fdtrain.reference.model import (
    ACTIVATIONS,
    Array,
    Matrix,
    Model,
    disagreement,
    mixing_matrix,
    mse,
    shift_matrix,
)
from fdtrain.reference.recursions import CENTRALIZED, DISTRIBUTED, Recursion, State, clip_rows
from fdtrain.reference.scheduling import (
    Critic,
    GreedyCost,
    Scheduling,
    SchedulingState,
    Seen,
    Twin,
    actor_model,
    conflict_shift,
    critic_model,
    greedy,
    greedy_by_messages,
    greedy_rounds,
    target,
)
from fdtrain.reference.train import EpochResult, LearningRate, train_centralized, train_distributed
from fdtrain.reference.uwmmse import Uwmmse, mutual_mixing, rates, train_uwmmse, wmmse

__all__ = [
    "ACTIVATIONS",
    "CENTRALIZED",
    "DISTRIBUTED",
    "Array",
    "Critic",
    "EpochResult",
    "GreedyCost",
    "LearningRate",
    "Matrix",
    "Model",
    "Recursion",
    "Scheduling",
    "SchedulingState",
    "Seen",
    "State",
    "Twin",
    "Uwmmse",
    "actor_model",
    "clip_rows",
    "conflict_shift",
    "critic_model",
    "disagreement",
    "greedy",
    "greedy_by_messages",
    "greedy_rounds",
    "mixing_matrix",
    "mse",
    "mutual_mixing",
    "rates",
    "shift_matrix",
    "target",
    "train_centralized",
    "train_distributed",
    "train_uwmmse",
    "wmmse",
]
