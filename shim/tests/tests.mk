# SPDX-License-Identifier: Apache-2.0
# What needs more than a compiler: tests and measurements, none of which needs a GPU.
.PHONY: test test-builds packages bench coverage fuzz

DRIVER := ../lab/driver
PYTHON ?= $(if $(wildcard ../.venv/bin/pytest),../.venv/bin/python,python3)

# Whether a compiler is there, with a C library to build programs for; conftest.py asks the same.
builds = echo 'int main(void) { return 0; }' | $(1) -x c -o /dev/null - 2> /dev/null

packages:
	@tests/install_packages.sh

# The library and the driver's stand-in for every machine that can be built for here.
test-builds: all packages
	@$(MAKE) -s -C $(DRIVER)
	@if $(call builds,aarch64-linux-gnu-gcc); then \
	  $(MAKE) -s CC=aarch64-linux-gnu-gcc BUILD=build/aarch64 all && \
	  $(MAKE) -s -C $(DRIVER) CC=aarch64-linux-gnu-gcc BUILD=build/aarch64; fi
	@if $(call builds,musl-gcc); then \
	  $(MAKE) -s -C $(DRIVER) CC=musl-gcc BUILD=build/musl; fi

test: test-builds
	$(PYTHON) -m pytest -q tests $(ARGS)

coverage: test-builds
	$(PYTHON) -m pytest -q -rP tests/test_logic.py -k lines_of_ten

# A seed that finds something is printed; FAULTLINE_FUZZ_SEED=… begins with it.
fuzz: test-builds
	FAULTLINE_FUZZ_SECONDS=$(or $(SECONDS),300) $(PYTHON) -m pytest -q tests/test_logic.py -k "go_wrong and address" $(ARGS)

bench: all
	@tests/bench.sh
