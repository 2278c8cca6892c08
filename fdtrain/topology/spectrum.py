"""How fast repeated mixing averages: the spectral gap of a mixing matrix."""

from __future__ import annotations

from typing import Any

import numpy as np

DENSE_LIMIT = 1000  # nodes; larger matrices go to a sparse eigensolver


def spectral_gap(W: Any) -> float | None:
    """1 − max(|λ₂|, |λ_V|) of a symmetric SciPy sparse `W` [V, V] with rows that sum to 1.

    Deviations from the mean shrink by 1 − gap per mixing; 1 for a single node. None where the sparse eigensolver
    does not converge.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    nodes = W.shape[0]
    if nodes == 1:
        return 1.0
    if nodes <= DENSE_LIMIT:
        return float(1.0 - np.abs(np.linalg.eigvalsh(W.toarray() - 1.0 / nodes)).max())
    centred: Any = LinearOperator((nodes, nodes), matvec=lambda x: W @ x - x.mean(), dtype=np.float64)
    start = np.random.Generator(np.random.Philox(0)).standard_normal(nodes)
    try:
        largest = eigsh(centred, k=1, which="LM", v0=start, ncv=min(nodes, 80), return_eigenvectors=False)
    except ArpackNoConvergence:
        return None
    return float(1.0 - np.abs(largest).max())
