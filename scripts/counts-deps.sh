#!/bin/sh
# Puts in place valgrind, which counts instructions for tests/counts.rs.
# Idempotent: a second run only looks. Fails when it cannot be had, so that a missing counter never reads as a passed test.
set -eu

cd "$(dirname "$0")/.."
name=counts-deps
. scripts/venv.sh

need_tools valgrind:valgrind

valgrind --tool=callgrind --callgrind-out-file=/dev/null true 2>/dev/null || die "callgrind does not run here"
say "ready: $(valgrind --version)"
