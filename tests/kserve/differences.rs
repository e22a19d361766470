//! Every row of the table that upstream's initializer (0.21.0) ends otherwise, and why that is meant.
//!
//! `make test-upstream` fails for a difference that is not here, and for one here that is no more.
//! docs/kserve.md tells users the same.

/// One row and what upstream does there.
pub(crate) struct Difference {
    pub(crate) row: &'static str,
    pub(crate) how: How,
    /// What upstream does.
    pub(crate) why: &'static str,
}

/// How upstream's run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// With success where the row fails.
    Succeeds,
    /// With failure where the row succeeds.
    Fails,
    /// As the row, with other files.
    OtherFiles,
}

const ONE_TRY: &str = "one request without a second try";
const TYPE: &str = "only application/octet-stream is taken for such a name";
const ZIP_TYPE: &str = "a zip must be served as one";
const RAW_PREFIX: &str = "a prefix is any beginning of a key, and what is left of the key is the name";
const NO_EMPTY: &str = "objects of size 0 are left out";
const QUERY: &str = "the query of an s3:// source is dropped";
const UNUSABLE: &str = "what cannot be unpacked stays in DEST";
const CLIMBS_OUT: &str = "the object is written outside DEST";
const CLIMBS: &str = "`..` is resolved by the file system";
const BACKSLASH: &str = "a backslash is a character of a file's name";
const STATE_FOLDER: &str = "`.dray/` is a folder like any other";
const EMPTY_FILE: &str = "an empty file is left where an object was looked for";
const WHOLE: &str = "a source is OWNER/NAME[:REVISION] and no more";
const NO_PATTERN: &str = "a path must exist as it is written before patterns are looked at";

