#!/usr/bin/env bash
# Train CONFIG under PBS, one MPI process per rank. PBS hands no arguments to a script: it reads FDTRAIN_ARGUMENTS.
#   qsub -v FDTRAIN_ARGUMENTS="quickstart --out runs/pbs" launch/pbs.sh
# Adapt the lines marked SITE.
#PBS -N fdtrain
#PBS -l select=4:ncpus=25:mpiprocs=25
#PBS -l walltime=01:00:00
#PBS -j oe
set -euo pipefail
cd "${PBS_O_WORKDIR:?run this with qsub}"

# SITE: the MPI of the site, and the environment in which fdtrain was installed with: pip install '.[mpi]'
# module load openmpi
# source "$HOME/fdtrain/.venv/bin/activate"

export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

read -r -a arguments <<<"${FDTRAIN_ARGUMENTS:?qsub -v FDTRAIN_ARGUMENTS=\"CONFIG ...\"}"
ranks=$(wc -l <"$PBS_NODEFILE") # one line per MPI process

# SITE: with an Open MPI built without PBS support, -x is needed for the variables above, as in launch/hostfile.sh.
exec mpirun -n "$ranks" --hostfile "$PBS_NODEFILE" "${FDTRAIN:-fdtrain}" run "${arguments[@]}"
