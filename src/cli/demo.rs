//! `demo://`: the embedded arena, a real S3 endpoint on loopback with a generated model.

use crate::error::Error;
use crate::origin::Environment;
use crate::uri::{DemoSource, S3Source};

/// A running arena; it stops when this is dropped.
#[cfg(feature = "arena")]
pub(super) struct Demo(dray_arena::S3Arena);

#[cfg(feature = "arena")]
impl Demo {
    /// Starts the arena on a free port of 127.0.0.1.
    pub(super) fn start(spec: DemoSource) -> Result<Self, Error> {
        let DemoSource { total_bytes, files, seed } = spec;
        let started = dray_arena::demo(dray_arena::ModelSpec { total_bytes, files, seed });
        started.map(Self).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => Error::Usage(format!("demo://: {error}")),
            _ => Error::Internal(format!("the demo origin could not be started: {error}")),
        })
    }

    /// The model's place in the arena.
    pub(super) fn source(&self) -> S3Source {
        S3Source {
            bucket: "demo".to_owned(),
            key: "model".to_owned(),
            endpoint: Some(self.0.endpoint()),
            region: Some("us-east-1".to_owned()),
        }
    }

    /// The arena's own credentials instead of the user's.
    pub(super) fn environment(&self) -> Environment {
        let pairs = [
            ("AWS_ENDPOINT_URL_S3", self.0.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", self.0.access_key().to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.0.secret_key().to_owned()),
        ];
        Environment::new(pairs.map(|(name, value)| (name.to_owned(), value)))
    }
}

/// Stands in where the arena is left out (the image).
#[cfg(not(feature = "arena"))]
pub(super) struct Demo(std::convert::Infallible);

#[cfg(not(feature = "arena"))]
impl Demo {
    /// Always refuses.
    pub(super) fn start(_: DemoSource) -> Result<Self, Error> {
        Err(Error::Usage("this build has no demo origin; build it with the default features".to_owned()))
    }

    /// Never reached: there is no value of this type.
    pub(super) fn source(&self) -> S3Source {
        match self.0 {}
    }

    /// Never reached: there is no value of this type.
    pub(super) fn environment(&self) -> Environment {
        match self.0 {}
    }
}
