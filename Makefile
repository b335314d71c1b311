# One command for each thing one does here. Python >= 3.11 with venv, and make, are all a machine needs.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=

# The engine switches ONNX Runtime's reports to its maker off; tests and benchmarks import it also without the engine.
export ORT_DISABLE_TELEMETRY := 1

# Modules are compiled once and kept: not anew in each of the hundreds of processes that tests start.
unexport PYTHONDONTWRITEBYTECODE

# One lock file in three sections, [run], [demo] and [dev]: each adds to the one before. A set-up is done once for
# each content of the lock, of pyproject.toml and of the modules that are compiled: its stamp carries their checksum.
LOCK := requirements.lock
COMPILED := $(shell awk '/^compiled = \[/ {on = 1; next} /^\]/ {on = 0} on {gsub(/[", ]/, ""); gsub(/\./, "/"); print "src/" $$0 ".py"}' \
	pyproject.toml)
SUM := $(shell cat $(LOCK) pyproject.toml deploy/backend.py $(COMPILED) | cksum | cut -d' ' -f1)
RUNTIME := $(VENV)/demo-$(SUM)
DEV := $(VENV)/dev-$(SUM)

# The first demo does not wait for the compiler: a clone without compiled modules gets the plain form.
PLAIN_RUNTIME := $(VENV)/plain-$(SUM)
FOR_DEMO := $(or $(wildcard $(DEV)),$(if $(shell find src -name '*.so' -print -quit),$(RUNTIME),$(PLAIN_RUNTIME)))

.DEFAULT_GOAL := help
.PHONY: help install demo screenshots test test-again test-unit test-slow coverage mutation audit check docs format bench proto lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(RUNTIME) ## only the set-up: .venv with penstock in it, compiled

demo: $(FOR_DEMO) ## train, serve and predict on real data (ARGS=--once ends by itself)
	@$(BIN)/penstock demo $(ARGS)

# Tests wait for servers more than half of their time: six processes keep two cores busy. Each takes whole files, which
# share servers, the longest files first, and imports no others (tests/conftest.py, tests/scheduling.py,
# tests/lazy_collection.py). Unit tests wait for little: three.
# A process that crashes ends the run: xdist may wait for ever for the tests of one that it started again.
BY_FILE := --max-worker-restart 0 --dist loadfile --no-loadscope-reorder -o console_output_style=classic

test: $(DEV) ## the whole fast test suite
	$(BIN)/python -m pytest $(if $(ARGS),$(ARGS),--numprocesses 6 $(BY_FILE))

test-again: $(DEV) ## the few tests that failed in a whole run, alone
	$(BIN)/python -m tests.again

test-unit: $(DEV) ## the unit tests alone, without simulations and without those that start costly processes
	$(BIN)/python -m pytest --numprocesses 3 $(BY_FILE) -m "not slow and not simulation and not processes" tests/unit $(ARGS)

test-slow: $(DEV) ## also the tests that take minutes
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

# In a copy without compiled modules, which cannot be measured: PYTHONPATH comes before the editable install.
coverage: $(DEV) ## the branches that the unit tests of the most exacting packages reach
	rm -rf build/plain && mkdir -p build/plain build/coverage && cp -R src build/plain && find build/plain -name '*.so' -delete
	PYTHONPATH=build/plain/src $(BIN)/python -m pytest --numprocesses 2 $(BY_FILE) --cov --cov-report=term-missing:skip-covered \
		--cov-report=json:build/coverage/report.json $(MEASURED) $(ARGS)
	$(BIN)/python -m tests.branch_coverage build/coverage/report.json

MEASURED := $(addprefix tests/unit/,api/grpc control core serving)

mutation: $(DEV) ## changes of the core that no test notices, in the plain form (set up with PENSTOCK_PURE=1)
	$(PLAIN)
	rm -rf mutants
	PATH="$(CURDIR)/$(BIN):$$PATH" timeout --kill-after=60 $(MUTATION_SECONDS) $(BIN)/mutmut run $(ARGS)
	@mkdir -p build
	bash -o pipefail -c '$(BIN)/mutmut results --all true | $(BIN)/python -m tests.survivors | tee build/mutants.txt'

MUTATION_SECONDS := 10800

define PLAIN
@! find src -name '*.so' | grep -q . || { echo "compiled modules are neither measured nor changed; run: make clean, then PENSTOCK_PURE=1 make $@" >&2; exit 1; }
endef

