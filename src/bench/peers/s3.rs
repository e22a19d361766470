//! Tools that speak S3. Keys, region and endpoint come to all of them by the environment.

use std::path::PathBuf;

use super::{How, Task, Tool};

/// What `--peers` calls them.
pub(super) const NAMES: &[&str] = &["s5cmd", "rclone", "aws", "awscrt", "boto3", "minio", "obstore", "kserve-storage"];

/// AWS's CLI, by its S3 configuration page: `max_concurrent_requests` and parts of 16 MB for fast lines.
const AWS_CONFIG: &str = "[default]\ns3 =\n  addressing_style = path\n  max_concurrent_requests = 20\n  \
                          multipart_threshold = 16MB\n  multipart_chunksize = 16MB\n";

/// The AWS Common Runtime's S3 client, as its own samples have it: target throughput and part size given.
const AWSCRT: &str = "\
import os, sys
from urllib.parse import quote, urlparse
from awscrt.auth import AwsCredentialsProvider
from awscrt.http import HttpHeaders, HttpRequest
from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup, TlsContextOptions
from awscrt.s3 import S3Client, S3RequestTlsMode, S3RequestType
bucket, dest, keys = sys.argv[1], sys.argv[2], sys.argv[3:]
endpoint = urlparse(os.environ['AWS_ENDPOINT_URL'])
group = EventLoopGroup()
bootstrap = ClientBootstrap(group, DefaultHostResolver(group))
credentials = AwsCredentialsProvider.new_static(os.environ['AWS_ACCESS_KEY_ID'], os.environ['AWS_SECRET_ACCESS_KEY'])
plain = S3RequestTlsMode.DISABLED if endpoint.scheme == 'http' else S3RequestTlsMode.ENABLED
client = S3Client(bootstrap=bootstrap, region=os.environ['AWS_REGION'], credential_provider=credentials,
                  tls_mode=plain, part_size=16 << 20, throughput_target_gbps=10)
pairs = zip(keys[::2], keys[1::2])
def start(key, name):
    os.makedirs(os.path.dirname(f'{dest}/{name}'), exist_ok=True)
    request = HttpRequest('GET', '/' + bucket + '/' + quote(key), HttpHeaders([('host', endpoint.netloc)]))
    return client.make_request(type=S3RequestType.GET_OBJECT, request=request, recv_filepath=f'{dest}/{name}')
for done in [start(*pair).finished_future for pair in pairs]:
    done.result()
";

/// boto3's transfer manager, by its guide: threads, and parts of 16 MiB; 8 files at once.
const BOTO3: &str = "\
import os, sys
from concurrent.futures import ThreadPoolExecutor
import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
bucket, dest, keys = sys.argv[1], sys.argv[2], sys.argv[3:]
client = boto3.client('s3', config=Config(max_pool_connections=128, s3={'addressing_style': 'path'}))
config = TransferConfig(max_concurrency=16, multipart_chunksize=16 << 20, multipart_threshold=16 << 20)
def take(key, name):
    os.makedirs(os.path.dirname(f'{dest}/{name}'), exist_ok=True)
    client.download_file(bucket, key, f'{dest}/{name}', Config=config)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(take, keys[::2], keys[1::2]))
";

/// MinIO's client takes a file in one request, and makes its folders; 8 files at once.
const MINIO: &str = "\
import os, sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlparse
from minio import Minio
bucket, dest, keys = sys.argv[1], sys.argv[2], sys.argv[3:]
endpoint = urlparse(os.environ['AWS_ENDPOINT_URL'])
client = Minio(endpoint.netloc, access_key=os.environ['AWS_ACCESS_KEY_ID'],
               secret_key=os.environ['AWS_SECRET_ACCESS_KEY'], secure=endpoint.scheme == 'https',
               region=os.environ['AWS_REGION'])
def take(key, name):
    client.fget_object(bucket, key, f'{dest}/{name}')
with ThreadPoolExecutor(8) as pool:
    list(pool.map(take, keys[::2], keys[1::2]))
";

/// obstore has no transfer manager: parts of 16 MiB by a pool of threads, each written at its place.
const OBSTORE: &str = "\
import os, sys
from concurrent.futures import ThreadPoolExecutor
import obstore
from obstore.store import S3Store
bucket, dest, keys = sys.argv[1], sys.argv[2], sys.argv[3:]
store = S3Store(bucket, endpoint=os.environ['AWS_ENDPOINT_URL'], region=os.environ['AWS_REGION'],
                access_key_id=os.environ['AWS_ACCESS_KEY_ID'], secret_access_key=os.environ['AWS_SECRET_ACCESS_KEY'],
                client_options={'allow_http': True})
PART = 16 << 20
def part(key, file, start, end):
    os.pwrite(file, obstore.get_range(store, key, start=start, end=end), start)
