# Every target does its own set-up: a fresh clone needs Python 3.10-3.13 and a package registry, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

CONFIG ?= pipelines/synthetic.yaml

.PHONY: help demo movielens tokenize cpt finetune eval test test-slow smoke lint format docs clean

help:  ## this list
	@sed -nE 's/^([a-z-]+( [a-z-]+)*):.*## (.*)/\1\t\3/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r target text; do printf '  make %-26s %s\n' "$$target" "$$text"; done

demo: $(STAMP)  ## the whole pipeline on synthetic data
	$(BIN)/plum run --config pipelines/synthetic.yaml

movielens: $(STAMP)  ## the whole pipeline on MovieLens latest-small, fetched or taken from PLUM_DATA_HOME
	$(BIN)/plum data fetch ml-latest-small
	$(BIN)/plum run --config pipelines/ml-latest-small.yaml

tokenize cpt finetune eval: $(STAMP)  ## one stage of CONFIG=pipelines/X.yaml, after those that it lacks
	$(BIN)/plum $@ --config $(CONFIG)

# Two processes of one thread each; the tests of a module stay together, since they share what it sets up.
test: $(STAMP)  ## fast tests, offline
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadscope

test-slow: $(STAMP)  ## what takes longer: real runs, kill and resume, repeatability
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --numprocesses 2 --dist loadscope

smoke: $(STAMP)  ## the full pipeline on MovieLens 100K with a short budget, its outputs checked
	$(BIN)/plum data fetch ml-100k
	$(BIN)/plum run --config pipelines/smoke.yaml --force
	$(BIN)/python -m tests.check_run runs/smoke

lint: $(STAMP)  ## ruff, mypy, the layers of the package, docs/settings.md
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/scripts/settings.py --check

format: $(STAMP)  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)  ## the documentation as a site, in build/site (Python 3.11 or later)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-virtualenv -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove the environment, caches and runs; data stay
	rm -rf $(VENV) runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --require-virtualenv: never install into the system's Python by mistake.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info < (3, 14); sys.exit(0 if ok else "plum needs Python 3.10 to 3.13, found %d.%d; give PYTHON=python3.11" % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-virtualenv -c constraints.txt -e ".[dev]"
	touch $(STAMP)
