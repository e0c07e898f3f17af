# `make` lists the verbs. Each sets up what is missing first; a second setup takes a moment.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
ARGS ?=
BIN := .venv/bin
# Tests start the program by the hundred: what was compiled once is kept, whatever the machine says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup check format test demo bench docs deb clean chaos screenshots

help: ## list the verbs
	@echo "Stockade: make VERB"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv and install what is missing
	@scripts/setup

check: setup ## format, lint, types, import contracts, fast tests (under a minute)
	@scripts/check

format: setup ## put the code into its one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test: setup ## check, then every test against the real thing
	@scripts/check
	@scripts/real-tests $(ARGS)

chaos: setup ## every kind of fault under traffic; SEED=4100 TIME=60 (seconds), STEP=17 that one alone
	@$(BIN)/python tests/faults/chaos.py --seed $(or $(SEED),4100) --time $(or $(TIME),60) \
	  --step $(or $(STEP),0) --only "$(ONLY)"

demo: setup ## the main job, shown in this terminal; ARGS="--once" ends by itself
	@$(BIN)/stockade demo $(ARGS)

bench: setup ## every benchmark, beside its target; ARGS="--quick" for the inner loop
	@scripts/bench $(ARGS)

screenshots: setup ## pictures of every page of the console, both themes, into docs/pictures
	@$(BIN)/python -m tests.web.screenshots $(ARGS)

docs: setup ## write the pages that the program generates (docs/cli.md)
	@$(BIN)/python scripts/generate_docs.py

deb: setup ## the Debian package, into build/; ARGS="--python 3.12" for another release
	@scripts/build-deb $(ARGS)

clean: ## remove everything that the other verbs made
	@rm -rf src/stockade/web/static/vendor .venv .tools build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
