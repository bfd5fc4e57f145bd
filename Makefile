# Two commands do everything: `make drill` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PY := $(VENV)/bin/python
DRILL_ARGS ?=
LAB_ARGS ?=
ARGS ?=

# A user's own cluster: with KUBECONFIG set, no target ever touches the lab.
LAB_KUBECONFIG := /var/lib/faultline-lab/lab/kubeconfig
ifdef KUBECONFIG
  DRILL_NEEDS :=
  INVENTORY ?= inventories/example
else
  DRILL_NEEDS := lab-up
  INVENTORY ?= inventories/lab
  export KUBECONFIG := $(LAB_KUBECONFIG)
endif
# The kubeconfig alone says which cluster: these would lead kubernetes.core to another one.
unexport $(filter K8S_AUTH_%,$(.VARIABLES))
export PATH := $(CURDIR)/$(VENV)/bin:/var/cache/faultline/bin:$(PATH)
PLAY := ansible-playbook -i $(INVENTORY)

.PHONY: help setup drill cleanup diagnose provision sweep test lint unit shim-test molecule lab-test e2e pytest lab-up lab-down lab-status clean clean-cache

help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: requirements.txt
	@hack/setup_venv.sh $(VENV) requirements.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt
	@hack/setup_venv.sh $(VENV) requirements-dev.txt
	@touch $@ $(VENV)/.run

setup: $(VENV)/.run ## Install what the playbooks need into .venv

drill: setup $(DRILL_NEEDS) ## Run the drill (on the lab, or where KUBECONFIG points); DRILL_ARGS goes to ansible-playbook
	@$(PLAY) playbooks/drill.yml $(DRILL_ARGS)

cleanup: setup ## Undo what an interrupted drill left behind
	@$(PLAY) playbooks/cleanup.yml $(DRILL_ARGS)

diagnose: setup ## Say what stands in a drill's way: DRILL_ARGS='-e drill_namespace=NAMESPACE'
	@$(PLAY) playbooks/diagnose.yml $(DRILL_ARGS)

provision: setup ## Bring the fault service to a cluster: DRILL_ARGS='-e fault_service_image=IMAGE'
	@$(PLAY) playbooks/provision.yml $(DRILL_ARGS)

sweep: setup ## Remove namespaces of drills whose time is over
	@$(PLAY) playbooks/sweep.yml $(DRILL_ARGS)

lab-up: setup ## Start the lab: a real Kubernetes cluster on this machine with stand-ins for GPUs
	@$(PLAY) playbooks/lab_up.yml $(LAB_ARGS)

lab-status: setup ## Say what of the lab is running
	@$(PLAY) playbooks/lab_status.yml $(LAB_ARGS)

lab-down: setup ## Stop the lab and leave nothing behind
	@$(PLAY) playbooks/lab_down.yml $(LAB_ARGS)

# The lab comes first: setting it up installs the compiler that later steps need.
test: $(VENV)/.dev lab-up lint unit shim-test molecule lab-test e2e ## Everything the gate runs

lint: $(VENV)/.dev ## ansible-lint (production), ruff, mypy, yamllint
	@hack/lint.sh

unit: $(VENV)/.dev ## Tests that need no cluster
	@pytest -q tests/unit $(ARGS)

shim-test: $(VENV)/.dev ## The shim's own tests, no GPU
	@$(MAKE) -C lab/driver
	@$(MAKE) -C shim test

molecule: $(VENV)/.dev ## The roles' molecule scenarios
	@molecule test --all

lab-test: $(VENV)/.dev lab-up ## Tests of the lab itself
	@pytest -q tests/lab $(ARGS)

e2e: $(VENV)/.dev lab-up ## Drills on the lab, whole and sabotaged; with LONG=1 through every door
	@pytest -q tests/e2e $(if $(LONG),,-m "not long") $(ARGS)

pytest: $(VENV)/.dev ## Run pytest with ARGS on this Python and kubeconfig
	@pytest $(ARGS)

clean: ## Remove what was built in the tree
	@rm -rf build results .pytest_cache .mypy_cache .ruff_cache .ansible
	@$(MAKE) -C shim clean
	@$(MAKE) -C lab/driver clean

clean-cache: ## Remove binaries and images built for the lab
	@rm -rf /var/cache/faultline
