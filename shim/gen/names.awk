# SPDX-License-Identifier: Apache-2.0
# The same list as rows for C.
/^#/ { next }
{ printf "FL_NAME(%s, FL_CLASS_%s, %s, %d)\n", $1, $2, bits($3), looks($1, $2); n++ }
END { printf "#define FL_NAMES %d\n#define FL_POOL %d\n", n, pool }
