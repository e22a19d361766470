#!/bin/sh
# Puts in place Chromium, which shows the pages of `dray bench page` to their tests.
# Idempotent: a second run only looks. Fails when it cannot be had, so that a missing browser never reads as a passed test.
set -eu

cd "$(dirname "$0")/.."
name=page-deps
. scripts/venv.sh

need_tools chromium:chromium

say "ready: $(chromium --version 2>/dev/null | tail -1)"