/// The list, in the order of the table's names.
pub(crate) const DIFFERENCES: [Difference; 65] = [
    differs(
        "configuration/drops-the-token-of-another-key",
        How::Fails,
        "a session token of the environment is sent with the key of STORAGE_CONFIG",
    ),
    differs("configuration/empty-text", How::Fails, "an empty STORAGE_CONFIG is read as JSON"),
    differs(
        "configuration/accelerated-elsewhere",
        How::Fails,
        "S3_USE_ACCELERATE and an endpoint of one's own exclude each other",
    ),
    differs("faults/cut-body", How::Fails, ONE_TRY),
    differs("faults/reset-body", How::Fails, ONE_TRY),
    differs("faults/reset-after-headers", How::Fails, ONE_TRY),
    differs("faults/closed-without-reply", How::Fails, ONE_TRY),
    differs("faults/stalled-body", How::Fails, ONE_TRY),
    differs("faults/500-once", How::Fails, ONE_TRY),
    differs("faults/503-once", How::Fails, ONE_TRY),
    differs("faults/503-with-retry-after", How::Fails, ONE_TRY),
    differs("faults/429-with-retry-after", How::Fails, ONE_TRY),
    differs("faults/garbage-once", How::Fails, ONE_TRY),
    differs("faults/changed-half-way", How::Fails, ONE_TRY),
    differs("faults/cut-for-good", How::OtherFiles, "a partial file stays under its final name"),
    differs("filters/a-slash-at-the-end", How::Fails, "a pattern that ends with a slash matches nothing"),
    differs(
        "gcs/object-beside-its-folder",
        How::OtherFiles,
        "an object is looked for only where no folder has its name",
    ),
    differs("gcs/whole-bucket", How::Fails, "a bucket without a path is one object without a name"),
    differs("gcs/nothing-there", How::OtherFiles, EMPTY_FILE),
    differs("gcs/part-of-a-segment", How::OtherFiles, EMPTY_FILE),
    differs(
        "gcs/archive-that-patterns-leave",
        How::OtherFiles,
        "the last name of the listing decides about unpacking, though it was filtered out",
    ),
    differs("gcs/climbs-out", How::Succeeds, CLIMBS_OUT),
    differs("gcs/climbs-within", How::Succeeds, CLIMBS),
    differs("gcs/backslash", How::Succeeds, BACKSLASH),
    differs("gcs/file-and-folder", How::OtherFiles, "the objects that fit are kept"),
    differs("gcs/state-folder", How::Succeeds, STATE_FOLDER),
    differs("http/percent-encoded", How::OtherFiles, "the name stays percent-encoded"),
    differs("http/json", How::Fails, TYPE),
    differs("http/html", How::Fails, TYPE),
    differs("http/gz-stays-packed", How::Fails, "a name with .gz is decompressed, whatever it holds"),
    differs("http/a-git-repository", How::OtherFiles, "a repository is cloned; this one is none"),
    differs(
        "http/a-range-among-the-headers",
        How::Fails,
        "a Range among the configured headers is sent, and 206 is no success",
    ),
    differs(
        "http/headers-stay-at-their-origin",
        How::Succeeds,
        "configured headers follow a redirect to another origin",
    ),
    differs("hub/folder", How::Fails, WHOLE),
    differs("hub/file", How::Fails, WHOLE),
    differs("hub/dataset", How::Fails, WHOLE),
    differs("hub/nothing-passes", How::Succeeds, "a repository of which nothing is wanted is downloaded"),
    differs("hub/empty-revision", How::Succeeds, "an empty revision is the default one"),
    differs("hub/without-files", How::Succeeds, "a repository without files is downloaded"),
    differs("keys/sibling-prefix", How::OtherFiles, RAW_PREFIX),
    differs("keys/part-of-a-segment", How::Succeeds, RAW_PREFIX),
    differs("keys/zero-bytes", How::OtherFiles, NO_EMPTY),
    differs("keys/zero-bytes-exact", How::Fails, NO_EMPTY),
    differs("keys/zero-bytes-alone", How::Fails, NO_EMPTY),
    differs("keys/climbs-out", How::Succeeds, CLIMBS_OUT),
    differs("keys/climbs-within", How::Succeeds, CLIMBS),
    differs("keys/climbs-to-itself", How::OtherFiles, "the other objects are kept when one cannot be written"),
    differs("keys/backslash", How::Succeeds, BACKSLASH),
    differs("keys/file-and-folder", How::OtherFiles, "the objects that fit are kept"),
    differs("keys/state-folder", How::Succeeds, STATE_FOLDER),
    differs("keys/unknown-parameter", How::Succeeds, QUERY),
    differs("keys/endpoint-in-the-uri", How::Fails, QUERY),
    differs("local/a-pattern", How::Fails, NO_PATTERN),
    differs("local/a-pattern-for-a-folder", How::Fails, NO_PATTERN),
    differs("local/one-file-is-not-filtered", How::Fails, "a file that is named in full is filtered like an entry"),
    differs("packed/capitals", How::OtherFiles, "the ending of a packing is known in small letters only"),
    differs("packed/of-any-type", How::Fails, ZIP_TYPE),
    differs("packed/without-ranges", How::Fails, ZIP_TYPE),
    differs("packed/gzip-is-no-archive", How::Fails, "a name with .gz is decompressed, whatever it holds"),
    differs("packed/on-this-machine-by-a-pattern", How::Fails, NO_PATTERN),
    differs("packed/none-on-this-machine", How::OtherFiles, UNUSABLE),
    differs("packed/none-below-a-prefix", How::OtherFiles, UNUSABLE),
    differs("process/a-user-without-a-name-and-s3", How::Fails, "its worker processes need a writable /dev/shm"),
    differs("trust/web-own-roots", How::Fails, "SSL_CERT_FILE means nothing to its web client"),
    differs("trust/web-downgrade", How::Succeeds, "a redirect from https to http is followed"),
];

const fn differs(row: &'static str, how: How, why: &'static str) -> Difference {
    Difference { row, how, why }
}
