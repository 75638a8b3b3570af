# Every target builds what it needs: the first `make run` or `make test` takes a minute, later ones none.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
DATA ?= tilbud-data
ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TOOLS := $(VENV)/proto-tools
INSTALLED := $(VENV)/.tilbud
INSTALLED_DEV := $(VENV)/.tilbud-dev
INSTALLED_TOOLS := $(TOOLS)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test check lint types imports contract proto tools clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(INSTALLED) ## serve the sample campaigns; ARGS="--durability power" adds options
	@mkdir -p $(DATA)
	$(BIN)/tilbud serve --campaigns src/tilbud/samples --data $(DATA) $(ARGS)

test: $(INSTALLED_DEV) $(INSTALLED_TOOLS) ## run every test; ARGS="-k ledger" selects
	$(BIN)/python -m pytest -q $(ARGS)

check: $(INSTALLED_DEV) $(INSTALLED_TOOLS) ## lint, types, imports and contract, without the other tests
	@$(MAKE) --no-print-directory lint types imports contract

lint: ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: ## mypy, strict
	$(BIN)/mypy

imports: ## import-linter: which room may import which
	PYTHONPATH=src $(BIN)/lint-imports

contract: ## buf lint of proto/
	$(TOOLS)/bin/python proto/generate.py lint

proto: $(INSTALLED_TOOLS) ## generate src/tilbud/v1 from proto/
	rm -f src/tilbud/v1/*_pb2*
	$(TOOLS)/bin/python proto/generate.py code src

tools: $(INSTALLED_TOOLS) ## install what generates and lints the contract

clean: ## remove .venv, .data, builds and caches
	rm -rf .venv tilbud-data build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests proto -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(BIN)/python
	$(PIP) install --editable '.[dev]'
	@touch $@ $(INSTALLED)

$(INSTALLED_TOOLS): proto/requirements.txt | $(BIN)/python
	$(BIN)/python -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip --disable-pip-version-check --quiet install --requirement $<
	@touch $@
