# Each target does all of its own set-up.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: test check clean

test: .venv/installed
	$(BIN)/python -m pytest --cov=dlkd --cov-report=term:skip-covered

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv runs
