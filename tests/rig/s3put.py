"""Puts objects into an S3 endpoint for the tests: one JSON request a line in, one JSON reply a line out.

Ends when its input ends. Requests: bucket, put, multipart, delete, head, keys, presign; see the functions.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate

import boto3
from botocore.config import Config

THREADS = 16


@lru_cache
def client(endpoint, access, secret):
    config = Config(
        max_pool_connections=THREADS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"max_attempts": 5},
        s3={"addressing_style": "path"},
        signature_version="s3v4",
    )
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=config,
    )


def read(source):
    with open(source["file"], "rb") as file:
        file.seek(source.get("offset", 0))
        return file.read(source["length"])


def bucket(s3, ask):
    s3.create_bucket(Bucket=ask["bucket"])
    if ask.get("versioned"):
        state = {"Status": "Enabled"}
        s3.put_bucket_versioning(Bucket=ask["bucket"], VersioningConfiguration=state)
    return {}


def put(s3, ask):
    """Plain puts, in parallel; `checksum` names an algorithm the client states, `acl` a canned ACL."""
    extra = {"ChecksumAlgorithm": ask["checksum"]} if ask.get("checksum") else {}
    extra |= {"ACL": ask["acl"]} if ask.get("acl") else {}

    def one(item):
        reply = s3.put_object(Bucket=ask["bucket"], Key=item["key"], Body=read(item), **extra)
        return reply.get("VersionId")

    with ThreadPoolExecutor(THREADS) as pool:
        return {"versions": list(pool.map(one, ask["objects"]))}


def multipart(s3, ask):
    """One object in parts of `part` bytes, or of the sizes in `parts`; `type` is FULL_OBJECT or COMPOSITE, or absent
    with `algorithm`."""
    where = {"Bucket": ask["bucket"], "Key": ask["key"]}
    algorithm, kind = ask.get("algorithm"), ask.get("type")
    stated = {"ChecksumAlgorithm": algorithm} if algorithm else {}
    upload = s3.create_multipart_upload(**where, **stated, **({"ChecksumType": kind} if kind else {}))
    where["UploadId"] = upload["UploadId"]
    sizes = ask.get("parts") or [ask["part"]] * -(-ask["length"] // ask["part"])
    offsets = accumulate(sizes[:-1], initial=0)

    def one(numbered):
        number, offset = numbered
        length = min(sizes[number - 1], ask["length"] - offset)
        body = read({"file": ask["file"], "offset": ask.get("offset", 0) + offset, "length": length})
        reply = s3.upload_part(**where, PartNumber=number, Body=body, **stated)
        sums = {name: value for name, value in reply.items() if name.startswith("Checksum")}
        return {"PartNumber": number, "ETag": reply["ETag"], **sums}

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(one, enumerate(offsets, 1)))
    extra = {"ChecksumType": kind} if kind else {}
    done = s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts}, **extra)
    return {"etag": done["ETag"]}


def delete(s3, ask):
    s3.delete_object(Bucket=ask["bucket"], Key=ask["key"])
    return {}


def head(s3, ask):
    reply = s3.head_object(Bucket=ask["bucket"], Key=ask["key"], ChecksumMode="ENABLED")
    del reply["ResponseMetadata"]
    return {"head": reply}


def keys(s3, ask):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=ask["bucket"])
    return {"keys": [item["Key"] for page in pages for item in page.get("Contents", [])]}


def presign(s3, ask):
    params = {"Bucket": ask["bucket"], "Key": ask["key"]}
    return {"url": s3.generate_presigned_url("get_object", Params=params, ExpiresIn=600)}


OPS = {op.__name__: op for op in (bucket, put, multipart, delete, head, keys, presign)}


def main():
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            s3 = client(ask["endpoint"], ask["access"], ask["secret"])
            reply = OPS[ask["op"]](s3, ask)
        except Exception as error:  # the test shows it and fails
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply, default=str), flush=True)


main()
