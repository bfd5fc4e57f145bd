# SPDX-License-Identifier: Apache-2.0
# What needs more than a compiler: tests and measurements, none of which needs a GPU.
.PHONY: test test-builds packages bench coverage fuzz

DRIVER := ../lab/driver
PYTHON ?= $(if $(wildcard ../.venv/bin/pytest),../.venv/bin/python,python3)

# Whether a compiler is there, with a C library to build programs for; conftest.py asks the same.
builds = echo 'int main(void) { return 0; }' | $(1) -x c -o /dev/null - 2> /dev/null

packages:
	@tests/install_packages.sh
	@tests/old_userland.sh build/old

# The library and the driver's stand-in for every machine that can be built for here.
test-builds: all packages
	@$(MAKE) -s -C $(DRIVER)
	@if $(call builds,aarch64-linux-gnu-gcc); then \
	  $(MAKE) -s CC=aarch64-linux-gnu-gcc BUILD=build/aarch64 all && \
	  $(MAKE) -s -C $(DRIVER) CC=aarch64-linux-gnu-gcc BUILD=build/aarch64; fi
	@if $(call builds,build/old/bin/old-gcc); then \
	  $(MAKE) -s -C $(DRIVER) CC=$(CURDIR)/build/old/bin/old-gcc BUILD=build/old; fi
	@if $(call builds,musl-gcc); then \
	  $(MAKE) -s -C $(DRIVER) CC=musl-gcc BUILD=build/musl; fi

test: test-builds
	$(PYTHON) -m pytest -q tests $(ARGS)

coverage: test-builds
	$(PYTHON) -m pytest -q -rP tests/test_logic.py -k lines_of_ten

# Half of the time for the control page, half for names and texts; what is found is kept in
# build/fuzz. The whole test suite does it for seconds.
FUZZ_SECONDS ?= 600
fuzz: test-builds
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTHON) -m pytest -q -rP tests/test_fuzzing.py $(ARGS)

bench: all
	@tests/bench.sh
