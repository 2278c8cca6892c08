#!/usr/bin/env bash
# Train CONFIG on this machine.
#   launch/laptop.sh CONFIG [KEY=VALUE]... [options of fdtrain run]
#   launch/laptop.sh quickstart training.epochs=2 --out runs/first
# RANKS: pure (one per graph node), auto (one per core, the default), or a number.
# FDTRAIN: the command, where it is not on the path, e.g. .venv/bin/fdtrain.
set -euo pipefail

if [ $# -lt 1 ]; then
    echo "usage: $0 CONFIG [KEY=VALUE]... [options of fdtrain run]" >&2
    exit 2
fi
exec "${FDTRAIN:-fdtrain}" run --ranks "${RANKS:-auto}" "$@"
