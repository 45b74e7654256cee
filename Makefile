# Two commands for a newcomer, each doing all of its own set-up: `make quickstart` and `make test`.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: quickstart test coverage check site oldest release-check clean

quickstart: .venv/installed
	$(BIN)/dlkd quickstart --out runs/quickstart --overwrite

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

# The same, half as long again: which lines no test reaches.
coverage: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup --cov=dlkd --cov-report=term:skip-covered

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The docs as a site in site/. The variable silences a note of the theme's makers about their next generator.
site: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# With the oldest versions of everything. torch.compile of the losses needs a newer torch.
OLDEST := tests/losses tests/difficulty tests/methods tests/jobs/test_run.py --ignore tests/losses/test_compile.py \
	$(addprefix tests/train/test_,log.py checkpoint.py fit.py resume.py trackers.py)

oldest:
	.ci/oldest $(OLDEST)

# Wheel and sdist in an empty environment; tests/release does it faster, with the libraries that are here.
release-check: .venv/installed
	.ci/release-check

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv runs site
