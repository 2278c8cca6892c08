#!/usr/bin/env bash
# Train CONFIG on several hosts that share a file system, over ssh, with Open MPI.
#   launch/hostfile.sh HOSTFILE CONFIG [KEY=VALUE]... [options of fdtrain run]
#   RANKS=100 launch/hostfile.sh my-hosts quickstart --out runs/two-hosts
# RANKS: how many in all; default: the sum of the slots. More than slots is allowed, and slow.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 HOSTFILE CONFIG [KEY=VALUE]... [options of fdtrain run]" >&2
    exit 2
fi
hosts=$1
shift
slots=$(sed -n 's/^[^#]*slots=\([0-9][0-9]*\).*/\1/p' "$hosts" | awk '{ sum += $1 } END { print sum + 0 }')
ranks=${RANKS:-$slots}
if [ "$ranks" -lt 1 ]; then
    echo "error: $hosts: no line with slots=N; add them, or set RANKS" >&2
    exit 2
fi

# Ranks share the cores already: no threads inside a rank. -x carries a variable to the other hosts.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export FDTRAIN_DEADLINE="${FDTRAIN_DEADLINE:-300}"
export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-${TMPDIR:-/tmp}/fdtrain-numba-$(id -u)}" # on a disk of each host
options=(--hostfile "$hosts" -n "$ranks")
options+=(-x OMP_NUM_THREADS -x OPENBLAS_NUM_THREADS -x FDTRAIN_DEADLINE -x NUMBA_CACHE_DIR)
if [ "$ranks" -gt "$slots" ]; then
    export OMPI_MCA_mpi_yield_when_idle=1
    options+=(--map-by :oversubscribe -x OMPI_MCA_mpi_yield_when_idle)
fi
exec mpirun "${options[@]}" "${FDTRAIN:-fdtrain}" run "$@"
