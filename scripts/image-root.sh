#!/bin/sh
# Makes the image's root file system in target/image: the static binary and the CA roots, nothing else.
# The Dockerfile runs this very script, so what image-check.sh proves here is what the image holds.
set -eu

cd "$(dirname "$0")/.."
root=target/image
roots=${DRAY_IMAGE_CA:-/etc/ssl/certs/ca-certificates.crt}

die() { echo "image-root: error: $*" >&2; exit 1; }

[ -s "$roots" ] || die "no CA roots at $roots (package ca-certificates)"

# The C runtime goes into the binary: the image has none. An explicit --target keeps the flag away from
# build scripts and procedural macros, which must stay dynamic. A cache of its own: the flag is part of its key.
target=$(rustc -vV | sed -n 's/^host: //p')
case $target in
    x86_64-*-linux-gnu | aarch64-*-linux-gnu) ;;
    *) die "the image is for x86_64 and aarch64 Linux with glibc, not $target" ;;
esac
CARGO_TARGET_DIR=target/image-build RUSTFLAGS='-C target-feature=+crt-static' \
    cargo build --release --locked --no-default-features --bin dray --target "$target"

rm -rf "$root"
install -D -m 0755 "target/image-build/$target/release/dray" "$root/usr/bin/dray"
install -D -m 0644 "$roots" "$root/etc/ssl/certs/ca-certificates.crt"

# A program header INTERP names a dynamic loader: the image has none, and the kernel would say "not found".
if head -c 4096 "$root/usr/bin/dray" | grep -aq 'ld-linux'; then
    die "$root/usr/bin/dray asks for a dynamic loader: it is not static"
fi
echo "image-root: $(du -h "$root/usr/bin/dray" | cut -f 1) static $target binary in $root"
