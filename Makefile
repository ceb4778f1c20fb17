# Every target makes what it needs, .venv included. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# Both kinds of tests wait for a good part of their time; so many keep two processors busy.
WORKERS ?= 4
HOSTS ?= 3
IMPORT_CACHE ?= .import_linter_cache
SCHEMAS := environment environmentclass host

# A .venv that was moved, or whose Python is gone, is made again.
$(shell [ ! -e .venv ] || scripts/venv check >&2)

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; \
	    do printf '  make %-18s %s\n' "$$name" "$$what"; done

# --- the two commands of the README ---

.PHONY: quickstart
quickstart: .venv/.compiled ## prepare this machine, give three people an environment, prove the logins (root)
	@$(BIN)/python -m examples.quickstart.quickstart

.PHONY: quickstart-clean
quickstart-clean: .venv/.compiled ## remove all that quickstart made, and nothing else (root)
	@$(BIN)/python -m examples.quickstart.quickstart --clean
	@scripts/venv remove

.PHONY: test
test: .venv/.dev .venv/.compiled ## all tests; those on real hosts need root on Linux
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not e2e and not vm"
	$(PYTEST) -n $(HOSTS) --dist loadfile --no-loadscope-reorder --durations 25 -m "e2e and not soak"

# --- while developing ---

.PHONY: test-unit
test-unit: .venv/.dev .venv/.compiled ## the fast half: unit, property and simulated conformance tests
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not e2e and not vm"

.PHONY: test-e2e
test-e2e: .venv/.dev .venv/.compiled ## the half that runs on real, disposable hosts
	$(PYTEST) -n $(HOSTS) --dist loadfile --no-loadscope-reorder --durations 25 -m "e2e and not soak"

.PHONY: test-vm
test-vm: .venv/.dev .venv/.compiled ## ZFS, AppArmor and cgroup v2 in a true virtual machine (QEMU; root, a quarter of an hour)
	$(PYTEST) -m vm --durations 10 -s tests/vm

.PHONY: soak
soak: .venv/.dev .venv/.compiled ## property tests with many more examples, and more kills and clouds on real hosts
	CONTAINARIUM_SOAK=1 $(PYTEST) -n $(WORKERS) --timeout 7200 tests/property
	CONTAINARIUM_SOAK=1 $(PYTEST) --timeout 1200 tests/e2e -m soak
	CONTAINARIUM_SOAK=1 $(PYTEST) --timeout 1200 tests/e2e -k "killed_controllers or killed_at_random or notice"

.PHONY: lint
lint: .venv/.dev ## ruff, mypy --strict, the import layers, and whether schemas/ is up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy controller/containarium tests examples
	$(BIN)/lint-imports --no-logo --cache-dir $(IMPORT_CACHE)
	@for kind in $(SCHEMAS); do $(BIN)/containarium schema $$kind | cmp --quiet - schemas/$$kind.schema.json || \
	    { echo "schemas/$$kind.schema.json is stale: run 'make schema'" >&2; exit 1; }; done
	@scripts/protos check

.PHONY: format
format: .venv/.dev ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: schema
schema: .venv/.dev ## write schemas/ anew from the models
	@mkdir -p schemas
	@for kind in $(SCHEMAS); do $(BIN)/containarium schema $$kind > schemas/$$kind.schema.json; done

.PHONY: protos
protos: .venv/.dev ## make the messages of controller/containarium/api/v1 anew from schemas/containarium/v1
	@scripts/protos write

.PHONY: alerts
alerts: .venv/.dev ## play the alert rules and check the dashboard with promtool, which apt fetches where it is missing
	$(PYTEST) tests/unit/examples/test_prometheus.py

.PHONY: bench
bench: .venv/.dev .venv/.compiled ## the figures of tests/bench/RESULTS.md (root); PARTS="..." for some, HERE=1 for those of this host
	$(BIN)/python -m tests.bench $(if $(HERE),--here $(HERE_OPTIONS)) $(PARTS)

.PHONY: clean
clean: ## remove .venv, caches and build results; the machine stays as it is
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find controller tests examples -name __pycache__ -type d -prune -exec rm -rf {} +

# --- what they need ---

.venv/.runtime: pyproject.toml scripts/venv
	@scripts/venv runtime

.venv/.dev: pyproject.toml scripts/venv
	@scripts/venv dev

# Python does not always write byte code itself, and without it the command starts slowly.
.venv/.compiled: .venv/.runtime $(shell find controller -name '*.py' 2>/dev/null)
	@$(BIN)/python -m compileall -q controller
	@touch $@
