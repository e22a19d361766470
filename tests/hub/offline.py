"""What the Hub's own client and safetensors find in a cache, without a network: one JSON object on stdout."""

import json
import os
import sys
import warnings

warnings.simplefilter("error")

import huggingface_hub
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache
from safetensors import safe_open

cache, kind, name, revision = sys.argv[1:]
assert constants.HF_HUB_CACHE == cache, constants.HF_HUB_CACHE
snapshot = snapshot_download(name, repo_type=kind, revision=revision, local_files_only=True)
files, tensors = {}, {}
for folder, _, names in os.walk(snapshot):
    for base in names:
        path = os.path.relpath(os.path.join(folder, base), snapshot)
        found = hf_hub_download(name, path, repo_type=kind, revision=revision, local_files_only=True)
        assert found == os.path.join(snapshot, path), found
        assert try_to_load_from_cache(name, path, cache_dir=cache, repo_type=kind, revision=revision) == found
        link = os.readlink(found)
        assert not os.path.isabs(link) and os.path.realpath(found).startswith(os.path.realpath(cache) + "/"), link
        files[path] = found
        if path.endswith(".safetensors") and name == "org/shards":
            with safe_open(found, framework="numpy") as opened:
                tensors.update({key: opened.get_tensor(key).sum().item() for key in opened.keys()})
assert try_to_load_from_cache(name, "absent.json", cache_dir=cache, repo_type=kind, revision=revision) is None
scanned = scan_cache_dir(cache)
revisions = {
    revision.commit_hash: sorted(revision.refs)
    for repo in scanned.repos
    if (repo.repo_id, repo.repo_type) == (name, kind)
    for revision in repo.revisions
}
json.dump(
    {
        "commit": os.path.basename(snapshot),
        "files": files,
        "tensors": tensors,
        "revisions": revisions,
        "warnings": [str(warning) for warning in scanned.warnings],
    },
    sys.stdout,
)
