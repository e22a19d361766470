//! Real servers for the tests: SeaweedFS, nginx and moto, started on free ports and ended by pid.
//!
//! `scripts/test-deps.sh` installs them. A server that is missing fails the test: it never skips.
//! State lives in temporary folders and goes with the servers, also when a test panics or the test
//! process is killed (see [`server`]).

#![expect(dead_code, reason = "each test binary uses its own part of the rig")]

pub mod dray;
pub mod nginx;
pub mod oracle;
pub mod s3;
pub mod server;

use std::sync::OnceLock;

use nginx::{Nginx, Options};
use s3::{Moto, Weed};

/// The one SeaweedFS of this test binary; a bucket per test keeps tests apart.
pub fn weed() -> &'static Weed {
    static WEED: OnceLock<Weed> = OnceLock::new();
    WEED.get_or_init(Weed::start)
}

/// The one moto of this test binary.
pub fn moto() -> &'static Moto {
    static MOTO: OnceLock<Moto> = OnceLock::new();
    MOTO.get_or_init(Moto::start)
}

/// The one nginx of this test binary, in front of [`weed`] too; a folder per test keeps tests apart.
pub fn nginx() -> &'static Nginx {
    static NGINX: OnceLock<Nginx> = OnceLock::new();
    NGINX.get_or_init(|| {
        Nginx::start(&Options {
            limit_rate: "2m",
            upstream: Some(weed().address()),
        })
    })
}
