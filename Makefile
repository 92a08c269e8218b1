# `make` lists what there is. Python 3.11 or later and make are all that must be installed.

VENV ?= .venv
PY = $(VENV)/bin/python
PIP_INSTALL = $(PY) -m pip install --quiet --disable-pip-version-check
.DEFAULT_GOAL := help
.PHONY: help install demo serve shell test test-slow check format bench chaos build clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(VENV)/.installed  ## Make .venv and install requirements.txt into it

demo: $(VENV)/.installed  ## Run thousands of real jobs through a worker, and check every count
	@$(PY) manage.py demo

serve: $(VENV)/.installed  ## Web server, worker and Redis in one terminal; Ctrl-C ends them
	@$(PY) manage.py serve

shell: $(VENV)/.installed  ## A Python shell with the stores of `make serve`
	@$(PY) manage.py shell

test: $(VENV)/.installed-dev  ## All tests, on SQLite and on PostgreSQL; ARGS="-k name" is passed to pytest
	@$(PY) -m tests.run $(ARGS)

test-slow: $(VENV)/.installed-dev  ## The tests that take minutes, with what they print; ARGS as for test
	@$(PY) -m tests.run --slow $(ARGS)

check: $(VENV)/.installed-dev  ## Style, format, types, migrations, layers
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy queue_app
	DJANGO_SETTINGS_MODULE=tests.settings $(PY) manage.py makemigrations --check --dry-run
	$(PY) -m pytest -q tests/architecture

format: $(VENV)/.installed-dev  ## Put the code into its format
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(VENV)/.installed-dev  ## Measure, and write bench/results.json
	@$(PY) -m bench $(ARGS)

chaos: $(VENV)/.installed-dev  ## Break everything at random for ten minutes, and count every job; ARGS="--seed 7"
	@$(PY) -m bench.chaos --seconds 600 $(ARGS)

build: $(VENV)/.installed-dev  ## Build the installable app into dist/
	@$(PY) -m build --no-isolation

clean:  ## Remove .venv, caches and builds; var/, with its data, stays
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps spare pip on later runs; they are renewed when the requirements change.

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	@echo "Installing requirements.txt into $(VENV) …"
	@$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt | $(VENV)/bin/python
	@echo "Installing requirements-dev.txt into $(VENV) …"
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $(VENV)/.installed $@

$(VENV)/bin/python:
	@order="python3.13 python3.12 python3.11 python3"; \
	for name in $(or $(PYTHON),$$order); do \
	    "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && found="$$name" && break; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "No Python of version 3.11 or later found: install one, or run make PYTHON=/path/to/python." >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version) …"; \
	"$$found" -m venv $(VENV) >/dev/null 2>&1 \
	    || { rm -rf $(VENV); "$$found" -m virtualenv --quiet $(VENV) 2>/dev/null; } \
	    || { rm -rf $(VENV); echo "$$found cannot make virtual environments: apt install python3-venv" \
	         "(elsewhere: $$found -m pip install virtualenv)." >&2; exit 1; }
