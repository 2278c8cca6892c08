"""The errors that fdtrain raises on purpose; everything else is a defect."""

from __future__ import annotations


class InputError(ValueError):
    """The user's input cannot be used; the message is one line: what was wrong, what was found, the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """


class BusyError(InputError):
    """Another process is at work on a run."""


class DivergenceError(ArithmeticError):
    """Training produced a value that is not finite; the message names the epoch, the node and the layer."""


class RunFailedError(RuntimeError):
    """A run on other processes failed; the message is what they said."""


class CrashError(RunFailedError):
    """A process of a run failed or was killed: the run can go on from where it was."""


class StoppedError(RunFailedError):
    """A run stopped because a signal asked for it; the message says how to go on."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal  # its number

    def __reduce__(self) -> tuple[type[StoppedError], tuple[str, int]]:
        return type(self), (str(self), self.signal)


class MessageTimeoutError(RuntimeError):
    """A neighbour's message did not arrive before the deadline."""
