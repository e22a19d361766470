//! Reads SRC, the name a user gives a model, into a typed [`Source`].
//!
//! In: one line of text. Out: a source whose parts were checked once, here; nothing downstream reads text again.
//! Holds: userinfo and query of a URL are reachable only through [`HttpSource::url`] and
//! [`HttpSource::userinfo`]; `Debug`, `Display` and [`Source::canonical`] never show them.

mod azure;
mod demo;
mod gcs;
mod http;
mod hub;
mod local;
mod mlflow;
mod registry;
mod s3;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

use crate::error::Error;
use text::{after_slashes, decoded, shown, usage};

pub use azure::{AzureSource, shared_access_signature};
pub use demo::DemoSource;
pub use gcs::GcsSource;
pub use http::HttpSource;
pub use hub::{HubSource, RepoKind};
pub use local::LocalSource;
pub use mlflow::{ArtifactsSource, Choice, MlflowModel, MlflowSource};
pub use registry::RegistrySource;
pub use s3::{KEY_BYTES_MAX, S3Source, check_endpoint, check_region};

/// Longest SRC that is read at all: presigned URLs with session tokens reach about 4 KiB.
pub const URI_BYTES_MAX: usize = 16 * 1024;

/// Every scheme that this build speaks, as error texts list them.
const SPOKEN: &str = "s3, gs, az, hf, https, http, file, model-registry, models, mlflow and demo";

/// Where a model is.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// `s3://bucket/prefix-or-key`
    S3(S3Source),
    /// `gs://bucket/prefix-or-object`
    Gcs(GcsSource),
    /// `az://account/container/prefix-or-blob` and the same by other names.
    Azure(AzureSource),
    /// One file at `https://…` or `http://…`.
    Http(HttpSource),
    /// `hf://owner/name`: a repository on the Hugging Face Hub.
    Hub(HubSource),
    /// `model-registry://…`: a Kubeflow registry says where.
    Registry(RegistrySource),
    /// `models:/…` or `mlflow://…`: an MLflow registry says where.
    Mlflow(MlflowSource),
    /// `mlflow-artifacts:/…`: files an MLflow server hands out itself.
    Artifacts(ArtifactsSource),
    /// `file:///…` or a path: on this machine.
    Local(LocalSource),
    /// `demo://`: the embedded arena.
    Demo(DemoSource),
}

impl Source {
    /// Reads SRC.
    ///
    /// # Errors
    /// [`Error::Usage`] with what is wrong; the text never repeats userinfo or query.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        if URI_BYTES_MAX < text.len() {
            return Err(usage(format!("the source is longer than {URI_BYTES_MAX} bytes")));
        }
        if text.chars().any(char::is_control) {
            return Err(usage("the source contains a control character"));
        }
        if let Some(local) = LocalSource::of_path(text) {
            return Ok(Self::Local(local));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(usage(
                "the source has no scheme; examples: s3://bucket/model, model-registry://iris, ./folder",
            ));
        };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "s3" => S3Source::parse(after_slashes("s3", rest)?).map(Self::S3),
            "gs" => GcsSource::parse(after_slashes("gs", rest)?).map(Self::Gcs),
            "az" | "wasb" | "wasbs" | "abfs" | "abfss" => {
                AzureSource::parse(&scheme, after_slashes(&scheme, rest)?).map(Self::Azure)
            }
            "http" | "https" => match AzureSource::of_url(text)? {
                Some(azure) => Ok(Self::Azure(azure)),
                None => HttpSource::parse(text).map(Self::Http),
            },
            "hf" => HubSource::parse(after_slashes("hf", rest)?).map(Self::Hub),
            "model-registry" => RegistrySource::parse(after_slashes("model-registry", rest)?).map(Self::Registry),
            "models" | "mlflow" => MlflowSource::parse(&scheme, rest).map(Self::Mlflow),
            "mlflow-artifacts" => ArtifactsSource::parse(rest).map(Self::Artifacts),
            "file" => LocalSource::parse(rest).map(Self::Local),
            "demo" => DemoSource::parse(after_slashes("demo", rest)?).map(Self::Demo),
            _ => Err(usage(format!("the source's scheme is not one of {SPOKEN}"))),
        }
    }

    /// The source as reports, receipts and logs show it: no userinfo, no query.
    ///
    /// Two plain queries of one path name two objects, so a digest of the query stands in for it;
    /// parameters that only sign (and change with every new link) are left out of that digest.
    pub fn canonical(&self) -> String {
        match self {
            Self::S3(s3) => format!("s3://{}/{}", s3.bucket, s3.key),
            Self::Gcs(gcs) => format!("gs://{}/{}", gcs.bucket, gcs.object),
            Self::Azure(azure) => azure.canonical(),
            Self::Http(http) => http.canonical(),
            Self::Hub(hub) => hub.to_string(),
            Self::Registry(registry) => registry.canonical(),
            Self::Mlflow(mlflow) => mlflow.canonical(),
            Self::Artifacts(artifacts) => artifacts.canonical(),
            Self::Local(local) => local.canonical(),
            Self::Demo(demo) => format!("demo://{}?files={}&seed={}", demo.total_bytes, demo.files, demo.seed),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}
