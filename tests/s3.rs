//! S3 beyond its bytes: what stores state of them, credentials that expire, replies without bounds.
//!
//! SeaweedFS and moto are real; what they cannot do is done by a small server of the tests.

mod rig;

#[path = "s3/bounds.rs"]
mod bounds;
#[path = "s3/credentials.rs"]
mod credentials;
#[path = "s3/headers.rs"]
mod headers;
#[path = "s3/parts.rs"]
mod parts;
#[path = "s3/sums.rs"]
mod sums;

use std::sync::Arc;
use std::time::Duration;

use dray::audit::Audit;
use dray::error::Error;
use dray::manifest::Manifest;
use dray::origin::{Environment, Origin};
use dray::resolve::{self, Filter};
use dray::uri::Source;
use dray::wire;

use rig::fake::{Asked, Reply, reply};
use rig::s3::{ACCESS_KEY, SECRET_KEY};

/// Resolves `source` in this process, with these variables.
fn resolve_with(source: &str, variables: &[(&str, &str)]) -> Result<(Manifest, Arc<dyn Origin>), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut wire = wire::Settings::new(Arc::new(wire::tls::client_config(&[]).expect("TLS")));
    wire.stall_timeout = Duration::from_secs(5);
    let environment = Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let settings =
        resolve::Settings { environment, wire: Arc::new(wire), filter: Filter::default(), audit: Audit::default() };
    runtime.block_on(async { resolve::resolve(&Source::parse(source)?, &settings).await })
}

/// The same of an S3 endpoint that knows the rig's keys.
fn resolve_at(endpoint: &str, source: &str) -> Result<Manifest, Error> {
    let variables =
        [("AWS_ENDPOINT_URL", endpoint), ("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)];
    resolve_with(source, &variables).map(|(manifest, _)| manifest)
}

/// A refusal as S3 words it.
fn refusal(status: u16, code: &str) -> Reply {
    let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>said so</Message></Error>");
    reply(status, text).header("Content-Type", "application/xml")
}

fn is_list(asked: &Asked) -> bool {
    asked.parameter("list-type").is_some()
}

fn is_attributes(asked: &Asked) -> bool {
    asked.parameter("attributes").is_some()
}
