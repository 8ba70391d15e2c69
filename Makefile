# make demo   show the method working, on a small model made on the spot
# make test   style, types and all tests, with the framework generation G2
# make test-all   as CI: in G1 and G3 too, what depends on framework or transformers; in NEWEST, what on transformers

# G1, G2 and G3 are generations of the framework; NEWEST has the newest releases, for the plain trainer alone.
SHELL := bash -o pipefail
GENERATION ?= G2
EXTRAS := tools,$(if $(filter NEWEST,$(GENERATION)),test,framework,sweep,test)
PYTHON ?= $(shell for v in 3.11 3.12 3.13; do python$$v -c pass 2>/dev/null && echo python$$v && break; done)
VENV := .venv/$(GENERATION)
RUN := $(VENV)/bin/python -m
PIP := $(RUN) pip --disable-pip-version-check
# Of pip's long output: a dot per package, large downloads, and the step that unpacks all; errors stay as they are.
BRIEFLY := awk '/^Collecting/ {printf "."} \
	/^ *Downloading .*[MG]B\)/ {split($$2, of, "-"); print "\n  " of[1] " " of[2] " " $$(NF-1) " " $$NF} \
	/^Installing/ {print "\nInstalling them ..."} {fflush()}'
# A file is run by one worker, so that what its tests share is made once.
PYTEST := $(RUN) pytest -n 2 --dist loadfile --no-loadscope-reorder
TESTS ?= tests

export OMP_NUM_THREADS ?= 1
export BALDRO_GENERATION := $(GENERATION)

.PHONY: demo test test-all test-framework test-plain install clean

demo: install
	$(VENV)/bin/baldro demo demo

test: install
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(PYTEST) $(TESTS)

test-all: test
	$(MAKE) test-framework GENERATION=G1
	$(MAKE) test-framework GENERATION=G3
	$(MAKE) test-plain GENERATION=NEWEST

test-framework: install
	$(PYTEST) -m "framework or transformers" $(TESTS)

test-plain: install
	$(PYTEST) -m "transformers and not framework" $(TESTS)

install: $(VENV)/installed

# In two steps, because deepspeed's build looks at the installed torch.
$(VENV)/installed: pyproject.toml constraints/$(GENERATION).txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: install one, or set PYTHON=/path/to/it"; exit 1; }
	@echo "Installing into $(VENV), once: torch first, a minute or so, or five with CUDA"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --constraint constraints/$(GENERATION).txt torch setuptools wheel hatchling editables | $(BRIEFLY)
	@echo "Installing the rest, and this package: two minutes or so"
	@$(PIP) install --constraint constraints/$(GENERATION).txt --no-build-isolation --editable ".[$(EXTRAS)]" \
		| $(BRIEFLY)
	@touch $@

clean:
	rm -rf .venv demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
