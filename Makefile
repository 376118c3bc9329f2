# Each target sets up .venv by itself; nothing else has to be installed but Python, git and make.
PYTHON ?= python3
BIN := .venv/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: demo test fuzz mutants lint bench peers docs

.venv/installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# anomalib and what it needs, beside the versions of the base.
peers: .venv/installed requirements-peers.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-peers.lock -c requirements.lock

# The site in site/; building it asks no server for anything.
docs: .venv/installed requirements-docs.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-r requirements-docs.lock -c requirements.lock
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict
	@echo "The docs are in site/index.html; to search them: python -m http.server -d site"

demo: .venv/installed
	$(RUN) snakemake --cores all --configfile config/demo.yaml

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(RUN) snakemake --lint --configfile config/demo.yaml

test: lint
	$(RUN) $(BIN)/pytest --numprocesses 2 --dist worksteal

# The properties of tests/fuzz, which `make test` tries a little, on FACTOR times as many inputs: 20
# takes minutes (10,000 configurations, 200 servers, ...), 1000 a night.
FACTOR ?= 20
fuzz: .venv/installed
	AEFLOW_FUZZ=$(FACTOR) $(RUN) $(BIN)/pytest tests/fuzz --numprocesses 2 --dist worksteal

# Breaks the code in one place after the other; each must turn a test red. Writes docs/mutants.md.
mutants: .venv/installed
	$(RUN) python tests/mutants.py

bench: .venv/installed
	$(RUN) python benchmarks/run.py
