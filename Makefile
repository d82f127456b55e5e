# All commands of the repository, for users and for CI. `make` without a verb lists them.
#
#   make lab TORCH=cpu               torch from PyTorch's own index of CPU builds (no CUDA: 4 GB less)
#   make lab TORCH="torch==2.13.0"   any pip requirement that names another build
#   make lab PYTHON=python3.12       another interpreter, 3.11 or newer
#   make lab LAB_ARGS="--no-browser --port=8890"
#
# The environment in .venv keeps the TORCH that it was built with; a different TORCH rebuilds it.
PYTHON   ?= python3
VENV     ?= .venv
LAB_ARGS ?=

READY      := $(VENV)/.ready
BUILT_WITH := $(shell cat $(READY) 2>/dev/null)
TORCH      ?= $(BUILT_WITH)
BIN        := $(VENV)/bin
PIP        := $(BIN)/python -m pip --disable-pip-version-check
TORCH_FROM := $(if $(filter cpu,$(TORCH)),torch --index-url https://download.pytorch.org/whl/cpu,"$(TORCH)")
# Generous waits, for machines that are busy; conftest.py raises the one that has no option.
NBVAL      := --nbval-lax --nbval-current-env --nbval-cell-timeout=600 --nbval-kernel-startup-timeout=300
NOTEBOOKS  := $(wildcard notebooks)

# OpenMP threads that spin while they wait make a second process on the same cores a hundred times slower; threads
# that sleep immediately make operations on small tensors five times slower. So: spin for microseconds, then sleep.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 10000
# pip must not ask questions: in CI nobody can answer.
export PIP_NO_INPUT := 1

.PHONY: help env lab demo test fast notebooks lint bench wheel FORCE
.DEFAULT_GOAL := help

help:  ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

env: $(READY)  ## build the environment in .venv, unless it is up to date

lab: env  ## open JupyterLab on the first notebook
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_ARGS)

demo: env  ## the task of the first notebook without a browser: a picture and a table in out/demo
	$(BIN)/latentlab demo --out out/demo

# One process, so that one summary line counts everything; serial, because cells must run in order and
# parallel kernels are no faster on two cores.
test: env  ## everything that CI runs: the tests, then every notebook
	$(BIN)/pytest tests latentlab $(NOTEBOOKS) $(NBVAL)

fast: env  ## only the tests, without the slow ones
	$(BIN)/pytest -m "not slow"

notebooks: env  ## run every notebook from top to bottom
	$(BIN)/pytest $(NBVAL) notebooks

lint: env  ## check package, tests and notebooks with ruff
	$(BIN)/ruff check latentlab tests conftest.py $(NOTEBOOKS)

# `latentlab benchmark --check` compares the speed with its marks; no test does, since a busy machine misses them.
bench: env  ## measure speed, networks, samples and inversions, into out/benchmark
	$(BIN)/latentlab benchmark

wheel: env  ## build a wheel with the shipped weights in dist/
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .

# A different TORCH than the installed one: rebuild, because pip would keep the installed one.
ifneq ($(TORCH),$(BUILT_WITH))
$(READY): FORCE
CLEAR := $(if $(wildcard $(VENV)/pyvenv.cfg),--clear)
endif

# `labextension` turns off JupyterLab's news and update checks, which need the network.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 11) or sys.exit(\
	  "latentlab needs Python 3.11 or newer, and $(PYTHON) is " + v + ". Name another: make env PYTHON=python3.12")'
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	$(if $(TORCH),$(PIP) install $(TORCH_FROM))
	$(PIP) install -e ".[dev]"
	@$(BIN)/jupyter labextension disable "@jupyterlab/apputils-extension:announcements" 2>/dev/null
	@echo '$(TORCH)' > $@
