//! Models that are one archive.

use super::row::{Entry, Row};
use super::stores::{site, stored};

pub(super) fn rows() -> Vec<Row> {
    let stored = stored();
    let nginx = &site().nginx;
    let endpoint = &stored.bucket.endpoint;
    let two = [("m.tar.gz", &stored.other), ("n.bin", &stored.config)];
    vec![
        Row::takes("packed/among-others-stays-packed", stored.bucket.uri("two"), &two).keyed(endpoint),
        Row::fails("packed/alone-below-a-prefix", stored.bucket.uri("packed"), 6, "`m.tar.gz` is an archive")
            .keyed(endpoint),
        Row::fails("packed/by-its-key", stored.bucket.uri("packed/m.tar.gz"), 6, "`m.tar.gz` is an archive")
            .keyed(endpoint),
        Row::refuses("packed/of-a-web-server", &[&nginx.http("m.tar.gz"), "{0}"], 6, "archive"),
        Row::refuses("packed/by-its-query", &[&nginx.http("download?path=/a/model.zip"), "{0}"], 6, "archive"),
        Row::fails("packed/on-this-machine", "{src}/m.tar", 6, "archive")
            .placed("src/m.tar", Entry::from(&stored.other)),
    ]
}
