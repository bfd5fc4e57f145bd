#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Put the C library of Debian 11 (glibc 2.31: libdl and libpthread are libraries of their own) into
# folder $1, and beside it a compiler for programs that run on it. Nothing is done when it is there.
# Fails nothing: a test that misses it says so.
set -u
root=$1/root bin=$1/bin
[ ! -x "$bin/old-gcc" ] || exit 0
command -v mmdebstrap > /dev/null || exit 0
echo "Fetching Debian 11's C library for the shim's tests" >&2
rm -rf "$root" "$root.new"
mkdir -p "$1" "$bin"
mmdebstrap --quiet --variant=extract --include=libc6-dev bullseye "$root.new" > "$1/log" 2>&1 ||
    { tail -3 "$1/log" >&2; rm -rf "$root.new"; exit 0; }
mv "$root.new" "$root"
root=$(cd "$root" && pwd)
# Links that begin at / would lead to this machine's own libraries.
find "$root/lib" "$root/lib64" "$root/usr/lib" -type l -lname '/*' 2> /dev/null | while read -r link; do
    ln -sfn "$root$(readlink "$link")" "$link"
done
libraries=$root/lib/$(gcc -print-multiarch)
loader=$(find "$libraries" -maxdepth 1 -name 'ld-2.*.so')
cat > "$bin/old-gcc.new" << END
#!/bin/sh
exec gcc --sysroot=$root -B$root/usr/lib/$(gcc -print-multiarch)/ -L$libraries \\
    -Wl,--dynamic-linker=$loader -Wl,--disable-new-dtags,-rpath,$libraries "\$@"
END
chmod +x "$bin/old-gcc.new"
mv "$bin/old-gcc.new" "$bin/old-gcc"
