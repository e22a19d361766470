#!/bin/sh
# Puts in place the registries that the tests run against: MLflow's server and Kubeflow's Python client, in a venv.
# Idempotent: a second run only looks. MLflow's small edition is enough, with the few packages that its server needs
# beside it, and without pandas, numpy, scikit-learn and pyarrow.
set -eu

cd "$(dirname "$0")/.."
venv=${DRAY_REGISTRY_VENV:-${CARGO_TARGET_DIR:-target}/registry-venv}
pins='mlflow-skinny==3.17.2 flask==3.1.3 flask-cors==6.0.5 flask-wtf==1.3.0 sqlalchemy==2.1.9 alembic==1.20.1 graphene==3.4.3 gunicorn==27.0.1 model-registry==0.3.18'
name=registry-deps
. scripts/venv.sh

make_venv

"$venv/bin/python" -c 'import mlflow, flask, alembic, model_registry' || die "mlflow or model_registry do not import from $venv"
say "ready: $("$venv/bin/mlflow" --version 2>/dev/null)"
