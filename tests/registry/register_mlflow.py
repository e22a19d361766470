"""Registers models at a real MLflow server: URI FOLDER BUCKET-URI. Prints the id of a logged model."""

import sys

import mlflow
from mlflow import MlflowClient

uri, folder, bucket = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = MlflowClient(uri)
client.create_registered_model("iris model")
client.create_registered_model("stored")
for number in ("1", "2"):
    with mlflow.start_run() as run:
        mlflow.log_artifacts(f"{folder}/{number}", "model")
        client.create_model_version("iris model", f"{run.info.artifact_uri}/model", run.info.run_id)
client.set_registered_model_alias("iris model", "champion", "1")
client.transition_model_version_stage("iris model", "1", "Production")
client.create_model_version("stored", bucket)
client.create_registered_model("copied")
experiment = client.create_experiment("logged")
logged = client.create_logged_model(experiment, name="logged")
client.log_model_artifacts(logged.model_id, f"{folder}/2")
client.finalize_logged_model(logged.model_id, "READY")
client.create_model_version("copied", f"models:/{logged.model_id}", model_id=logged.model_id)
print(logged.model_id)
