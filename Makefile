# make start   run a broker (ARGS="--node b --no-http" are passed on)
# make test    run the tests (TESTS="tests/unit -k ring", WORKERS=4)
# make faults  faults on real processes (MINUTES=30, or SEED=17 for one seed)
# make soak    three brokers at full speed with faults and noise: nothing grows, nothing is lost (MINUTES=30)
# make journal-kills   a broker with a journal is killed under load (ROUNDS=200)
# make sim     run simulated clusters (SEED=17 replays and shrinks one, SEEDS=0..500)
# make mutants put deliberate bugs in, one after the other: the simulator has to catch each
# make bench   measure it beside the peers (redis-server for Redis; BENCH="--only latency")
# make bench-quick   a part in under a minute, compared with the last kept result
# make bench-report  the tables and plots of docs/performance.md from the last kept result
# make check   everything that CI checks
# make wheel   build the wheel into dist/

PYTHON ?= python3
VENV   ?= .venv
# Integration tests start real processes and measure time-outs: two workers leave them room.
WORKERS ?= 2
TESTS  ?= tests
ARGS   ?=
SEEDS  ?= 0..500
MINUTES ?= 1
ROUNDS ?= 200
SEED   ?=
BENCH  ?=

STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
BIN   := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv start test faults soak journal-kills sim mutants bench bench-quick bench-report check format \
	lint types imports wheel clean

help:
	@sed -n 's/^# make/make/p' Makefile

venv: $(STAMP)

# Brought up to date when what is installed may have changed. --group needs pip 25.1.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@touch $@

start: $(STAMP)
	@exec $(BIN)/pubsubd start $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) $(TESTS)

faults: $(STAMP)
	$(BIN)/python -m tests.faults.run --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

soak: $(STAMP)
	$(BIN)/python -m tests.soak.run --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

journal-kills: $(STAMP)
	$(BIN)/python -m tests.faults.journal_kills --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

sim: $(STAMP)
	$(BIN)/python -m tests.simulation.run $(if $(SEED),$(SEED),$(SEEDS))

mutants: $(STAMP)
	$(BIN)/python -m tests.simulation.mutants

# The peers to measure beside come from the package index, for this alone.
$(BENCH_STAMP): $(STAMP) pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench
	@touch $@

bench: $(BENCH_STAMP)
	$(BIN)/python -m bench $(BENCH)

bench-quick: $(BENCH_STAMP)
	$(BIN)/python -m bench --quick $(BENCH)

bench-report: $(STAMP)
	$(BIN)/python -m bench report

check: lint types imports test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(STAMP)
	$(BIN)/mypy --strict

imports: $(STAMP)
	$(BIN)/python -m pytest tests/unit/test_imports.py

wheel: $(STAMP)
	rm -rf dist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
