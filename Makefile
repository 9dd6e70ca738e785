.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
UV := VIRTUAL_ENV=$(VENV) $(BIN)/uv
PYTHON ?= python3
# First, because they wait more than they work.
STORIES := tests/walks/ tests/workers/

.PHONY: help run test check bench install lock format clean

help: ## List what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

run: $(VENV)/.run ## Set everything up and serve the demonstration on 127.0.0.1:$PORT (8000)
	@exec $(BIN)/emeritus demo

test: $(VENV)/.dev ## Set everything up and run every test
	@$(BIN)/python tests/ground/chromium.py >/dev/null
	@exec $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(STORIES) $(filter-out $(STORIES),$(wildcard tests/*/))

check: $(VENV)/.dev ## The quick ones: format, lint, types, floors, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n 2 --dist worksteal -m "not slow"

bench: $(VENV)/.dev ## Measure what readers read, the queue, what a sitting adds to its calls, and what replies cost
	@PYTHONPATH=tests $(BIN)/python -m bench.dollars
	@PYTHONPATH=tests $(BIN)/python -m bench.sitting
	@PYTHONPATH=tests $(BIN)/python -m bench.queue
	@PYTHONPATH=tests $(BIN)/python -m bench.reading
	@PYTHONPATH=tests $(BIN)/python -m bench.pages

install: $(VENV)/.run ## Set up what `make run` needs, in .venv

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The locks hold hashes and no registry's address: uv.lock would hold a thousand.
# What is run is what was tested, to the version: Bedrock's library, which tests need, holds one back.
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header --no-annotate --quiet
lock: $(VENV)/.uv ## Lock the dependencies that pyproject.toml names
	$(COMPILE) pyproject.toml --group install --group dev -o locks/dev.txt
	$(COMPILE) pyproject.toml --group install --constraints locks/dev.txt -o locks/run.txt
	$(COMPILE) --group uv -o locks/uv.txt

clean: ## Remove the virtual environment and caches; never the data folder
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist

$(VENV)/.uv: locks/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit("Emeritus needs Python 3.11 or newer." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r locks/uv.txt
	@touch $@

$(VENV)/.run: locks/run.txt pyproject.toml | $(VENV)/.uv
	$(UV) pip install --quiet --require-hashes -r locks/run.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: locks/dev.txt $(VENV)/.run
	$(UV) pip install --quiet --require-hashes -r locks/dev.txt
	@touch $@
