# SPDX-License-Identifier: Apache-2.0
# The list in the order of slots: the functions of hot.txt, which is read first, then all others.
/^#/ { next }
FNR == NR { place[$1] = ++hot; next }
$1 in place { first[place[$1]] = $0; next }
{ rest[++n] = $0 }
END {
    for (i = 1; i <= hot; i++) {
        if (!(i in first)) { print "hot.txt names a function that the list lacks" > "/dev/stderr"; exit 1 }
        print first[i]
    }
    for (i = 1; i <= n; i++) print rest[i]
}
