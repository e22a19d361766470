//! This process's variables, read once, and the trust, proxies and timeouts they ask for.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cli::kserve;
use crate::error::Error;
use crate::limits::Limits;
use crate::origin::Environment;
use crate::uri::Source;
use crate::wire::rate::Limiter;
use crate::wire::{self, Counters};

/// Where KServe mounts a bundle unless it says otherwise, and the bundle's name there.
const BUNDLE_FOLDER: &str = "/etc/ssl/custom-certs";
const BUNDLE_NAME: &str = "cabundle.crt";

/// This process's variables with KServe's storage configuration applied; one that is not UTF-8 is nobody's setting.
pub(super) fn process() -> Result<Environment, Error> {
    kserve::configured(Environment::new(
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    ))
}

/// What several pulls of one run share of the wire: the rate, and connections where their sources are of one kind.
///
/// It is of one set of limits and variables.
#[derive(Default)]
pub(super) struct Wires {
    rate: OnceCell<Option<Arc<Limiter>>>,
    /// No more than there are kinds.
    made: RefCell<Vec<(Discriminant<Source>, Arc<wire::Settings>)>>,
}

impl Wires {
    /// The same rate, and nothing else in common: for sources that a registry named, with variables of their own.
    pub(super) fn apart(&self) -> Self {
        Self { rate: self.rate.clone(), made: RefCell::default() }
    }

    /// As [`wire_settings`] of a run of its own, under the rate of all.
    ///
    /// # Errors
    /// As [`wire_settings`].
    pub(super) fn settings(
        &self,
        limits: &Limits,
        environment: &Environment,
        source: &Source,
        counters: &Counters,
    ) -> Result<Arc<wire::Settings>, Error> {
        let rate = self.rate.get_or_init(|| limits.rate_bytes_max.map(|rate| Arc::new(Limiter::new(rate)))).clone();
        let make = || Ok(Arc::new(wire_settings(limits, environment, source, counters, rate)?));
        if !is_shareable(source) {
            return make();
        }
        let kind = discriminant(source);
        if let Some((_, made)) = self.made.borrow().iter().find(|(of, _)| *of == kind) {
            return Ok(made.clone());
        }
        let made = make()?;
        self.made.borrow_mut().push((kind, made.clone()));
        Ok(made)
    }
}

/// Whether what settings remember of `source`, where it redirected to, may serve others too: only what the user named,
/// and not as somebody.
fn is_shareable(source: &Source) -> bool {
    match source {
        Source::Http(source) => source.userinfo().is_none(),
        Source::S3(_) | Source::Gcs(_) | Source::Azure(_) | Source::Hub(_) => true,
        _ => false,
    }
}

/// TLS, proxies and timeouts of the connections for `source`.
///
/// # Errors
/// [`Error::Usage`] for a bundle or a proxy that cannot be used.
fn wire_settings(
    limits: &Limits,
    environment: &Environment,
    source: &Source,
    counters: &Counters,
    rate: Option<Arc<Limiter>>,
) -> Result<wire::Settings, Error> {
    let either = |upper: &str, lower: &str| environment.var(lower).or_else(|| environment.var(upper));
    let bundles = bundles(environment, source);
    let insecure = match source {
        Source::S3(_) => environment.refuses("S3_VERIFY_SSL"),
        Source::Mlflow(_) | Source::Artifacts(_) => unverified_mlflow(environment)?,
        _ => false,
    };
    let mut settings = if insecure {
        let mut settings = wire::Settings::new(Arc::new(wire::tls::unverified_config()?));
        // What is not looked at need not be there or make sense; those who issue credentials are still verified.
        let usable = |path: &PathBuf| wire::tls::client_config(std::slice::from_ref(path)).is_ok();
        let there: Vec<PathBuf> = bundles.into_iter().filter(usable).collect();
        settings.identity_tls = trust(there)?;
        settings
    } else {
        wire::Settings::new(trust(bundles)?)
    };
    let (http, https) = (either("HTTP_PROXY", "http_proxy"), either("HTTPS_PROXY", "https_proxy"));
    settings.proxies = wire::proxy::Proxies::new(http, https, either("NO_PROXY", "no_proxy"))?;
    settings.stall_timeout = limits.stall_timeout;
    if let (Source::S3(_), Some(timeout)) = (source, kserve::hints(environment)?.connect_timeout) {
        settings.connect_timeout = timeout;
    }
    settings.rate = rate;
    settings.counters = counters.clone();
    Ok(settings)
}

