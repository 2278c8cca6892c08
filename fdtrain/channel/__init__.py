"""Unreliable messages: what happens to them on every directed link, and what a node does without one.

docs/channels.md has it in full.

:mod:`spec` says what the channels are like, :mod:`fates` draws what becomes of each message, :mod:`features` and
:mod:`parameters` put something in the place of what is missing, and :mod:`wire` wraps the exchange of a round.
"""
