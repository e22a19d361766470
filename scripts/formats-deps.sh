#!/bin/sh
# Puts in place the safetensors library and NumPy, which write files for the tests of --formats and judge the broken ones.
# Idempotent: a second run only looks. Fails when they cannot be had, so that a missing judge never reads as a passed test.
set -eu

cd "$(dirname "$0")/.."
venv=${DRAY_FORMATS_VENV:-${CARGO_TARGET_DIR:-target}/formats-venv}
pins='safetensors==0.6.2 numpy==2.3.3'
name=formats-deps
. scripts/venv.sh

make_venv

"$venv/bin/python" -c 'import numpy, safetensors.numpy' || die "safetensors does not import from $venv"
say "ready: safetensors $("$venv/bin/python" -c 'import safetensors; print(safetensors.__version__)')"
