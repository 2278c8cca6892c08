"""Compiled loops (numba): what a node computes, a pass over many nodes, and the rounds of a whole mini-batch."""
