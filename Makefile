# Needs Python 3.11 or newer, make and a package index; everything else it brings itself, into .venv and .clients.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := claudeproxyd tests attack benchmarks twisted setup.py claudeproxyd.tac

.PHONY: run test clients constraints test-model attack rolling fuzz soak ledger bench lint format types wheel clean

# The daemon in the foreground: make run ARGS="--config my.toml"
run: $(VENV)/.run
	@exec $(BIN)/twistd -n --pidfile= claudeproxyd $(ARGS)

# Two runners: trial for what is synchronous, pytest for what needs sockets, processes and clients. Both have a process on
# each core, but for the tests that measure: beside these nothing runs. The first of the three that fails is the last.
JOBS ?= auto
PYTEST := $(BIN)/python -m pytest tests/integration
test: $(VENV)/.test clients
	$(BIN)/python -m twisted.trial -j $(JOBS) tests
	$(PYTEST) -m "alone and not model"
	$(PYTEST) -m "not alone and not model" -n $(JOBS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# The real clients that tests/integration runs; each is tried again as long as it is missing.
clients: $(VENV)/.test
	@$(BIN)/python -m tests.integration.support.clients

# A small real model behind the daemon; some 150 MB of wheels, so not part of `make test`.
test-model: $(VENV)/.test
	@$(BIN)/python -m tests.integration.support.clients model
	CI_REQUIRE_CLIENTS=1 $(BIN)/python -m pytest -m model tests/integration

# Hostile inputs against a daemon that runs: make attack ARGS="http://127.0.0.1:8765 --key KEY --pid PID"
attack: $(VENV)/.run
	@$(BIN)/python -m attack $(ARGS)

# Restarts under load behind nginx, behind HAProxy and on one socket: make rolling ARGS="--restarts 20 nginx"
rolling: $(VENV)/.test
	@$(BIN)/python -m tests.integration.programs.rolling $(ARGS)

# The suite with new examples for each property, and its fuzzing for some hours: make fuzz FUZZ_EXAMPLES=100000
FUZZ_EXAMPLES ?= 20000
fuzz: $(VENV)/.test
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m twisted.trial tests

# Half an hour of all families at once, with keys that fail, clients that leave, reloads and restarts.
SOAK_SECONDS ?= 1800
soak: $(VENV)/.test
	SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -s tests/integration/test_soak.py

# The ledger beside an upstream's own books: 10,000 requests of all families, kills, and a database that is away for a
# minute, with SQLite and with PostgreSQL.
LEDGER_REQUESTS ?= 10000
ledger: $(VENV)/.test
	ACCOUNTS_REQUESTS=$(LEDGER_REQUESTS) ACCOUNTS_AWAY=60 $(BIN)/python -m pytest -s tests/integration/test_accounts.py

# CPU and times beside nginx and a bare Twisted relay; needs gcc and nginx. benchmarks/README.md says how to read it.
bench: $(VENV)/.run
	@$(BIN)/python benchmarks/run.py $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

types: $(VENV)/.dev
	$(BIN)/mypy

# The newest of all that the suite is run with, for a commit of its own once it passes.
constraints: $(VENV)/.dev
	$(PIP) --upgrade --upgrade-strategy eager -e '.[test,dev]'
	@sed -n '/^#/p' constraints.txt > $(VENV)/constraints
	@$(BIN)/python -m pip freeze --exclude-editable >> $(VENV)/constraints
	@mv $(VENV)/constraints constraints.txt

wheel: $(VENV)/.run
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) .clients build dist *.egg-info .mypy_cache .ruff_cache _trial_temp*

# Stamps: what is installed is installed once, until setup.py changes. -e, so that the checkout is what runs.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: setup.py | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.test: setup.py constraints.txt | $(BIN)/python
	$(PIP) -c constraints.txt -e '.[test]'
	@touch $@ $(VENV)/.run

$(VENV)/.dev: setup.py constraints.txt | $(BIN)/python
	$(PIP) -c constraints.txt -e '.[test,dev]'
	@touch $@ $(VENV)/.test $(VENV)/.run
