#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Cost of one passed call: direct, through the shim while idle, and through a shim of the
# predecessor's kind (dlsym and fopen of a toggle file on every call), side by side in one run.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
gcc -O2 -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so.1" "$here/bench_driver.c"
gcc -O2 -shared -fPIC -o "$work/predecessor.so" "$here/bench_predecessor.c" -ldl
gcc -O2 -o "$work/bench" "$here/bench.c" -L"$work" -l:libcuda.so.1
run() { LD_LIBRARY_PATH=$work LD_PRELOAD=$1 "$work/bench"; }
lowest() { sort -g | head -1; }
for _ in 1 2 3 4 5; do
    run "" >> "$work/direct"
    run "$here/../build/libfaultline.so" >> "$work/idle"
    run "$work/predecessor.so" >> "$work/predecessor"
done
awk -v d="$(lowest < "$work/direct")" -v i="$(lowest < "$work/idle")" \
    -v p="$(lowest < "$work/predecessor")" 'BEGIN {
    printf "%-44s %10s %8s\n", "one call of cuCtxSetCurrent, best of 5", "ns", "ratio"
    printf "%-44s %10.2f %8.2f\n", "no preload", d, 1
    printf "%-44s %10.2f %8.2f\n", "shim, idle", i, i / d
    printf "%-44s %10.2f %8.2f\n", "dlsym and fopen on every call", p, p / d
    printf "{\"direct_ns\": %.3f, \"idle_ns\": %.3f, \"idle_overhead_ns\": %.3f, \"predecessor_ns\": %.1f, ", d, i, i - d, p
    printf "\"idle_ratio_to_predecessor\": %.5f}\n", i / p
}'
