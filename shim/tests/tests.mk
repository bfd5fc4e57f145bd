# SPDX-License-Identifier: Apache-2.0
# What needs more than a compiler: tests and measurements, none of which needs a GPU.
.PHONY: test test-builds packages bench

DRIVER := ../lab/driver
PYTHON ?= $(if $(wildcard ../.venv/bin/pytest),../.venv/bin/python,python3)

packages:
	@tests/install_packages.sh

# The library and the driver's stand-in for every machine that can be built for here.
test-builds: all packages
	@$(MAKE) -s -C $(DRIVER)
	@if command -v aarch64-linux-gnu-gcc > /dev/null; then \
	  $(MAKE) -s CC=aarch64-linux-gnu-gcc BUILD=build/aarch64 all && \
	  $(MAKE) -s -C $(DRIVER) CC=aarch64-linux-gnu-gcc BUILD=build/aarch64; fi
	@if command -v musl-gcc > /dev/null; then \
	  $(MAKE) -s -C $(DRIVER) CC=musl-gcc BUILD=build/musl; fi

test: test-builds
	$(PYTHON) -m pytest -q tests $(ARGS)

bench: all
	@tests/bench.sh
