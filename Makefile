# `make train` and `make test` set everything up first, on a machine with Python 3.10 to 3.13 and make.
VENV := .venv
BIN := $(VENV)/bin
# The interpreter of .venv, once there is one: another is taken only if it is asked for.
PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
BENCHMARK ?= solver update
INSTALLED := $(VENV)/installed

# metaworld 3.1.1 is for these versions. Without the check, pip would say so after minutes.
SUPPORTED = import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 14) else "Python 3.10 to 3.13 is needed, found %d.%d: set PYTHON=python3.x" % sys.version_info[:2])
# The same for an interpreter and for the environments that it makes.
IDENTITY = import sys; print(sys.version, sys.base_prefix)

.PHONY: setup train test quick torture bench lint format clean

setup:
	@$(PYTHON) -c '$(SUPPORTED)'
	@test "$$($(BIN)/python -c '$(IDENTITY)' 2>&1)" = "$$($(PYTHON) -c '$(IDENTITY)')" || $(PYTHON) -m venv --clear $(VENV)
	@$(MAKE) --no-print-directory $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

train: setup
	$(BIN)/python scripts/train.py mt10-quickstart $(ARGS) || test $$? -eq 130  # Ctrl-C is no error

test: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(ARGS)

quick: setup
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not process and not slow and not long" $(ARGS)

torture: setup
	$(BIN)/python -m pytest -m long tests/torture $(ARGS)

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
