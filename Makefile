# Every target makes its own environment first: only Python >= 3.11 is needed. `make demo`, `make test`, `make check`.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
JOBS   ?= 2

.PHONY: demo test check types lint floors bench ratio sim mutants properties soak clone clean

demo: $(READY)
	@$(BIN)/penstock demo forecast

test: $(READY)
	$(BIN)/pytest -q -n $(JOBS)

check: lint types floors test

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# mypy knows packages by their folder's name: the link gives the root the name it is installed under.
types: $(READY)
	@mkdir -p .view && ln -sfn .. .view/penstock
	$(BIN)/mypy

floors: $(READY)
	$(BIN)/lint-imports --no-cache

bench: $(READY)
	@$(BIN)/penstock bench

# Are the files as they are as fast as another revision? make ratio AGAINST=main~5 [CASES=publish,latency] [ROUNDS=6].
# Fails if a ratio is below FLOOR. OF=REVISION looks at that one instead; JSON=1 prints objects.
ROUNDS ?= 6
FLOOR  ?= 0.95
ratio: $(READY)
	@test -n "$(AGAINST)" || { echo "make: say which revision to compare with: make ratio AGAINST=main~5" >&2; exit 2; }
	@PYTHONPATH=benchmarks $(BIN)/python -P -m ratio "$(AGAINST)" --cases "$(CASES)" --rounds $(ROUNDS) --floor $(FLOOR) \
		$(if $(OF),--of "$(OF)") $(if $(JSON),--json)

# Whole nodes and clients in a seeded world of faults: SEEDS seeds from FIRST_SEED on. A failure prints its seed and its story.
SEEDS      ?= 1000
FIRST_SEED ?= 0
sim: $(READY)
	PYTHONPATH=tests $(BIN)/python -P -m sim.run --seeds $(SEEDS) --first-seed $(FIRST_SEED)

# Can the simulation fail? Each planted bug has to be found.
mutants: $(READY)
	PYTHONPATH=tests $(BIN)/python -P -m sim.mutants

# The model against a naive second one, much longer than in `make test`.
properties: $(READY)
	HYPOTHESIS_PROFILE=long $(BIN)/pytest -q -n $(JOBS) tests/broker tests/peers

# Real processes, killed at random moments: PENSTOCK_ROUNDS kills with the dice of PENSTOCK_SEED; figures are printed.
soak: $(READY)
	PENSTOCK_ROUNDS=$${PENSTOCK_ROUNDS:-50} $(BIN)/pytest -q -s tests/faults

# A new node clones MIB mebibytes from three others under load: how long it takes, and the longest gap meanwhile.
MIB ?= 1024
clone: $(READY)
	PYTHONPATH=tests $(BIN)/python -P -m faults.clone --mib $(MIB)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 found; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON) ..." >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-warn-script-location -e ".[mpi,plot,dev]"
	@touch $@

clean:
	rm -rf $(VENV) .view build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
