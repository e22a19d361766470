#!/bin/sh
# Puts in place the Hub's own client, which downloads from the arena's Hub beside dray.
# Idempotent: a second run only looks. Fails when it cannot be had, so that a missing client never reads as a passed test.
set -eu

cd "$(dirname "$0")/.."
venv=${DRAY_HUB_VENV:-${CARGO_TARGET_DIR:-target}/hub-venv}
pins='huggingface_hub==2.4.0'

say() { echo "hub-deps: $*"; }
die() { echo "hub-deps: error: $*" >&2; exit 1; }

stamp="$venv/.pins"
if [ "$(cat "$stamp" 2>/dev/null)" != "$pins" ] || [ ! -x "$venv/bin/python" ]; then
    say "python venv in $venv: $pins"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv" || die "python3 -m venv failed (package python3-venv)"
    # shellcheck disable=SC2086
    "$venv/bin/pip" install -q --disable-pip-version-check $pins || die "pip could not install $pins"
    printf '%s' "$pins" >"$stamp"
fi

"$venv/bin/python" -c 'import huggingface_hub' || die "huggingface_hub does not import from $venv"
say "ready: huggingface_hub $("$venv/bin/python" -c 'import huggingface_hub; print(huggingface_hub.__version__)')"
