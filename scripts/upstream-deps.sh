#!/bin/sh
# Puts in place what `make test-upstream` runs the table against: upstream's storage initializer, in a venv.
# Idempotent. The libraries that decide what is fetched and how are pinned as upstream's image pins them.
set -eu

cd "$(dirname "$0")/.."
scripts/test-deps.sh
venv=${DRAY_UPSTREAM_VENV:-${CARGO_TARGET_DIR:-target}/upstream-venv}
pins='kserve-storage==0.21.0 boto3==1.38.33 s3transfer==0.13.0 requests==2.32.4 huggingface_hub==0.32.4 hf_transfer==0.1.9'

die() { echo "upstream-deps: error: $*" >&2; exit 1; }

stamp="$venv/.pins"
if [ "$(cat "$stamp" 2>/dev/null)" != "$pins" ] || [ ! -x "$venv/bin/python" ]; then
    echo "upstream-deps: python venv in $venv: $pins"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv" || die "python3 -m venv failed (package python3-venv)"
    # The pins hold no spaces of their own: splitting them is meant.
    # shellcheck disable=SC2086
    "$venv/bin/pip" install -q --disable-pip-version-check $pins || die "pip could not install $pins"
    printf '%s' "$pins" >"$stamp"
fi

"$venv/bin/python" -c 'import kserve_storage' || die "kserve_storage does not import from $venv"
echo "upstream-deps: ready: kserve-storage $("$venv/bin/pip" --disable-pip-version-check show kserve-storage | sed -n 's/^Version: //p')"
