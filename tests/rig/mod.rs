//! Real servers for the tests: SeaweedFS, nginx, moto, two of Google's store and Azurite, on free ports and ended by pid; and [`fake`], which is none.
//!
//! `scripts/test-deps.sh`, `scripts/gcs-deps.sh` and `scripts/azure-deps.sh` install them. A server that is missing fails the test: it never skips.
//! State lives in temporary folders and goes with the servers, also when a test panics or the test
//! process is killed (see [`server`]).

#![expect(dead_code, reason = "each test binary uses its own part of the rig")]

pub(crate) mod azure;
pub(crate) mod dray;
pub(crate) mod fake;
pub(crate) mod gcs;
pub(crate) mod hub;
pub(crate) mod nginx;
pub(crate) mod oracle;
pub(crate) mod s3;
pub(crate) mod server;

use std::sync::OnceLock;

use azure::Azurite;
use gcs::Emulator;
use nginx::{Nginx, Options};
use s3::{Moto, Weed};

/// The one SeaweedFS of this test binary; a bucket per test keeps tests apart.
pub(crate) fn weed() -> &'static Weed {
    static WEED: OnceLock<Weed> = OnceLock::new();
    WEED.get_or_init(Weed::start)
}

/// The one moto of this test binary.
pub(crate) fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start)
}

/// The one fake-gcs-server of this test binary.
pub(crate) fn fake_gcs() -> &'static Emulator {
    static EMULATOR: OnceLock<Emulator> = OnceLock::new();
    EMULATOR.get_or_init(Emulator::start)
}

/// The one gcp-storage-emulator of this test binary.
pub(crate) fn weaker_gcs() -> &'static Emulator {
    static EMULATOR: OnceLock<Emulator> = OnceLock::new();
    EMULATOR.get_or_init(Emulator::start_weaker)
}

/// The one Azurite of this test binary.
pub(crate) fn azurite() -> &'static Azurite {
    static AZURITE: OnceLock<Azurite> = OnceLock::new();
    AZURITE.get_or_init(Azurite::start)
}

/// An nginx whose slow ports send each connection 2 MiB a second.
pub(crate) fn nginx() -> Nginx {
    Nginx::start(&Options { limit_rate: "2m", upstream: None })
}

/// An nginx before [`weed`], so that its requests are counted and can be slowed.
pub(crate) fn nginx_before_weed(limit_rate: &'static str) -> Nginx {
    Nginx::start(&Options { limit_rate, upstream: Some(weed().address()) })
}

/// A new folder on the disk that the build uses: a real file system, where `/tmp` may be none.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary folder")
}
