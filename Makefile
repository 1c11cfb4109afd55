PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= configs/quickstart.yaml
# Tests run in a process a core, four at most (tests/shares.py); PROCESSES= for one.
PROCESSES ?= -n auto --maxprocesses 4
# Bytecode is kept, whatever the environment says: tests start many processes.
TESTS = PYTHONDONTWRITEBYTECODE= RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0 $(BIN)/python -m pytest
# Those without Ray wait now and then for a child or a disk: a process more than cores keeps the cores busy.
FAST ?= -n $(shell $(PYTHON) -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')

.PHONY: quickstart test test-fast newest-torch flower lint docs format clean

quickstart: $(BIN)/.installed
	$(BIN)/raysim run $(CONFIG)

test: $(BIN)/.installed-test
	$(TESTS) $(PROCESSES) $(PYTEST)

# Those that start no Ray.
test-fast: $(BIN)/.installed-test
	$(TESTS) $(FAST) -m "not ray" $(PYTEST)

newest-torch:
	PYTHON=$(PYTHON) .ci/newest-torch

# Apps of Flower, in an environment of their own.
flower:
	PYTHON=$(PYTHON) .ci/flower

lint: $(BIN)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site of the documentation, into build/site; a warning is an error.
docs: $(BIN)/.installed-docs
	$(BIN)/mkdocs build --quiet

format: $(BIN)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(BIN)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(BIN)/.installed-test: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,llm,dp,secagg,he,tensorboard,mlflow,wandb,onnx]'
	touch $@

$(BIN)/.installed-docs: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,llm,dp,secagg,he,tensorboard,mlflow,wandb,onnx,dev]'
	touch $@
