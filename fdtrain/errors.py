"""The errors that fdtrain raises on purpose; everything else is a defect."""


class InputError(ValueError):
    """The user's input cannot be used; the message is one line: what was wrong, what was found, the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """


class DivergenceError(ArithmeticError):
    """Training produced a value that is not finite; the message names the epoch, the node and the layer."""


class RunFailedError(RuntimeError):
    """A run on other processes failed; the message is what they said."""


class MessageTimeoutError(RuntimeError):
    """A neighbour's message did not arrive before the deadline."""
