# `make train` and `make test` set everything up first, on a machine with Python >= 3.10 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCHMARK ?= solver update
INSTALLED := $(VENV)/installed

.PHONY: setup train test quick bench lint format clean

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.10 is needed, found %d.%d: set PYTHON=python3.x" % sys.version_info[:2] if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

train: setup
	$(BIN)/python scripts/train.py mt10-quickstart $(ARGS) || test $$? -eq 130  # Ctrl-C is no error

test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

quick: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not process and not slow and not long" $(ARGS)

bench: setup
	@for name in $(BENCHMARK); do $(BIN)/python scripts/bench.py $$name $(ARGS) || exit; done

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
