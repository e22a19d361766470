"""What Kubernetes would say of manifests, by its own schemas (package kubernetes-validate) and crds.json.

Commands, all answering JSON on stdout:
  load FILE...   every document of the YAML files
  check          documents (JSON array on stdin) -> an array of complaints for each
  merge          {"base", "patch"}: containers, on stdin -> the strategic merge, as KServe's webhook makes it
"""

import json
import re
import sys
from pathlib import Path

import kubernetes_validate
import yaml
from jsonschema.validators import Draft202012Validator

# A release that clusters still run, and the newest that the package knows.
VERSIONS = ["1.32", kubernetes_validate.latest_version()]
CRDS = json.loads(Path(__file__).with_name("crds.json").read_text())
SCHEMAS = Path(kubernetes_validate.__file__).with_name("kubernetes-json-schema")


class Strict(yaml.SafeLoader):
    """A loader that refuses a key said twice, which YAML's own takes the last of."""


def mapping(loader, node):
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"{node.start_mark}: said twice: {sorted(twice)}")
    return loader.construct_mapping(node, deep=True)


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def definitions(version):
    folders = [p for p in SCHEMAS.iterdir() if re.fullmatch(rf"v{re.escape(version)}\.\d+-local-strict", p.name)]
    return json.loads((folders[0] / "_definitions.json").read_text())["$defs"]


def check(document):
    name = f"{document.get('apiVersion')} {document.get('kind')}"
    schema = CRDS.get(name)
    if schema:
        # The CRD's own fields, with the built-in types it takes over as Kubernetes defines them.
        text = json.dumps(schema).replace('"k8s:', '"#/$defs/')
        whole = json.loads(text) | {"$defs": definitions(VERSIONS[-1].rsplit(".", 1)[0])}
        found = Draft202012Validator(whole).iter_errors(document)
        return [f"{'/'.join(map(str, error.path))}: {error.message}"[:300] for error in found]
    complaints = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except Exception as error:
            complaints.append(f"{version}: {getattr(error, 'message', error)}"[:300])
    return complaints


def resolved(schema, defs):
    while schema and "$ref" in schema:
        schema = defs[schema["$ref"].rsplit("/", 1)[1]]
    return schema or {}


def merge(base, patch, schema, defs):
    """Strategic merge: maps by key, lists as the schema's patch strategy says, all else replaced."""
    schema = resolved(schema, defs)
    result = dict(base)
    for key, value in patch.items():
        below = schema.get("properties", {}).get(key) or schema.get("additionalProperties") or {}
        below = resolved(below, defs) | below
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            result[key] = merge(old, value, below, defs)
        elif isinstance(value, list) and isinstance(old, list) and below.get("x-kubernetes-patch-strategy") == "merge":
            result[key] = merge_list(old, value, below, defs)
        else:
            result[key] = value
    return result


def merge_list(old, new, schema, defs):
    key = schema["x-kubernetes-patch-merge-key"]
    kept = [item for item in old if not any(other[key] == item[key] for other in new)]
    olds = {item[key]: item for item in old}
    return kept + [merge(olds.get(item[key], {}), item, schema["items"], defs) for item in new]


def main(command, *files):
    if command == "load":
        return [
            {"file": Path(file).name, "document": document}
            for file in files
            for document in yaml.load_all(Path(file).read_text(), Loader=Strict)
        ]
    told = json.load(sys.stdin)
    if command == "check":
        return [check(document) for document in told]
    if command == "merge":
        defs = definitions(VERSIONS[-1].rsplit(".", 1)[0])
        return merge(told["base"], told["patch"], defs["io.k8s.api.core.v1.Container"], defs)
    raise SystemExit(f"unknown command {command}")


if __name__ == "__main__":
    json.dump(main(*sys.argv[1:]), sys.stdout)
