#!/bin/sh
# Make the virtual environment $1 with the packages of $2, and put this collection on its Ansible path.
# Debian and Ubuntu split venv out of python3: installed here when it is missing.
set -eu
venv=$1 wanted=$2
if ! python3 -c 'import ensurepip' 2>/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
fi
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
echo "Installing $wanted into $venv (minutes on the first run)" >&2
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
# The PyPI package `ansible` keeps its collections in site-packages; ours joins them as a link to this tree.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$site/ansible_collections/faultline"
ln -sfn "$(pwd)" "$site/ansible_collections/faultline/gpu"
