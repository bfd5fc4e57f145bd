#!/bin/sh
# All static checks, offline. Every checker runs even if one before it fails, so one run shows everything.
set -u
rc=0
run() { echo "== $*"; "$@" || rc=1; }
run ruff check .
run ruff format --check .
run mypy plugins/module_utils plugins/plugin_utils plugins/modules plugins/action plugins/callback plugins/filter
run mypy service/faultline_service
run mypy lab
run mypy tests/utils tests/fault_tolerance
run env MYPYPATH=service mypy tests/gpu/faultline_gpu
run yamllint -s .
run ansible-lint --offline -q
run shellcheck hack/*.sh tests/gpu/run.sh .ci/run shim/gen.sh shim/tests/*.sh service/faultline-shim roles/lab_cluster/files/build.sh
exit $rc
