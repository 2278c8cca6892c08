"""``fdtrain`` and ``python -m fdtrain``: the command line, or one rank of it under an MPI launcher."""

import os
import sys


def main() -> int:
    """Run the command line, or be a rank."""
    from fdtrain.launcher import INSTALL_HINT, launched_size
    from fdtrain.limits import limit_start
    from fdtrain.processes import dozing, prepare_rank

    if launched_size() is None:
        from fdtrain.cli import main as command_line

        try:
            status = command_line()
            sys.stdout.flush()
        except BrokenPipeError:  # as of `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        return status
    if not os.environ.get("SLURM_PROCID"):  # it ends its processes itself
        prepare_rank()
    limit_start()
    try:
        with dozing():  # the MPI starts
            from fdtrain.worker import main as rank
    except ImportError as error:
        print(
            f"error: this process was started by an MPI launcher, but {error}; {INSTALL_HINT}",
            file=sys.stderr,
        )
        return 2
    return rank(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
