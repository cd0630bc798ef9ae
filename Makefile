# make start   run a broker (ARGS="--node b --no-http" are passed on)
# make test    run the tests (TESTS="tests/unit -k ring", WORKERS=2)
# make test-fast   a part in under a minute: tests/unit with fewer examples, some seeds, some real brokers
# make test-compiled   unit and integration tests and 100 seeds on the compiled wheel; it needs a C compiler
# make faults  faults on real processes (MINUTES=30, or SEED=17 for one seed)
# make soak    three brokers at full speed with faults and noise: nothing grows, nothing is lost (MINUTES=30)
# make journal-kills   a broker with a journal is killed under load (ROUNDS=200)
# make sim     run simulated clusters, plain ones and recoveries (SEEDS=0..500; SEED=17 or SEED=recoveries:17 replays and shrinks one)
# make mutants put deliberate bugs in, one after the other: the simulator has to catch each
# make mutation  small changes in the modules that hold the rules: unit tests have to see each (MODULES="attach log")
# make fuzz    any bytes for all that reads from outside (MINUTES=10, TARGET=codec)
# make docs    write docs/api.md, and the tables of docs/ that come from the code
# make bench   measure it beside the peers (redis-server for Redis; BENCH="--only latency")
# make bench-quick   a part in under a minute, compared with the last kept result
# make bench-report  the tables and plots of docs/performance.md from the last kept result
# make check   lint, types, rules of imports and tests; CI adds the audit, the wheel and a smoke test of it
# make wheel   build the wheel into dist/, compiled where there is a C compiler and PUBSUBD_PURE is not 1
# make sbom    the wheel, and what an install of it brings: dist/requirements.txt with hashes, dist/pubsubd.cdx.json
# make lock    write uv.lock anew after a change in pyproject.toml (UPGRADE=1 takes newer versions as well)
# make audit   ask for known vulnerabilities of all that is locked

PYTHON ?= python3
VENV   ?= .venv
# More than there may be processors: much of the time the tests wait for real processes and their time-outs.
WORKERS ?= 4
TESTS  ?= tests
ARGS   ?=
SEEDS  ?= 0..500
MINUTES ?= 1
ROUNDS ?= 200
SEED   ?=
TARGET ?=
BENCH  ?=
MODULES ?=
UPGRADE ?=
# Instead of the 7 days of pyproject.toml.
COOLDOWN ?=

# The tests start some 500 processes of Python and collect in each worker: bytecode is compiled once, not in each.
unexport PYTHONDONTWRITEBYTECODE

STAMP := $(VENV)/.installed
# What a broker needs, and nothing of what develops it.
RUN   := $(VENV)/.installed-run
BIN   := $(VENV)/bin
# The tools that make and audit the lock are kept apart from what they look at.
SUPPLY := $(VENV)/supply
FIXED  := pyproject.toml uv.lock supply/export.py supply/locked.py

