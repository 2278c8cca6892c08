#!/usr/bin/env bash
# Train CONFIG under PBS, one MPI process per rank. PBS hands no arguments to a script: it reads FDTRAIN_ARGUMENTS.
#   qsub -v FDTRAIN_ARGUMENTS="quickstart --out runs/pbs" launch/pbs.sh
#   qsub -J 1-10 -v FDTRAIN_ARGUMENTS="quickstart seed=%a --out runs/seed-%a" launch/pbs.sh
# In the arguments %a is the number within an array. --out DIR has to be given: the run goes on in it.
# Two minutes before its time is over the run writes a checkpoint and stops, and the script submits itself again.
# FDTRAIN_SECONDS: when that is, in seconds; FDTRAIN_REQUEUES: how often at most, default: 100.
# FDTRAIN_SCRIPT: this file, if it is not launch/pbs.sh of the folder where qsub was called.
# Adapt the lines marked SITE.
#PBS -N fdtrain
#PBS -l select=4:ncpus=25:mpiprocs=25
# With another time, set FDTRAIN_SECONDS.
#PBS -l walltime=01:00:00
#PBS -j oe
set -euo pipefail
cd "${PBS_O_WORKDIR:?run this with qsub}"

# SITE: the MPI of the site, and the environment in which fdtrain was installed with: pip install '.[mpi]'
# module load openmpi
# source "$HOME/fdtrain/.venv/bin/activate"

# Ranks share the cores already: no threads inside a rank. Compiled kernels are kept on a disk of the node.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-${TMPDIR:-/tmp}/fdtrain-numba-$(id -u)}"

: "${FDTRAIN_ARGUMENTS:?qsub -v FDTRAIN_ARGUMENTS=\"CONFIG --out DIR ...\"}"
export FDTRAIN_ARGUMENTS="${FDTRAIN_ARGUMENTS//%a/${PBS_ARRAY_INDEX:-}}"
export FDTRAIN_SECONDS="${FDTRAIN_SECONDS:-$((${PBS_WALLTIME:-3600} - 120))}"
export FDTRAIN_REQUEUES="${FDTRAIN_REQUEUES:-100}"
export FDTRAIN_GOES_ON="${FDTRAIN_GOES_ON:-}" # set by the job before this one
read -r -a arguments <<<"$FDTRAIN_ARGUMENTS"
out=""
for ((k = 0; k < ${#arguments[@]}; k++)); do
    case ${arguments[k]} in
    --out) out=${arguments[k + 1]:-} ;;
    --out=*) out=${arguments[k]#--out=} ;;
    esac
done
if [ -z "$out" ]; then
    echo "error: FDTRAIN_ARGUMENTS: needs --out DIR, found $FDTRAIN_ARGUMENTS" >&2
    exit 2
fi
if [ -n "$FDTRAIN_GOES_ON" ] && [ -f "$out/config.yaml" ]; then
    arguments=(--resume "$out")
fi
ranks=$(wc -l <"$PBS_NODEFILE") # one line per MPI process

# SITE: with an Open MPI built without PBS support, -x is needed for the variables above, as in launch/hostfile.sh.
status=0
timeout --preserve-status --signal=USR1 "$FDTRAIN_SECONDS" \
    mpirun -n "$ranks" --hostfile "$PBS_NODEFILE" "${FDTRAIN:-fdtrain}" run "${arguments[@]}" || status=$?
if [ "$status" -eq 143 ] && [ "$FDTRAIN_REQUEUES" -gt 0 ]; then
    echo "stopped with a checkpoint in $out; submitted again"
    export FDTRAIN_REQUEUES=$((FDTRAIN_REQUEUES - 1)) FDTRAIN_GOES_ON=1
    names=FDTRAIN_ARGUMENTS,FDTRAIN_SECONDS,FDTRAIN_REQUEUES,FDTRAIN_GOES_ON
    for name in FDTRAIN FDTRAIN_SCRIPT FDTRAIN_DEADLINE FDTRAIN_GRACE; do
        [ -z "${!name:-}" ] || names+=,$name
    done
    qsub -W depend=afterany:"$PBS_JOBID" -v "$names" "${FDTRAIN_SCRIPT:-launch/pbs.sh}"
fi
exit "$status"
