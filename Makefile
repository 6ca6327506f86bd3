# make demo: compare agents on the embedded graph.   make test: lint, types and tests.
# make docs: the site, in build/site.   make audit: known vulnerabilities of what is installed.
# Each sets up everything first, in .venv, from nothing but Python and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

DATASET ?= emoji
AGENTS ?= none,smooth,all,random,fixed,relation,oracle,reinforce,a2c,ppo
SEEDS ?= 3
EPOCHS ?= 12
OUT ?= runs/demo
PACKAGES := agents dsom_env graphs students teachers
COVERAGE := $(foreach package,$(PACKAGES),--cov=$(package))

.PHONY: demo test lint type bench docs audit setup setup-test setup-docs clean help

help:
	@grep -E '^# ' Makefile

$(VENV)/setup.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints.txt setuptools wheel torch
	$(PIP) install -c constraints.txt --no-build-isolation -e .
	touch $@

$(VENV)/setup-test.stamp: $(VENV)/setup.stamp
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[test]'
	touch $@

$(VENV)/setup-docs.stamp: $(VENV)/setup.stamp
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[docs]'
	touch $@

setup: $(VENV)/setup.stamp
setup-test: $(VENV)/setup-test.stamp
setup-docs: $(VENV)/setup-docs.stamp

demo: setup
	$(BIN)/python scripts/compare.py --dataset $(DATASET) --agents $(AGENTS) --seeds $(SEEDS) \
	  --epochs $(EPOCHS) --out $(OUT)

lint: setup-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: setup-test
	$(BIN)/mypy

test: lint type
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(COVERAGE) --cov-fail-under=90 -q

# For the sections that need a graph: make bench BENCH='--graph ../shared/data/MKG-W'
bench: setup-test
	OMP_NUM_THREADS=1 $(BIN)/python scripts/bench.py $(BENCH) --out runs/bench.json

# With the tutorial executed; a smaller one: make docs TUTORIAL='epochs = 1; seeds = (0,)'
docs: setup-docs
	TUTORIAL="$(TUTORIAL)" $(BIN)/mkdocs build --strict

# Dependencies of dependencies included. Asks pypi.org for advisories, and fails where it cannot.
audit: setup-test setup-docs
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[audit]'
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[^ ]*$$//' > $(VENV)/installed.txt
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r $(VENV)/installed.txt

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
