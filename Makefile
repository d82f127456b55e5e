# The whole interface of the repository, at home and in CI. `make` alone lists the verbs.
#
#   make lab TORCH=cpu               torch from PyTorch's own index of CPU builds (no CUDA: 4 GB less)
#   make lab TORCH="torch==2.13.0"   any pip requirement that names another build
#   make lab PYTHON=python3.12       another interpreter, 3.11 or newer
#   make lab LAB_ARGS="--no-browser --port=8890"
#
# An environment remembers its TORCH; another one builds it anew.
PYTHON   ?= python3
VENV     ?= .venv
LAB_ARGS ?=

READY      := $(VENV)/.ready
BUILT_WITH := $(shell cat $(READY) 2>/dev/null)
TORCH      ?= $(BUILT_WITH)
BIN        := $(VENV)/bin
PIP        := $(BIN)/python -m pip --disable-pip-version-check
TORCH_FROM := $(if $(filter cpu,$(TORCH)),torch --index-url https://download.pytorch.org/whl/cpu,"$(TORCH)")
NBVAL      := --nbval-lax --nbval-current-env --nbval-cell-timeout=600
NOTEBOOKS  := $(wildcard notebooks)

# OpenMP threads that wait by spinning slow a second process on the same cores a hundredfold; threads that
# sleep at once make small tensors five times slower. So: spin for some microseconds, then sleep.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 10000
# pip asks nobody anything: CI has nobody to answer.
export PIP_NO_INPUT := 1

.PHONY: help env lab demo test fast notebooks lint bench wheel FORCE
.DEFAULT_GOAL := help

help:  ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

env: $(READY)  ## build the environment in .venv; costs nothing when it stands

lab: env  ## the environment, then JupyterLab on the first notebook
	$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb $(LAB_ARGS)

demo: env  ## the first notebook's job without a browser: a picture and a table in out/demo
	$(BIN)/latentlab demo --out out/demo

# One process, so that one closing line counts everything and any failure fails; serial, because
# on two cores parallel kernels gain nothing and nbval cells must run in order.
test: env  ## all that CI runs: the tests, then every notebook
	$(BIN)/pytest tests latentlab $(NOTEBOOKS) $(NBVAL)

fast: env  ## the tests alone, without the slow ones
	$(BIN)/pytest -m "not slow"

notebooks: env  ## every notebook, top to bottom
	$(BIN)/pytest $(NBVAL) notebooks

lint: env  ## ruff over package, tests and notebooks
	$(BIN)/ruff check latentlab tests $(NOTEBOOKS)

bench: env  ## speed, samples and inversions in numbers, in out/benchmark
	$(BIN)/latentlab benchmark

wheel: env  ## a wheel with the shipped weights, in dist/
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .

# Another TORCH than the one that stands: start over, for pip would call the old one good enough.
ifneq ($(TORCH),$(BUILT_WITH))
$(READY): FORCE
CLEAR := $(if $(wildcard $(VENV)/pyvenv.cfg),--clear)
endif

# `labextension` switches off JupyterLab's question about news and its look for updates: no network.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 11) or sys.exit(\
	  "latentlab needs Python 3.11 or newer, and $(PYTHON) is " + v + ". Name another: make env PYTHON=python3.12")'
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	$(if $(TORCH),$(PIP) install $(TORCH_FROM))
	$(PIP) install -e ".[dev]"
	@$(BIN)/jupyter labextension disable "@jupyterlab/apputils-extension:announcements" 2>/dev/null
	@echo '$(TORCH)' > $@
