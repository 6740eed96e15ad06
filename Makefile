# Each target does all of the set-up that it needs: see scripts/install.sh.
# PYTHON=/path/to/python3.11 names the interpreter to make .venv with.

.PHONY: demo compare cluster-demo test test-slow test-walks lint bench notebooks install

demo: install
	.venv/bin/python -m experiments.emnist_fedavg --flagfile=experiments/presets/demo.txt

# Which federated method suits your clients: make compare DATA=mine.npz
compare: install
	.venv/bin/python -m experiments.leaderboard --data_path="$(DATA)" --processes=2

# A node of three is killed in the middle of a run, on this machine's loopback.
cluster-demo: install
	.venv/bin/python -m experiments.cluster_demo

# Two processes: one that has nothing more to do takes half of the other's tests.
test: install
	.venv/bin/python -m pytest -n 2 --dist=worksteal

test-slow: install
	.venv/bin/python -m pytest -m "slow and not walk" -n 2 --dist=worksteal \
	    --durations=20

# The slow tests of methods and cases that others of their kind stand for in test-slow,
# and those of whole studies.
test-walks: install
	.venv/bin/python -m pytest -m walk -n 2 --dist=worksteal

lint: install
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

bench: install
	.venv/bin/python -m benchmarks.all

notebooks: install
	.venv/bin/jupyter-execute --timeout=600 notebooks/*.ipynb

install:
	@scripts/install.sh
