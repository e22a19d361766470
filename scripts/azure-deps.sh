#!/bin/sh
# Puts Azurite in place, Microsoft's emulator of Azure Storage, which the tests of az:// run against.
# Idempotent: a second run only looks. Fails when it cannot be had, so that a missing server never reads as a
# passed test. 3.35.0 is the last Azurite that runs on Node.js 20.
set -eu

cd "$(dirname "$0")/.."
place=${DRAY_AZURITE:-${CARGO_TARGET_DIR:-target}/azurite}
program=$place/node_modules/.bin/azurite-blob
pins='azurite@3.35.0'
name=azure-deps
. scripts/venv.sh

need_tools node:nodejs npm:npm

if [ "$(cat "$place/.pins" 2>/dev/null)" != "$pins" ] || [ ! -x "$program" ]; then
    say "npm packages in $place: $pins"
    mkdir -p "$place"
    npm install --silent --no-audit --no-fund --omit=optional --prefix "$place" "$pins" >/dev/null || die "npm could not install $pins"
    printf '%s' "$pins" >"$place/.pins"
fi

"$program" --version >/dev/null 2>&1 || die "$program does not run"
say "ready: azurite $("$program" --version)"
