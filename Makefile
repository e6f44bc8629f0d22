# Two commands do everything on a fresh machine: `make demo` and `make test`. Both create and reuse .venv themselves.
.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin
# Without their own dependencies, which pin old versions of ours; the last four are what foolbox imports.
PEERS := torchattacks adversarial-robustness-toolbox foolbox eagerpy GitPython gitdb smmap
# RNNs run many times slower with two threads on two shared cores; tests run in two processes instead.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

.PHONY: help demo test test-all test-arithmetic check format types benchmark gpu gpu-kit docs docs-serve clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: pyproject.toml setup.py constraints.txt
	@echo "==> creating $(VENV) with $(PYTHON) and installing Carom (some minutes, about 6 GB: torch brings CUDA)"
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.ready
	@echo "==> adding what tests and checks need, among it the libraries Carom is compared with"
	$(RUN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(RUN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps $(PEERS)
	@touch $@

demo: $(VENV)/.ready  ## install if needed, then transfer in three modalities, offline, with a report
	@echo "==> carom demo"
	$(RUN)/carom demo

test: $(VENV)/.dev  ## install if needed, then the default tests
	@echo "==> pytest, two processes"
	$(TEST_ENV) $(RUN)/python -m pytest -n 2 -q -m "not slow and not network"

test-all: $(VENV)/.dev  ## the slow tests too
	$(TEST_ENV) $(RUN)/python -m pytest -n 2 -q -m "not network"

# Some minutes each: other kernels add up in another order, so that rows differ from batch to batch in other last digits.
ARITHMETICS := MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2
test-arithmetic: $(VENV)/.dev  ## that no result hangs on the batch, on other processors' arithmetic
	@set -e; for setting in $(ARITHMETICS); do \
		echo "==> $$setting"; \
		env $$setting $(TEST_ENV) $(RUN)/python -m pytest -n 2 -q tests/contracts -k "batch_size or last_digits" -m "not slow and not network"; \
	done

check: $(VENV)/.dev types  ## lint, format, type check, layers
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	MYPYPATH=.types $(RUN)/mypy -p carom
	$(RUN)/python -m pytest -q tests/contracts/test_layers.py

format: $(VENV)/.dev  ## put the code into the project's format
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

types:  ## the link tree in which type checkers and doctests see one package
	@rm -rf .types && mkdir -p .types/carom
	@for f in vision audio text common benchmarks; do ln -s ../../$$f .types/carom/$$f; done
	@for f in __init__.py __main__.py py.typed; do ln -s ../../common/_root/$$f .types/carom/$$f; done

benchmark: $(VENV)/.dev  ## speed of the attack loop against the bare loop
	OMP_NUM_THREADS=1 $(RUN)/python -m carom.benchmarks.speed.core

# The machine with the GPU may have no network and its own torch: the kit brings what it lacks, and nothing else is installed.
GPU_PYTHON := $(if $(wildcard $(RUN)/python),$(RUN)/python,$(PYTHON))
gpu:  ## on a machine with a GPU: what is fast there, and whether it agrees with the CPU; eight minutes at most
	@if ls .gpu-kit/wheels/*.whl >/dev/null 2>&1; then \
		$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --find-links .gpu-kit/wheels .gpu-kit/wheels/*.whl; fi
	@$(GPU_PYTHON) -c "import carom" 2>/dev/null || $(GPU_PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	$(GPU_PYTHON) -m carom.benchmarks.speed.gpu --json > gpu.json

gpu-kit: $(VENV)/.ready  ## for `make gpu` on a machine without a network: wheels, data and the CPU's cells, into .gpu-kit/
	$(RUN)/python -m carom.benchmarks.speed.gpu_kit

$(VENV)/.docs: $(VENV)/.ready
	@echo "==> adding what the site is built with"
	$(RUN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	@touch $@

docs: $(VENV)/.docs types  ## the site, into site/: open site/index.html
	$(RUN)/python -m mkdocs build --strict --quiet

docs-serve: $(VENV)/.docs types  ## the site at http://127.0.0.1:8000, built again whenever a page changes
	$(RUN)/python -m mkdocs serve --livereload

clean:  ## remove the environment and what runs left behind
	rm -rf $(VENV) .types .carom carom-demo site .pytest_cache .mypy_cache .ruff_cache
