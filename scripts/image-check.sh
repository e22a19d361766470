#!/bin/sh
# Runs BINARY as the image would run in a strict pod, without a container engine: bubblewrap gives it a read-only
# root, a random user, one writable folder, no new privileges, and a seccomp filter that denies io_uring.
# A static binary gets an empty root; a dynamic one (a debug build) gets its shared libraries beside it.
# The storage-initializer contract runs there under a memory limit of 256 MiB, which takes root to make: without it
# the check fails, unless DRAY_NO_CGROUP=1 says that it shall not run.
# Usage: scripts/image-check.sh BINARY
set -eu

here=$(cd "$(dirname "$0")" && pwd)
binary=${1:-}
die() { echo "image-check: error: $*" >&2; exit 1; }

[ -n "$binary" ] || die "usage: scripts/image-check.sh BINARY"
[ -x "$binary" ] || die "$binary is missing or not executable; build it first"
PATH="$PATH:/usr/sbin:/sbin"
for tool in bwrap nginx python3; do
    command -v "$tool" >/dev/null || die "$tool is missing; scripts/test-deps.sh installs it"
done
exec python3 -B "$here/image_check.py" "$binary"
