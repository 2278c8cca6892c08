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
from fdtrain.reference.train import EpochResult, LearningRate, train_centralized, train_distributed
from fdtrain.reference.uwmmse import Uwmmse, mutual_mixing, rates, train_uwmmse, wmmse

__all__ = [
    "ACTIVATIONS",
    "CENTRALIZED",
    "DISTRIBUTED",
    "Array",
    "EpochResult",
    "LearningRate",
    "Matrix",
    "Model",
    "Recursion",
    "State",
    "Uwmmse",
    "clip_rows",
    "disagreement",
    "mixing_matrix",
    "mse",
    "mutual_mixing",
    "rates",
    "shift_matrix",
    "train_centralized",
    "train_distributed",
    "train_uwmmse",
    "wmmse",
]
