# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set themselves up.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test chaos bench-relay lint lint-check lock clean help setup env-example

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DOCUMENTS ?=
PEERS ?=
BENCH ?=
KEEP ?=

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/' | expand -t 18

demo: setup ## the main job on real input (DOCUMENTS=folder, KEEP=1 leaves it running)
	@$(BIN)/iu demo $(if $(DOCUMENTS),--documents "$(DOCUMENTS)") $(if $(KEEP),--keep)

test: setup lint-check ## every test but the long counts
	@$(BIN)/pytest

chaos: setup ## kills, restarts and cuts, the long counts (IU_TEST_SEED=1); says what was survived
	@IU_TEST_CHAOS=full $(BIN)/pytest tests/chaos --timeout 3600

bench-relay: setup ## the relay beside its limits, 5 minutes (PEERS=1: and Debezium, 30; BENCH="--write" keeps the page)
	@$(BIN)/python -m tests.benchmarks $(if $(PEERS),--peers) $(BENCH)

lint: setup ## mend what can be mended
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint-check: setup ## ruff, mypy --strict, import-linter, squawk; changes nothing
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache
	@$(BIN)/squawk sql/migrations/*.sql sql/rollback/*.sql sql/runtime/*.sql sql/roles.sql sql/ledger.sql >/dev/null || \
	  $(BIN)/squawk sql/migrations/*.sql sql/rollback/*.sql sql/runtime/*.sql sql/roles.sql sql/ledger.sql

setup: $(READY)

$(READY): requirements/installer.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; remedy: make PYTHON=python3.12 …" >&2; exit 78; }
	@echo "setting up .venv" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/installer.txt
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes requirements/dev.txt requirements/installer.txt
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

env-example: setup ## write .env.example from the settings
	@$(BIN)/python -m iu_core.env_example > .env.example

lock: setup ## lock the requirements again
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header requirements/installer.in -o requirements/installer.txt
	@$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --extra local --group dev pyproject.toml -o requirements/dev.txt

clean: ## remove what was built here
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
