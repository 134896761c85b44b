# bmp: everything a newcomer types. `make run` and `make test` need Python 3.11 to 3.13 and nothing else.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test lint bench tools soak protos serve notebook clean

help:
	@echo "make run     train, compress, publish and serve a digit classifier, then ask it once"
	@echo "make test    run every test"
	@echo "make lint    style, types and the laws of the house"
	@echo "make bench   measure the whole run, the input pipeline, training, compression, the registry, and serving against its peers (needs wrk, h2load)"
	@echo "make tools   install the Debian packages of make soak and of a few tests, as root"
	@echo "make soak    try to spoil runs, the registry and the server for over an hour: kills, full disks, flipped bits, hostile files (SOAK_SCALE=0.1: short)"
	@echo "make protos  compile the messages of the gRPC doors again, after a change of theirs"
	@echo "make serve   serve every published model on port 5000"
	@echo "make clean   remove the environment and everything that was made"

# Installs again when a list of packages changes.
$(VENV)/.installed: requirements.txt requirements-serving.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	    f"bmp needs Python 3.11 to 3.13, $(PYTHON) is {v[0]}.{v[1]}; name another with make PYTHON=python3.12")'
	@echo "installing into $(VENV): a few minutes the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

run: $(VENV)/.installed
	$(BIN)/python train.py
	$(BIN)/bmp try

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed
	@for tool in wrk:wrk h2load:nghttp2-client; do command -v $${tool%%:*} > /dev/null && continue; \
	    echo "make bench needs $${tool%%:*}, a load generator: apt-get install $${tool##*:}"; exit 1; done
	$(BIN)/python benchmarks/quickstart.py
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/compression.py
	$(BIN)/python benchmarks/registry.py

# Debian's packages that make soak needs, and a few tests: strace strikes at system calls, iproute2 makes two hosts,
# chromium opens the page that a server has for people, curl runs what it says there.
tools:
	@for tool in strace:strace ip:iproute2 chromium:chromium curl:curl; do \
	    command -v $${tool%%:*} > /dev/null && continue; \
	    test "$$(id -u)" = 0 || { echo "$${tool##*:} is missing: apt-get install $${tool##*:}"; exit 1; }; \
	    { apt-get update -qq && apt-get install -y -qq $${tool##*:}; } > /dev/null \
	        || { echo "$${tool##*:} is missing, and cannot be installed"; exit 1; }; \
	done

# What the gRPC doors know of their messages; done again when one of serving/grpc/protos was changed.
protos: $(VENV)/.installed
	$(BIN)/python -m grpc_tools.protoc --proto_path=serving/grpc/protos --include_imports \
	    --descriptor_set_out=serving/grpc/protos/descriptors.binpb serving/grpc/protos/*.proto

soak: $(VENV)/.installed tools
	$(BIN)/python -m tests.soak

serve: $(VENV)/.installed
	$(BIN)/bmp serve

clean:
	rm -rf $(VENV) .venv-peers runs registry results build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -rf .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