audit: $(DEV) ## known vulnerabilities, in the locked versions and in the lowest that pyproject.toml allows
	$(BIN)/pip-audit --strict --disable-pip --require-hashes -r $(LOCK)
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --only-binary :all: --all-extras pyproject.toml -o $(VENV)/lowest.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps -r $(VENV)/lowest.txt

check: docs $(DEV) ## format, lint, types, import contracts, documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	git ls-files -z | xargs -0 $(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint --no-color Dockerfile

docs: $(DEV) ## the documents as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file .mkdocs.yml

format: $(DEV) ## write the format and the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

screenshots: $(DEV) ## the pictures of the console in docs/images, from the demo's traffic
	$(BIN)/python -m tests.screenshots

bench: $(DEV) ## the benchmark report
	$(BIN)/python -m loadtests.bench $(ARGS)

proto: $(DEV) ## write src/penstock/proto from proto/, with a descriptor pool of its own (see pool.py there)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PROTOC) --python_out=src --pyi_out=src proto/penstock/proto/*.proto
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PROTOC) --grpc_python_out=src --mypy_grpc_out=quiet:src \
		$(addprefix proto/penstock/proto/,grpc_service.proto tensorflow_serving.proto)
	sed -i -e 's/^from google.protobuf import descriptor_pool.*/from penstock.proto.pool import POOL/' \
		-e 's/_descriptor_pool.Default()/POOL/' src/penstock/proto/*_pb2.py

PROTOC := $(BIN)/python -m grpc_tools.protoc -I proto

lock: $(BIN)/python ## fit requirements.lock to pyproject.toml (ARGS=--upgrade: newest of everything)
	$(PIP) install --quiet uv
	cp $(LOCK) $(VENV)/dev.txt
	$(COMPILE) $(ARGS) --all-extras --group dev -o $(VENV)/dev.txt
	$(COMPILE) --extra demo --group build -c $(VENV)/dev.txt -o $(VENV)/demo.txt
	$(COMPILE) --group build -c $(VENV)/dev.txt -o $(VENV)/run.txt
	{ echo "# Written by \`make lock\`: every pin with the hashes of its files. Each section adds to the one before."; \
		echo "# [run] what serving needs"; cat $(VENV)/run.txt; \
		echo "# [demo] what the demo adds"; $(call beyond,run,demo); \
		echo "# [dev] what checks, tests and benchmarks add"; $(call beyond,demo,dev); } > $(LOCK)
	$(COMPILE) $(EXTRAS) --group build -c $(VENV)/dev.txt -o $(VENV)/extras.txt
	{ echo "# Written by \`make lock\`: what the extras postgres, s3 and oidc add to the section [run] of requirements.lock."; \
		$(call beyond,run,extras); } > deploy/extras.lock
	cp deploy/sbom.lock $(VENV)/sbom.txt
	$(filter-out pyproject.toml,$(COMPILE)) $(ARGS) --group image -c $(VENV)/dev.txt -o $(VENV)/sbom.txt
	{ echo "# Written by \`make lock\`: the tool that lists the packages of the image, with what it needs."; \
		cat $(VENV)/sbom.txt; } > deploy/sbom.lock

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes \
	--no-annotate --no-header pyproject.toml
EXTRAS := --extra postgres --extra s3 --extra oidc
beyond = awk 'NR == FNR { seen[$$0]; next } /^[^ ]/ { new = !($$0 in seen) } new' $(VENV)/$(1).txt $(VENV)/$(2).txt

clean: ## take everything away that was made here
	find src -name '*.so' -delete
	rm -rf $(VENV) build dist mutants src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "penstock needs Python 3.11 or newer with venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): | $(BIN)/python
	@sed '/^# \[dev\]/,$$d' $(LOCK) > $(VENV)/demo.txt
	$(call fill,demo)

$(PLAIN_RUNTIME): | $(BIN)/python
	@sed '/^# \[dev\]/,$$d' $(LOCK) > $(VENV)/demo.txt
	$(call fill,demo,PENSTOCK_PURE=1)

$(DEV): | $(BIN)/python
	@cp $(LOCK) $(VENV)/dev.txt
	$(call fill,dev)

define fill
@echo "setting up $(VENV) ..."
@$(PIP) install --quiet --require-hashes --only-binary :all: -r $(VENV)/$(1).txt
@$(2) $(PIP) install --quiet --no-deps --no-build-isolation --editable .
@$(BIN)/penstock version
@touch $@
endef