# Wheels only: building a package would run code, and fetch build tools, that no lock knows.
LOCKED := -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:
# The build backend is the locked one, and nothing else is fetched.
OURS   := --quiet --disable-pip-version-check --no-deps --no-build-isolation
# install VENV,GROUP: what uv.lock has for this group of pyproject.toml, `run` for what a broker needs.
install = $(1)/bin/python -m supply.export $(2) > $(1)/$(2).txt && $(1)/bin/python $(LOCKED) -r $(1)/$(2).txt
# What the lock lacks is missed here.
CHECKED = @$(BIN)/python -m pip check --disable-pip-version-check >&2 \
	|| { echo "uv.lock does not fit pyproject.toml: run make lock" >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help venv start test test-fast test-compiled faults soak journal-kills sim mutants mutation fuzz bench bench-quick bench-report check format \
	docs lint types imports wheel sbom lock audit clean

help:
	@sed -n 's/^# make/make/p' Makefile

venv: $(STAMP)

# Brought up to date when what is installed may have changed.
$(RUN): $(FIXED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(call install,$(VENV),build)
	$(call install,$(VENV),run)
	$(BIN)/python -m pip install $(OURS) --editable .
	$(CHECKED)
	@touch $@

$(STAMP): $(RUN)
	$(call install,$(VENV),dev)
	$(CHECKED)
	@touch $@

# The groups that go on top of dev.
$(VENV)/.installed-%: $(STAMP)
	$(call install,$(VENV),$*)
	@touch $@

# Not on top of $(STAMP): while the lock does not fit pyproject.toml there is no such thing, and a new one is needed.
$(SUPPLY)/.installed: $(FIXED)
	$(PYTHON) -m venv $(SUPPLY)
	$(call install,$(SUPPLY),build)
	$(call install,$(SUPPLY),supply)
	@touch $@

start: $(RUN)
	@exec $(BIN)/pubsubd start $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

# Chosen by the markers `fast` and `slow`: see pyproject.toml.
test-fast: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m fast --hypothesis-profile fast \
		tests/unit tests/simulation tests/integration

# An environment of its own: no sources are in it, only the wheel. Not where there is no C compiler.
COMPILED := $(VENV)/compiled
SOURCES  := $(shell find broker client cli protocol -name '*.py') supply/build_hook.py

$(COMPILED)/.installed: $(STAMP) $(VENV)/.installed-compile $(SOURCES)
	$(PYTHON) -m venv $(COMPILED)
	$(call install,$(COMPILED),build)
	$(call install,$(COMPILED),run)
	$(call install,$(COMPILED),dev)
	rm -rf $(COMPILED)/wheel
	PUBSUBD_PURE=0 $(BIN)/python -m pip wheel $(OURS) --wheel-dir $(COMPILED)/wheel .
	$(COMPILED)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
		--force-reinstall $(COMPILED)/wheel/*.whl
	@touch $@

test-compiled: $(COMPILED)/.installed
	$(COMPILED)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "not interpreted" --hypothesis-profile fast \
		tests/unit tests/integration
	$(COMPILED)/bin/python -m tests.simulation.run 200..300

faults: $(STAMP)
	$(BIN)/python -m tests.faults.run --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

soak: $(STAMP)
	$(BIN)/python -m tests.soak.run --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

journal-kills: $(STAMP)
	$(BIN)/python -m tests.faults.journal_kills --rounds $(ROUNDS) $(if $(SEED),--seed $(SEED))

sim: $(STAMP)
	$(BIN)/python -m tests.simulation.run $(if $(SEED),$(SEED),$(SEEDS) recoveries:$(SEEDS))

mutants: $(STAMP)
	$(BIN)/python -m tests.simulation.mutants

mutation: $(VENV)/.installed-mutation
	$(BIN)/python -m tests.mutation.run $(MODULES)

# There is not a wheel of the guide for every machine; without it the runner mutates what it knows, and says so.
fuzz: $(STAMP)
	@$(MAKE) --no-print-directory $(VENV)/.installed-fuzz || true
	$(BIN)/python -m tests.fuzz.run --minutes $(MINUTES) $(if $(TARGET),--target $(TARGET))

# The peers to measure beside come from the package index, for this alone. The compiled build is measured where
# make .venv/compiled/.installed was called before; else the run measures the interpreted one, and says so.
bench: $(VENV)/.installed-bench
	$(BIN)/python -m bench $(BENCH)

bench-quick: $(VENV)/.installed-bench
	$(BIN)/python -m bench --quick $(BENCH)

bench-report: $(VENV)/.installed-bench
	$(BIN)/python -m bench report

check: lint types imports test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m style

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python -m docs.bounds_table
	$(BIN)/python -m docs.reference

types: $(STAMP)
	$(BIN)/mypy --strict

imports: $(STAMP)
	$(BIN)/python -m pytest tests/unit/test_imports.py tests/unit/test_import_circles.py tests/unit/test_folders_of_the_shell.py

wheel: $(STAMP) $(VENV)/.installed-compile
	rm -rf dist
	$(BIN)/python -m pip wheel $(OURS) --wheel-dir dist .

sbom: wheel
	$(BIN)/python -m supply.export run > dist/requirements.txt
	$(BIN)/python -m supply.sbom uv.lock dist/*.whl dist/pubsubd.cdx.json

# The index is named: uv writes it into the lock, and a mirror is the choice of one machine.
lock: $(SUPPLY)/.installed
	$(SUPPLY)/bin/uv lock --quiet --no-build --python $(SUPPLY)/bin/python --default-index https://pypi.org/simple \
		$(if $(UPGRADE),--upgrade) $(if $(COOLDOWN),--exclude-newer '$(COOLDOWN)')

audit: $(SUPPLY)/.installed
	@$(SUPPLY)/bin/python -m supply.audit $(SUPPLY)/bin/pip-audit uv.lock

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
