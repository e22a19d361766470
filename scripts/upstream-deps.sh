#!/bin/sh
# Puts in place what `make test-upstream` runs the table against: upstream's storage initializer, in a venv.
# Idempotent. The libraries that decide what is fetched and how are pinned as upstream's image pins them.
set -eu

cd "$(dirname "$0")/.."
scripts/test-deps.sh
venv=${DRAY_UPSTREAM_VENV:-${CARGO_TARGET_DIR:-target}/upstream-venv}
pins='kserve-storage==0.21.0 boto3==1.38.33 s3transfer==0.13.0 requests==2.32.4 huggingface_hub==0.32.4 hf_transfer==0.1.9'
name=upstream-deps
. scripts/venv.sh

make_venv

"$venv/bin/python" -c 'import kserve_storage' || die "kserve_storage does not import from $venv"
say "ready: kserve-storage $("$venv/bin/pip" --disable-pip-version-check show kserve-storage | sed -n 's/^Version: //p')"