with ThreadPoolExecutor(16) as pool:
    waits = []
    for key, name in zip(keys[::2], keys[1::2]):
        os.makedirs(os.path.dirname(f'{dest}/{name}'), exist_ok=True)
        size = obstore.head(store, key)['size']
        file = os.open(f'{dest}/{name}', os.O_WRONLY | os.O_CREAT, 0o644)
        waits += [pool.submit(part, key, file, at, min(at + PART, size)) for at in range(0, size, PART)]
    for wait in waits:
        wait.result()
";

/// KServe's own initializer, called as its entry point calls it.
const KSERVE: &str = "\
import sys
from kserve_storage import Storage
Storage.download(sys.argv[1], sys.argv[2])
";

/// The tools for `task`.
pub(super) fn tools(task: &Task<'_>) -> std::io::Result<Vec<Tool>> {
    std::fs::write(config(task), AWS_CONFIG)?;
    let (uri, dest) = (task.origin.uri.clone(), task.dest());
    let (bucket, key) = bucket_and_key(&uri);
    let one = task.files.len() == 1 && key.ends_with(&task.files[0].path);
    let keys: Vec<String> = task
        .files
        .iter()
        .flat_map(|file| {
            let key = if one { key.clone() } else { join(&key, &file.path) };
            [key, file.path.clone()]
        })
        .collect();
    let python = [vec![bucket, dest.clone()], keys].concat();
    let tool = |name, how| Tool { name, proof: "size", how };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let all = if one { uri.clone() } else { format!("{}/*", uri.trim_end_matches('/')) };
    let remote = format!(":s3:{}", uri.trim_start_matches("s3://"));
    let place = format!("{dest}/");
    let mut aws = words(&["s3", "cp", "--only-show-errors", &uri, &place]);
    if !one {
        aws.push("--recursive".to_owned());
    }
    Ok(vec![
        // s5cmd's README: concurrency is parts of one file at once, part sizes are MiB.
        tool("s5cmd", How::Program("s5cmd", words(&["cp", "--concurrency", "8", "--part-size", "16", &all, &place]))),
        // rclone's manual on transfers and checkers, for many files; on multi-thread transfers; its S3 section on checksums: an ETag of parts proves nothing.
        tool(
            "rclone",
            How::Program(
                "rclone",
                words(&[
                    "copy",
                    "--transfers",
                    "16",
                    "--checkers",
                    "16",
                    "--multi-thread-streams",
                    "8",
                    "--multi-thread-chunk-size",
                    "16M",
                    "--multi-thread-cutoff",
                    "16M",
                    "--ignore-checksum",
                    &remote,
                    &dest,
                ]),
            ),
        ),
        tool("aws", How::Program("aws", aws)),
        tool("awscrt", How::Python("awscrt.s3", AWSCRT, python.clone())),
        tool("boto3", How::Python("boto3", BOTO3, python.clone())),
        tool("minio", How::Python("minio", MINIO, python.clone())),
        tool("obstore", How::Python("obstore", OBSTORE, python)),
        tool("kserve-storage", How::Python("kserve_storage", KSERVE, words(&[&uri, &dest]))),
    ])
}

/// The settings of AWS's CLI, in its own form.
fn config(task: &Task<'_>) -> PathBuf {
    task.place.scratch.join("aws-config")
}

/// The environment of every tool here that is not AWS's own, from AWS's.
pub(super) fn env(task: &Task<'_>) -> Vec<(String, String)> {
    let origin = task.origin;
    let known = |name: &str| {
        let own = origin.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        own.or_else(|| std::env::var(name).ok())
    };
    let endpoint = known("AWS_ENDPOINT_URL_S3").or_else(|| known("AWS_ENDPOINT_URL"));
    let mut env = vec![
        ("RCLONE_S3_PROVIDER".to_owned(), "Other".to_owned()),
        ("RCLONE_S3_ENV_AUTH".to_owned(), "true".to_owned()),
    ];
    // Its guess for "Other" is the listing of 2006.
    env.push(("RCLONE_S3_LIST_VERSION".to_owned(), "2".to_owned()));
    env.push(("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()));
    for name in ["AWS_ENDPOINT_URL", "S3_ENDPOINT_URL", "RCLONE_S3_ENDPOINT"] {
        env.extend(endpoint.iter().map(|endpoint| (name.to_owned(), endpoint.clone())));
    }
    if !origin.env.is_empty() {
        // Somebody's own endpoint may need what stands in their own settings.
        env.push(("AWS_CONFIG_FILE".to_owned(), config(task).to_string_lossy().into_owned()));
    }
    let region = known("AWS_REGION").unwrap_or_else(|| "us-east-1".to_owned());
    env.extend(["AWS_REGION", "AWS_DEFAULT_REGION", "RCLONE_S3_REGION"].map(|name| (name.to_owned(), region.clone())));
    env
}

fn bucket_and_key(uri: &str) -> (String, String) {
    let rest = uri.strip_prefix("s3://").unwrap_or(uri);
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    (bucket.to_owned(), key.trim_end_matches('/').to_owned())
}

fn join(prefix: &str, path: &str) -> String {
    if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") }
}
