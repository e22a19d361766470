#!/bin/sh
# Puts in place the Hub's own client, which downloads from the arena's Hub beside dray and reads the cache that dray
# writes, and safetensors, which opens what is in it.
# Idempotent: a second run only looks. Fails when it cannot be had, so that a missing client never reads as a passed test.
set -eu

cd "$(dirname "$0")/.."
venv=${DRAY_HUB_VENV:-${CARGO_TARGET_DIR:-target}/hub-venv}
pins='huggingface_hub==2.4.0 safetensors==0.8.0 numpy==2.4.6'
name=hub-deps
. scripts/venv.sh

make_venv

"$venv/bin/python" -c 'import huggingface_hub, safetensors.numpy' || die "the client does not import from $venv"
say "ready: huggingface_hub $("$venv/bin/python" -c 'import huggingface_hub; print(huggingface_hub.__version__)')"