/// Trust in the built-in roots and those of `bundles`: read once, as each of many models would hold 300 KiB of it, and
/// sessions of one are resumed by the next.
///
/// # Errors
/// As [`wire::tls::client_config`].
fn trust(bundles: Vec<PathBuf>) -> Result<Arc<rustls::ClientConfig>, Error> {
    static READ: Mutex<BTreeMap<Vec<PathBuf>, Arc<rustls::ClientConfig>>> = Mutex::new(BTreeMap::new());
    // Whoever panicked here left the map whole.
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(config) = read.get(&bundles) {
        return Ok(config.clone());
    }
    let config = Arc::new(wire::tls::client_config(&bundles)?);
    read.insert(bundles, config.clone());
    Ok(config)
}

/// Whether the user turned verification off for the MLflow server.
///
/// # Errors
/// [`Error::Usage`] when a certificate is named as well, as MLflow's own client has it.
fn unverified_mlflow(environment: &Environment) -> Result<bool, Error> {
    let insecure = environment.flag("MLFLOW_TRACKING_INSECURE_TLS");
    if insecure && environment.var("MLFLOW_TRACKING_SERVER_CERT_PATH").is_some() {
        let text = "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH exclude each other";
        return Err(Error::Usage(text.to_owned()));
    }
    Ok(insecure)
}

/// Files of roots beside the built-in ones. KServe's own bundle must be there for S3, unless `AWS_CA_BUNDLE` stands
/// in for it; for other sources it counts when it can be read, as upstream has it.
fn bundles(environment: &Environment, source: &Source) -> Vec<PathBuf> {
    let named = ["SSL_CERT_FILE", "AWS_CA_BUNDLE"].iter().filter_map(|name| environment.var(name));
    let mut bundles: Vec<PathBuf> = named.map(PathBuf::from).collect();
    let own = match source {
        Source::Registry(_) => environment.var("MODEL_REGISTRY_CA_FILE"),
        Source::Mlflow(_) | Source::Artifacts(_) => environment.var("MLFLOW_TRACKING_SERVER_CERT_PATH"),
        _ => None,
    };
    bundles.extend(own.map(PathBuf::from));
    if environment.var("CA_BUNDLE_CONFIGMAP_NAME").is_some() {
        let folder = environment.var("CA_BUNDLE_VOLUME_MOUNT_POINT").unwrap_or(BUNDLE_FOLDER);
        let path = PathBuf::from(folder).join(BUNDLE_NAME);
        let required = matches!(source, Source::S3(_)) && environment.var("AWS_CA_BUNDLE").is_none();
        match wire::tls::client_config(std::slice::from_ref(&path)) {
            Err(error) if !required => tracing::warn!(%error, "KServe's bundle is left out"),
            _ => bundles.push(path),
        }
    }
    bundles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, variables: &[(&str, &str)], expected: &[&str]) {
        let environment =
            Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let found = bundles(&environment, &Source::parse(source).unwrap());
        assert_eq!(found, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{source} {variables:?}");
    }

    #[test]
    fn a_bundle_of_kserve_is_required_for_s3_and_welcome_elsewhere() {
        let named = ("CA_BUNDLE_CONFIGMAP_NAME", "bundle");
        let mounted = ("CA_BUNDLE_VOLUME_MOUNT_POINT", "/nonexistent");
        check("s3://bucket/m", &[named], &["/etc/ssl/custom-certs/cabundle.crt"]);
        check("s3://bucket/m", &[named, mounted], &["/nonexistent/cabundle.crt"]);
        check("s3://bucket/m", &[named, mounted, ("AWS_CA_BUNDLE", "/ca")], &["/ca"]);
        check("s3://bucket/m", &[mounted], &[]);
        check("https://host/m", &[named, mounted], &[]);
        check("https://host/m", &[("SSL_CERT_FILE", "/roots"), ("AWS_CA_BUNDLE", "/ca")], &["/roots", "/ca"]);
    }

    #[test]
    fn a_registrys_own_roots_are_for_the_registry_alone() {
        let named = [("MODEL_REGISTRY_CA_FILE", "/mr"), ("MLFLOW_TRACKING_SERVER_CERT_PATH", "/mlflow")];
        check("model-registry://iris", &named, &["/mr"]);
        check("models:/iris/1", &named, &["/mlflow"]);
        check("mlflow-artifacts:/1/x", &named, &["/mlflow"]);
        check("s3://bucket/m", &named, &[]);
        check("https://host/m", &named, &[]);
    }
}
