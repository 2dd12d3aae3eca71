# Every target makes the virtual environment it needs, $(VENV), from a fresh
# clone, and renews it when setup.py or the pinned versions change.
#
#   make quickstart         REALM end to end, small, on the embedded corpus
#   make quickstart-seeds   the same with three seeds and intervals
#   make test               what CI runs; installs TensorFlow, seqio, spaCy, ScaNN
#   make test-long          the rest: kills by the dozen, two processes
#   make test-fast          the tests that need none of them and are quick
#   make lint               ruff and mypy
#   make constraints        pin anew what `make test` installs
#   make clean              remove the virtual environment and the caches
#
# PYTHON chooses the interpreter, 3.11 to 3.13: make test PYTHON=python3.12

ifeq ($(origin PYTHON),undefined)
  PYTHON := $(firstword $(foreach name,python3.11 python3.12 python3.13,\
    $(shell $(name) -c 'print("$(name)")' 2>/dev/null)) python3)
endif
# pyenv's python3.12 runs only where its version is selected; others ignore it.
INTERPRETER := PYENV_VERSION=$(patsubst python%,%,$(notdir $(PYTHON))) $(PYTHON)
CONSTRAINTS := constraints/py$(shell $(INTERPRETER) -c \
  'import sys; print("%d%d" % sys.version_info[:2])').txt
ifeq ($(wildcard $(CONSTRAINTS)),)
  $(error PYTHON=$(PYTHON) does not run a Python from 3.11 to 3.13. Install \
    one and name it: make test PYTHON=/path/to/python3.11)
endif

# XLA's CPU buffers are allocated anew in every step. Huge pages make that cheap, a third
# less time a step; memory that is kept makes it free, another fifth. glibc reads this
# when a process starts. Threads have heaps of 64 MiB, hence one heap for all.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:$\
  glibc.malloc.mmap_threshold=$(KEPT_BYTES):$\
  glibc.malloc.trim_threshold=$(KEPT_BYTES)
KEPT_BYTES := 17179869184

VENV := .venv-$(notdir $(PYTHON))
INSTALL = $(VENV)/bin/python -m pip install --quiet \
  --disable-pip-version-check --constraint $(CONSTRAINTS)
# A worker a core; tests of one file share a worker, and so its fixtures. Files
# in the order of tests/conftest.py, where xdist would begin with those of most
# tests.
PYTEST_ARGS ?= -n auto --dist loadfile --no-loadscope-reorder

.PHONY: quickstart quickstart-seeds test test-long test-fast lint constraints \
  clean

quickstart: $(VENV)/.core
	$(VENV)/bin/realm-jax quickstart $(QUICKSTART_ARGS)

quickstart-seeds: $(VENV)/.core
	$(VENV)/bin/realm-jax quickstart --seeds 3 $(QUICKSTART_ARGS)

test: $(VENV)/.adapters
	$(VENV)/bin/python -m pytest -m 'not long' $(PYTEST_ARGS)

test-long: $(VENV)/.adapters
	$(VENV)/bin/python -m pytest -m long $(PYTEST_ARGS)

test-fast: $(VENV)/.core
	$(VENV)/bin/python -m pytest -m 'not slow and not long' $(PYTEST_ARGS)

lint: $(VENV)/.core
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

constraints:
	$(INTERPRETER) constraints/resolve.py

clean:
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache

# What is installed is told by the newest of these two files.
$(VENV)/.core: setup.py $(CONSTRAINTS)
	$(INTERPRETER) -m venv $(VENV)
	$(INSTALL) --editable '.[report,qa,baselines,dev]'
	touch $@

$(VENV)/.adapters: $(VENV)/.core
	$(INSTALL) --editable '.[data,ner,scann,report,qa,baselines,dev]'
	touch $@
