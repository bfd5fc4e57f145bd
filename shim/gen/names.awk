# SPDX-License-Identifier: Apache-2.0
# The same list as rows for C, in the order of slots; then the slots in the order of names, from the
# list itself, which is sorted.
/^#/ { next }
FNR == NR {
    printf "FL_NAME(%s, FL_CLASS_%s, %s, %d)\n", $1, $2, bits($3), looks($1, $2)
    slot[$1] = n++
    next
}
{ sorted = sorted slot[$1] "," }
END { printf "#define FL_NAMES %d\n#define FL_POOL %d\n#define FL_BY_NAME %s\n", n, pool, sorted }
