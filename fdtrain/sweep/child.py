"""``python -m fdtrain.sweep.child PARENT ARGUMENTS``: the command line, in a process that ends when PARENT does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, arguments: list[str]) -> int:
    """Run ``fdtrain arguments``; SIGTERM comes when the process `parent` ends, however it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before it could be told
        return 128 + signal.SIGTERM
    sys.argv[1:] = arguments
    from fdtrain.__main__ import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
