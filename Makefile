# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help setup system demo lab test test-python test-browser test-typescript check generate format bench soak clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- set-up: each stamp is redone when what it depends on changes ---

$(VENV)/python-stamp: pyproject.toml
	tools/setup.sh python "$(PYTHON)"
	touch $@

$(VENV)/labextension-stamp: $(VENV)/python-stamp $(shell git ls-files labextension 2>/dev/null)
	tools/setup.sh labextension
	touch $@

$(VENV)/system-stamp: tools/setup.sh
	mkdir -p $(VENV)
	tools/setup.sh system
	touch $@

setup: $(VENV)/labextension-stamp ## the virtual environment in .venv and the built labextension
system: $(VENV)/system-stamp

demo: setup ## run the example's six combinations and show where the results are
	tools/demo.sh

lab: setup ## JupyterLab on the example, with the extension
	$(BIN)/jupyter lab --notebook-dir=examples examples/churn/report.ipynb $(LAB_ARGS)

test: $(VENV)/system-stamp setup test-python test-browser test-typescript ## every test

test-python: setup
	$(BIN)/python -m pytest -n 3 --dist worksteal --ignore=tests/ui

test-browser: setup $(VENV)/system-stamp
	$(BIN)/python -m pytest tests/ui

test-typescript: setup
	cd labextension && PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent test

check: setup ## ruff, mypy, imports, eslint, tsc, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd labextension && PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent lint
	tools/generated.sh --check

generate: setup ## the OpenAPI document and the TypeScript types
	tools/generated.sh

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## the benchmarks; alone on the machine, please
	$(BIN)/python -m benchmarks

soak: setup ## jobs whose processes are killed at random, for an hour or two; writes docs/reliability.md
	$(BIN)/python -m tests.acceptance.faults $(SOAK_ARGS)

clean: ## everything that was built
	rm -rf $(VENV) .cache labextension/lib labextension/node_modules jupyter_jobs/labextension jupyter_jobs/static/vendor
