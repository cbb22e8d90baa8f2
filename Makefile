# `make help` lists what there is. PYTHON=/path/to/python3.12 chooses the interpreter, ARGS="-k sweep" goes to pytest.
BIN := .venv/bin
UV ?= uv
ARGS ?=
ROUNDS ?= 5

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format lock acceptance chaos proof bench screenshots clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.installed ## make .venv, or bring it up to date with requirements.lock

.venv/.installed: requirements.lock pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" sh scripts/setup.sh

demo: setup ## the whole pipeline on sample conversations, in half a minute
	$(BIN)/snapshots demo

test: setup ## all tests but the long ones
	$(BIN)/pytest -n 3 -m "not acceptance and not chaos" $(ARGS)

lint: setup ## style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: ## resolve the dependencies anew into both lock files (needs uv)
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --all-extras \
		--custom-compile-command "make lock" pyproject.toml -o requirements.lock
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		-c requirements.lock --custom-compile-command "make lock" pyproject.toml -o requirements.runtime.lock

acceptance: setup ## conversations, byte for byte: FILES="a.jsonl b.jsonl.gz", else those of ../shared/data
	$(BIN)/python tests/acceptance.py $(FILES)
	$(BIN)/pytest -m acceptance $(ARGS)

chaos: setup ## kill, cut and flush everything, and check the promise: REQUESTS=200000 SECONDS= SEED=1
	@$(BIN)/python tests/chaos --requests $(or $(REQUESTS),5000) --seconds $(or $(SECONDS),0) --seed $(or $(SEED),1) $(ARGS)

proof: setup ## the checker on deliberate bugs, poison, and a short run of chaos
	$(BIN)/pytest -n 2 -m chaos --ignore tests/chaos/test_short_run.py $(ARGS)
	$(BIN)/pytest -m chaos tests/chaos/test_short_run.py $(ARGS)

bench: setup ## measure: ROUNDS=5 PEERS=../shared/peers ONLY=stream,backfill
	$(BIN)/python -m benchmarks --rounds $(ROUNDS) $(if $(PEERS),--peers $(PEERS)) $(if $(ONLY),--only $(ONLY)) $(ARGS)

screenshots: setup ## take docs/screenshots anew (needs a Chromium)
	SCREENSHOTS=1 $(BIN)/pytest tests/browser $(ARGS)

clean: ## remove .venv and everything else that can be made again
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
