# `make demo` and `make test` need python3 (with venv), make and git; they fetch the rest by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
DEV := $(VENV)/.ready-dev

.PHONY: demo demo-once run test chaos bench check format lock clean

demo: $(STAMP)
	@$(BIN)/broadcaster demo

demo-once: $(STAMP)
	@$(BIN)/broadcaster demo --once

run: $(STAMP)
	@$(BIN)/broadcaster up

test: $(DEV)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

# Everything is killed and lied to, then three books are compared. SEED, DB=sqlite|postgres, DELIVERIES, SECONDS and
# KEEP_PROVIDERS_WELL=1 choose; see tests/chaos.
chaos: $(DEV)
	@$(BIN)/python -m tests.chaos

# How fast it is, beside the machine's limit and a plain Celery task per person: some 25 minutes, QUICK=1 two. ONLY=push,sms,…
# chooses parts, COUNT the people of the whole-service run; see tests/bench.
bench: $(DEV)
	@$(BIN)/python -m tests.bench

check: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	@echo "Making a virtual environment …"
	@$(PYTHON) -m venv $(VENV)

$(STAMP): requirements.lock broadcaster/console/package-lock.json | $(VENV)/bin/python
	@echo "Installing what it needs (pinned, hashes checked) …"
	@[ -e $(DEV) ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m broadcaster.console.assets
	@touch $@

$(DEV): requirements-dev.lock $(STAMP) | $(VENV)/bin/python
	@echo "Installing what the tests need …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

# Needs uv; hosts stay out of the files.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q pyproject.toml --extra build -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q pyproject.toml --extra build --extra dev -o requirements-dev.lock

clean:
	rm -rf $(VENV) .broadcaster broadcaster/console/static/vendor
