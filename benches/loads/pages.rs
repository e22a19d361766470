//! A page of a listing as each store writes it.

use dray::origin::pages::Store;

/// Names of a model's shards below `m/`, which is all that a page must differ in.
fn key(n: u64) -> String {
    format!("m/weights/shard-{:02}/model-{n:05}-of-10000.safetensors", n % 32)
}

/// One page with `keys` objects below `m/`.
pub(crate) fn page(store: Store, keys: u64) -> Vec<u8> {
    let all = |object: fn(u64) -> String, between: &str| (0..keys).map(object).collect::<Vec<_>>().join(between);
    let text = match store {
        Store::Gcs => format!(r#"{{"kind":"storage#objects","items":[{}]}}"#, all(gcs_object, ",")),
        Store::Azure => format!(
            r#"<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://a.blob.core.windows.net/" ContainerName="c"><Blobs>{}</Blobs><NextMarker /></EnumerationResults>"#,
            all(azure_blob, "")
        ),
        Store::Hub => format!("[{}]", all(hub_entry, ",")),
    };
    text.into_bytes()
}

fn gcs_object(n: u64) -> String {
    format!(
        r#"{{"kind":"storage#object","name":"{}","size":"{}","generation":"17{n:014}","crc32c":"AAAAAQ==","md5Hash":"AAAAAAAAAAAAAAAAAAAAAA=="}}"#,
        key(n),
        4096 + n
    )
}

fn azure_blob(n: u64) -> String {
    format!(
        "<Blob><Name>{}</Name><Properties><Creation-Time>Sun, 22 Nov 2026 09:08:07 GMT</Creation-Time>\
         <Last-Modified>Sun, 22 Nov 2026 09:08:07 GMT</Last-Modified><Etag>0x8DD{n:012X}</Etag>\
         <Content-Length>{}</Content-Length><Content-Type>application/octet-stream</Content-Type><Content-Encoding />\
         <Content-MD5>AAAAAAAAAAAAAAAAAAAAAA==</Content-MD5><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier>\
         <LeaseStatus>unlocked</LeaseStatus><ServerEncrypted>true</ServerEncrypted></Properties><OrMetadata /></Blob>",
        key(n),
        4096 + n
    )
}

fn hub_entry(n: u64) -> String {
    format!(
        r#"{{"type":"file","oid":"{n:040x}","size":{0},"path":"{1}","lfs":{{"oid":"{n:064x}","size":{0},"pointerSize":135}}}}"#,
        4096 + n,
        key(n)
    )
}
