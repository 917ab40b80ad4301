# These need Python ≥ 3.11 and make; scripts/setup installs the rest.

VENV := .venv
PYTHON_HERE := $(VENV)/bin/python
READY := $(VENV)/ready
PROMETHEUS := $(CURDIR)/$(VENV)/prometheus
BENCHES := $(patsubst bench/%.py,%,$(shell grep -l __main__ bench/*.py 2>/dev/null))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-long check bench update clean

help:
	@echo 'make demo      plant copies among sample photos, find them through a real Kafka, and score it'
	@echo 'make test      make check, then the tests, on a real Kafka'
	@echo 'make test-long three brokers with ACLs, every right taken away once, and 20 minutes of kills'
	@echo 'make check     ruff, mypy, and deptry: every import is declared'
	@echo 'make bench     every number of the README and of docs/'
	@echo 'make update    renew requirements.lock: the newest versions that pyproject.toml allows'
	@echo 'make clean     remove the environment and all outputs'

demo: $(READY)
	@$(VENV)/bin/imagetools demo

# pytest comes last, so that its summary is the last line
test: check
	@scripts/test

# Prometheus, where it is not installed, is built with Go. One process: the long run needs the machine for itself.
test-long: $(VENV)/ready-for-test
	@command -v prometheus >/dev/null || [ -x $(PROMETHEUS)/prometheus ] || ! command -v go >/dev/null \
		|| scripts/prometheus $(PROMETHEUS)
	@PATH="$$PATH:$(PROMETHEUS)" $(PYTHON_HERE) -m pytest tests/project/test_monitoring.py
	@PATH="$$PATH:$(PROMETHEUS)" $(PYTHON_HERE) -m pytest -m long

check: $(VENV)/ready-for-test
	@$(PYTHON_HERE) -m ruff check .
	@$(PYTHON_HERE) -m ruff format --check .
	@$(PYTHON_HERE) -m mypy
	@$(PYTHON_HERE) -m deptry .

bench: $(VENV)/ready-for-bench
	@set -e; for bench in $(BENCHES); do echo "== bench.$$bench"; $(PYTHON_HERE) -m bench.$$bench; done

# one file for all platforms and for Python from 3.11 on, without the address of an index
update: $(VENV)/ready-for-test
	@$(VENV)/bin/uv pip compile --universal --python-version 3.11 --all-extras --upgrade --no-annotate \
		--custom-compile-command 'make update' --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) demo report build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/out
	find . -name __pycache__ -prune -exec rm -rf {} +

# the environment follows pyproject.toml and requirements.lock; the demo needs no test tools and no browser
$(READY): pyproject.toml requirements.lock scripts/setup
	@scripts/setup
	@touch $@

$(VENV)/ready-for-test: pyproject.toml requirements.lock scripts/setup
	@scripts/setup test
	@touch $(READY) $@

$(VENV)/ready-for-bench: pyproject.toml requirements.lock scripts/setup
	@scripts/setup test,bench
	@touch $(READY) $@
