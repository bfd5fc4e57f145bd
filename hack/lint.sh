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
# Workflows; built from its module where there is a go: on the path, or the one that the lab brought.
PATH=$PATH:/var/cache/faultline/go/bin
if command -v go >/dev/null; then
    run go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
else
    echo "== actionlint: left out, there is no go (make lab-up brings one)"
fi
exit $rc
