"""Scaling studies: mini-batches timed on many ranks, a model of their time, and what it predicts for other machines."""
