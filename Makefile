# Every command sets up what it needs. PYTHON=python3.12 make verify chooses another interpreter.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: verify test test-all shell lint types docs notebooks clean

verify: .venv/.run-ready
	$(BIN)/backproof verify

test: .venv/.dev-ready
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

# With the campaigns and every row of the sweeps, too.
test-all: .venv/.dev-ready
	$(BIN)/python -m pytest --all --numprocesses auto --dist loadfile

# A shell in which `backproof` and `python` are those of .venv; `exit` leaves it.
shell: .venv/.run-ready
	@. $(BIN)/activate && exec "$${SHELL:-/bin/sh}"

lint: .venv/.dev-ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev-ready
	$(BIN)/pyright

docs: .venv/.docs-ready
	rm -rf build/site
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d build/doctrees --fresh-env . build/site
	@echo "The site is in build/site: open build/site/index.html."

notebooks: .venv/.notebooks-ready
	$(BIN)/python -m notebooks

clean:
	rm -rf .venv dist build .pytest_cache .ruff_cache .hypothesis

.venv/.run-ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.venv/.dev-ready: .venv/.run-ready
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv/.docs-ready .venv/.notebooks-ready: .venv/.%-ready: .venv/.run-ready
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
