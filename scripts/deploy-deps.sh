#!/bin/sh
# Puts in place what the tests of deploy/ need: the Kubernetes schemas, in a venv of their own.
# Idempotent: a second run only looks. Fails when they cannot be had, so that an unread manifest never passes.
set -eu

cd "$(dirname "$0")/.."
venv=${DRAY_DEPLOY_VENV:-${CARGO_TARGET_DIR:-target}/deploy-venv}
pins='kubernetes-validate==1.37.0 jsonschema==4.26.0 PyYAML==6.0.3'
name=deploy-deps
. scripts/venv.sh

make_venv

"$venv/bin/python" -c 'import kubernetes_validate, jsonschema, yaml' || die "the schemas do not import from $venv"
say "ready: kubernetes $("$venv/bin/python" -c 'import kubernetes_validate as k; print(k.latest_version())')"
