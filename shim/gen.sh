#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Write trampolines.S for architecture $2 and names.inc, for the names in $1, into folder $3.
# Needs awk only. Slot numbers are the same in both files.
set -eu
list=$1 arch=$2 out=$3 pool=256
gen=$(dirname "$0")/gen
awk -f "$gen/order.awk" "$gen/hot.txt" "$list" > "$out/ordered"
awk -v pool=$pool -f "$gen/common.awk" -f "$gen/names.awk" "$out/ordered" "$list" > "$out/names.inc.new"
awk -v pool=$pool -f "$gen/common.awk" -f "$gen/$arch.awk" -f "$gen/trampolines.awk" \
    "$out/ordered" > "$out/trampolines.S.new"
mv "$out/names.inc.new" "$out/names.inc"
mv "$out/trampolines.S.new" "$out/trampolines.S"
