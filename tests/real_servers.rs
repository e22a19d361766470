//! `dray` against servers that nobody here wrote: SeaweedFS, nginx (HTTP, HTTPS, no ranges) and moto.
//!
//! `make test` installs them by `scripts/test-deps.sh`; without them these tests fail. What must be
//! on disk comes from `rig::oracle`, never from dray.

mod rig;

#[path = "real_servers/http.rs"]
mod http;
#[path = "real_servers/lock.rs"]
mod lock;
#[path = "real_servers/resume.rs"]
mod resume;
#[path = "real_servers/s3.rs"]
mod s3;
#[path = "real_servers/s3_names.rs"]
mod s3_names;
#[path = "real_servers/verify.rs"]
mod verify;

use rig::oracle::{Content, MIB};

/// Sizes on both sides of a piece and of a span.
const BORDER_SIZES: [u64; 8] = [0, 1, MIB - 1, MIB, MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1];

const RUNGS: [&str; 3] = ["uring", "threads", "buffered"];

/// Named contents of the border sizes.
fn border_files() -> Vec<(String, Content)> {
    let named = |size: &u64| (format!("size-{size}.bin"), Content::new(*size + 7, *size));
    BORDER_SIZES.iter().map(named).collect()
}
