#!/bin/sh
# Puts in place what the tests of deploy/ need: the Kubernetes schemas, in a venv of their own.
# Idempotent: a second run only looks. Fails when they cannot be had, so that an unread manifest never passes.
set -eu

cd "$(dirname "$0")/.."
venv=${DRAY_DEPLOY_VENV:-${CARGO_TARGET_DIR:-target}/deploy-venv}
pins='kubernetes-validate==1.37.0 jsonschema==4.26.0 PyYAML==6.0.3'

say() { echo "deploy-deps: $*"; }
die() { echo "deploy-deps: error: $*" >&2; exit 1; }

stamp="$venv/.pins"
if [ "$(cat "$stamp" 2>/dev/null)" != "$pins" ] || [ ! -x "$venv/bin/python" ]; then
    say "python venv in $venv: $pins"
    mkdir -p "$(dirname "$venv")"
    python3 -m venv "$venv" || die "python3 -m venv failed (package python3-venv)"
    # The pins hold no spaces of their own: splitting them is meant.
    # shellcheck disable=SC2086
    "$venv/bin/pip" install -q --disable-pip-version-check $pins || die "pip could not install $pins"
    printf '%s' "$pins" >"$stamp"
fi

"$venv/bin/python" -c 'import kubernetes_validate, jsonschema, yaml' || die "the schemas do not import from $venv"
say "ready: kubernetes $("$venv/bin/python" -c 'import kubernetes_validate as k; print(k.latest_version())')"
