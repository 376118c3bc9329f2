# Each target sets up .venv by itself; nothing else has to be installed but Python, git and make.
PYTHON ?= python3
BIN := .venv/bin
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"

.PHONY: demo test fuzz mutants lint types style bench peers docs dist licences publish

# Without --no-deps pip would want a hash of each package of CUDA too, also where it has no use.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
# Which PyTorch: `pypi` (CUDA on Linux), or a folder of its own index: cpu, cu130... By itself cpu, 4 GB
# less, where neither a GPU nor SLURM is, whose nodes may have one; pypi where that index is silent.
GPU := $(wildcard /dev/nvidia*)$(shell command -v nvidia-smi)$(shell command -v sbatch)
TORCH ?= $(if $(GPU)$(filter-out Linux,$(shell uname)),pypi,auto)
PYTORCH ?= https://download.pytorch.org/whl
LOCKED = $(shell sed -n 's/^\(torch\|torchvision\)==\([^ ]*\).*/\1==\2+$(1)/p' requirements.lock)

.venv/installed: requirements.lock requirements-cuda.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
ifeq ($(TORCH),auto)
	$(PIP) --retries 0 --index-url $(PYTORCH)/cpu $(call LOCKED,cpu) 2> /dev/null || \
		$(PIP) -r requirements-cuda.lock
else ifeq ($(TORCH),pypi)
	$(PIP) -r requirements-cuda.lock
else ifeq ($(TORCH),cpu)
	$(PIP) --index-url $(PYTORCH)/cpu $(call LOCKED,cpu)
else
	$(BIN)/python -m pip install --quiet --index-url $(PYTORCH)/$(TORCH) $(call LOCKED,$(TORCH))
endif
	$(PIP) -r requirements.lock
	$(PIP) --no-build-isolation --editable .
	touch $@

# anomalib and what it needs, beside the versions of the base.
peers: .venv/installed requirements-peers.lock
	$(PIP) -r requirements-peers.lock

# The site in site/; building it asks no server for anything.
docs: .venv/installed requirements-docs.lock
	$(PIP) -r requirements-docs.lock
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict
	@echo "The docs are in site/index.html; to search them: python -m http.server -d site"

demo: .venv/installed
	$(RUN) snakemake --cores all --configfile config/demo.yaml

lint: .venv/installed
	+$(MAKE) --no-print-directory --jobs=2 types style

types:
	$(BIN)/mypy

style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
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

# Makes the study of docs/results again, in hours, and what is published of it; git then shows what
# is to be committed.
PUBLISHED := config/studies/cpu.yaml
publish: peers
	$(RUN) snakemake --cores all --configfile $(PUBLISHED)
	$(RUN) aeflow pack cpu chest_xray recommended --half
	$(RUN) aeflow pack cpu magnetic_tile gaussian --half
	$(RUN) aeflow pack cpu mvtec_ad gaussian --category bottle --half
	$(RUN) aeflow pack cpu mvtec_ad gaussian --category screw --half
	$(RUN) python scripts/track.py --configfile $(PUBLISHED)
	rm -rf published
	$(RUN) dvc push --remote published $$(git ls-files 'results/cpu/*.dvc')
	git add published

# Wheel and sdist in dist/, of the version that the last tag names, and what is in the lock (SBOM).
dist: .venv/installed
	$(BIN)/python -m hatchling build --directory dist
	$(BIN)/uv export --frozen --quiet --all-extras --format cyclonedx1.5 \
		--preview-features sbom-export --output-file dist/aeflow.cdx.json

# Writes docs/licences.md, of an environment with all that uv.lock has for this system.
licences: .venv/installed
	UV_PROJECT_ENVIRONMENT=.venv-licences $(BIN)/uv sync --frozen --quiet --all-extras --no-install-project
	printf '# Licences of what uv.lock names\n\n%s\n\n' "By \`make licences\`, on Linux: as the \
	metadata of the packages say. What follows: [third_party.md](third_party.md)." > docs/licences.md
	$(BIN)/uvx --from pip-licenses==5.5.5 pip-licenses --python .venv-licences/bin/python \
		--format=markdown --with-system | sed 's/  */ /g; s/----*/---/g' >> docs/licences.md
	rm -r .venv-licences
