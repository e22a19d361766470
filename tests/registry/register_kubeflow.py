"""Registers versions of a model through Kubeflow's client: ADDRESS TOKEN BUCKET ENDPOINT."""

import sys

from model_registry import ModelRegistry, utils
from model_registry.types import ModelVersion, RegisteredModel
from mr_openapi import ModelVersionState

address, token, bucket, endpoint = sys.argv[1:]
host, port = address.rsplit(":", 1)
registry = ModelRegistry(f"http://{host}", int(port), author="test", is_secure=False, user_token=token)
for version, place in [("v1", "one"), ("v2", "two")]:
    uri = utils.s3_uri_from(place, bucket, endpoint=endpoint, region="us-east-1")
    registry.register_model(
        "iris", uri, version=version, model_format_name="onnx", model_format_version="1", metadata={"accuracy": 0.9}
    )
v2 = registry.get_model_version("iris", "v2")
v2.state = ModelVersionState.ARCHIVED
registry.update(v2)
assert isinstance(registry.get_registered_model("iris"), RegisteredModel)
assert isinstance(v2, ModelVersion)
names = [version.name for version in registry.get_model_versions("iris")]
print(*sorted(names), registry.get_model_version("iris", "v2").state.value.lower())
