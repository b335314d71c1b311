# One command for each thing one does here. Python >= 3.11 with venv, and make, are all a machine needs.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=

# A set-up is done once for each content of a lock file and of pyproject.toml: the stamp carries their checksum.
stamp = $(VENV)/.$(1)-$(shell cat locks/$(1).txt pyproject.toml | cksum | cut -d' ' -f1)
USE := $(call stamp,demo)
DEV := $(call stamp,dev)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow check format bench proto lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(USE) ## only the set-up: .venv with penstock in it

demo: $(USE) ## train, serve and predict on real data (ARGS=--once ends by itself)
	@$(BIN)/penstock demo $(ARGS)

test: $(DEV) ## the whole fast test suite
	$(BIN)/python -m pytest $(ARGS)

test-slow: $(DEV) ## also the tests that take minutes
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

check: $(DEV) ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV) ## write the format and the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV) ## the benchmark report
	$(BIN)/python -m loadtests.bench $(ARGS)

proto: $(DEV) ## write src/penstock/proto from proto/, with a descriptor pool of its own (see pool.py there)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PROTOC) --python_out=src --pyi_out=src proto/penstock/proto/*.proto
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PROTOC) --grpc_python_out=src --mypy_grpc_out=quiet:src proto/penstock/proto/grpc_service.proto
	sed -i -e 's/^from google.protobuf import descriptor_pool.*/from penstock.proto.pool import POOL/' \
		-e 's/_descriptor_pool.Default()/POOL/' src/penstock/proto/*_pb2.py

PROTOC := $(BIN)/python -m grpc_tools.protoc -I proto

lock: $(VENV)/bin/python ## renew locks/ from pyproject.toml; the pins of the smaller sets are those of the whole one
	$(PIP) install --quiet uv
	$(call compile,--extra demo --group dev,dev)
	$(call compile,--extra demo --group build -c locks/dev.txt,demo)
	$(call compile,--group build -c locks/dev.txt,run)

compile = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes \
	--no-annotate --custom-compile-command "make lock" pyproject.toml $(1) -o locks/$(2).txt

clean: ## take everything away that was made here
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "penstock needs Python 3.11 or newer with venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(USE) $(DEV): $(VENV)/.%: | $(BIN)/python
	@echo "setting up $(VENV) from locks/$(firstword $(subst -, ,$*)).txt"
	@$(PIP) install --quiet --require-hashes --only-binary :all: -r locks/$(firstword $(subst -, ,$*)).txt
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
