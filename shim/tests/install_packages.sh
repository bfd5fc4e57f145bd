#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the missing packages of packages.txt where that can be done: Debian or Ubuntu, as root.
# Fails nothing: a test that misses its tool says so.
set -u
list=$(dirname "$0")/packages.txt
[ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || exit 0
installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2> /dev/null)" = "ii " ]; }
missing=""
while read -r line; do
    found=""
    for name in $(echo "${line%%#*}" | tr '|' ' '); do
        installed "$name" && found=$name
    done
    [ -n "$found" ] || [ -z "${line%%#*}" ] || missing="$missing $line"
done < "$list"
[ -n "$missing" ] || exit 0
echo "Installing for the shim's tests:$missing" >&2
apt-get update -qq || exit 0
for line in $missing; do
    for name in $(echo "$line" | tr '|' ' '); do
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$name" \
            > /dev/null 2>&1 && break
    done
done
exit 0
