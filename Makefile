# `make help` lists the targets. PYTHON=/path/to/python3.12 selects the interpreter, ARGS="-k sweep" is passed on.
BIN := .venv/bin
UV ?= uv
ARGS ?=
ROUNDS ?= 5

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format lock acceptance judges chaos cluster proof bench wheels screenshots clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## create .venv, or update it to requirements.lock

# An upgrade of the system's Python may have removed the interpreter of the environment.
REMOVED := $(shell [ -x .venv/bin/python ] || rm -f .venv/.installed)

.venv/.installed: requirements.lock pyproject.toml scripts/setup.sh scripts/setup_environment.py
	@PYTHON="$(PYTHON)" sh scripts/setup.sh

demo: setup ## run the whole pipeline on the sample conversations and exit (about half a minute)
	$(BIN)/snapshots demo

test: setup ## run the tests, except for the acceptance and chaos tests
	$(BIN)/pytest -n 4 --dist worksteal -m "not acceptance and not chaos" $(ARGS)

lint: setup ## check style, types and the import contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## apply the fixes that ruff can make
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## resolve the dependencies again and write both lock files (needs uv)
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --all-extras \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--extra exports --extra languages -c requirements.lock --custom-compile-command "make lock" pyproject.toml -o requirements.runtime.lock

acceptance: setup ## compare every snapshot of the conversations in DATA=folder with its source (default: the samples)
	$(BIN)/python tests/acceptance.py $(DATA)
	CONVERSATIONS=$(DATA) $(BIN)/pytest -m acceptance $(ARGS)

judges: setup ## install the programs that read the formats into .venv-judges, for the acceptance tests (0.8 GB)
	$(BIN)/python -m venv .venv-judges
	.venv-judges/bin/python -m pip install -q --no-deps -r tests/judges/requirements.txt

chaos: setup ## inject faults under load and check the guarantees: REQUESTS=200000 SECONDS=6000 SEED=1 ARGS=--sentinel
	@$(BIN)/python tests/chaos --requests $(or $(REQUESTS),5000) --seconds $(or $(SECONDS),0) --seed $(or $(SEED),1) $(ARGS)

cluster: setup ## the same on several hosts (network namespaces, needs root): partitions, lossy links, failovers: SEED=1 ARGS="--rounds 2"
	@PYTHONDONTWRITEBYTECODE=1 $(BIN)/python tests/chaos/hosts --seed $(or $(SEED),1) $(ARGS)

proof: setup ## show that the checker finds deliberate bugs, then a short chaos run
	$(BIN)/pytest -n 2 -m chaos --ignore tests/chaos/test_short_run.py $(ARGS)
	$(BIN)/pytest -m chaos tests/chaos/test_short_run.py $(ARGS)

bench: setup ## run the benchmarks: ROUNDS=5 PEERS=folder ONLY=stream,backfill
	$(BIN)/python -m benchmarks --rounds $(ROUNDS) $(if $(PEERS),--peers $(PEERS)) $(if $(ONLY),--only $(ONLY)) $(ARGS)

wheels: setup ## build the wheels of the service and of the Python client into dist/
	$(BIN)/python -m hatchling build -t wheel -d "$(CURDIR)/dist"
	cd clients/python && "$(CURDIR)/$(BIN)/python" -m hatchling build -t wheel -d "$(CURDIR)/dist"

screenshots: setup ## take the pictures in docs/screenshots again (needs Chromium)
	SCREENSHOTS=1 $(BIN)/pytest tests/browser $(ARGS)

clean: ## remove .venv and everything else that can be generated
	rm -rf .venv .venv-judges build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
