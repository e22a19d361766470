//! `model-registry://[HOST[:PORT]/]MODEL[/VERSION][?namespace=NS]`: a model by its name in a Kubeflow Model Registry;
//! and what any registry may answer.

use super::{Source, decoded, shown, usage};
use crate::error::Error;

/// What a registry may name: stores of models. Azure's other names are what MLflow writes.
const NAMED_BY_REGISTRIES: [&str; 9] = ["s3", "gs", "https", "hf", "az", "wasb", "wasbs", "abfs", "abfss"];

/// Longest name of a model, version or server, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// A model that a Kubeflow Model Registry knows by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySource {
    /// `HOST` or `HOST:PORT` of the registry, where the source names it.
    pub host: Option<String>,
    /// The registered model's name.
    pub model: String,
    /// The version's name; `None` for the latest one.
    pub version: Option<String>,
    /// The namespace of the registry's service.
    pub namespace: Option<String>,
    /// What stood between the scheme and the query: names as they were written.
    place: String,
}

impl RegistrySource {
    /// Reads what follows `model-registry://`.
    ///
    /// The text alone decides what is what; no name is ever tried as a host. One token is a model. Two are MODEL and
    /// VERSION, unless the first [looks like a host](is_host). Three are HOST, MODEL and VERSION, and only then a
    /// version's name may contain `/`. Names are percent-decoded after that, so `llama%2Etiny/v1` is a model.
    pub(super) fn parse(rest: &str) -> Result<Self, Error> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.trim_end_matches('/');
        if place.contains('#') {
            return Err(usage("write `#` in a model-registry:// source as %23"));
        }
        let tokens: Vec<&str> = place.splitn(3, '/').collect();
        let (host, model, version) = match tokens.as_slice() {
            [model] => (None, *model, None),
            [host, model] if is_host(host) => (Some(*host), *model, None),
            [model, version] => (None, *model, Some(*version)),
            [host, model, version] => (Some(*host), *model, Some(*version)),
            _ => return Err(usage("a model-registry:// source names [HOST/]MODEL[/VERSION]")),
        };
        let namespace = namespace(query)?;
        if let Some(host) = host {
            check_host(host)?;
        }
        Ok(Self {
            host: host.map(str::to_owned),
            model: name("model", model)?,
            version: version.map(|version| name("version", version)).transpose()?,
            namespace,
            place: place.to_owned(),
        })
    }

    /// The source as it was written, without what means nothing.
    pub(super) fn canonical(&self) -> String {
        let namespace = self.namespace.as_ref().map(|namespace| format!("?namespace={namespace}"));
        format!("model-registry://{}{}", self.place, namespace.unwrap_or_default())
    }
}

impl Source {
    /// Reads a source that a registry answered: it may name stores of models only, never this machine's files, plain
    /// http, or another registry.
    ///
    /// # Errors
    /// [`Error::Policy`] for another scheme, which is named, or for a text that is no source.
    pub fn named_by_registry(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let scheme = text.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        let fits = |scheme: &String| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty() && scheme.len() <= 40 && fits(scheme)) else {
            return Err(Error::Policy("the registry's answer has no scheme: refused".to_owned()));
        };
        if !NAMED_BY_REGISTRIES.contains(&scheme.as_str()) {
            return Err(Error::Policy(format!(
                "the registry names a {scheme}: location; it may name only s3, gs, https, hf and Azure: refused"
            )));
        }
        Self::parse(text).map_err(|error| Error::Policy(format!("the registry's answer is no source: {error}")))
    }
}

/// Whether a first token of two is a server: it has a port, is an address, or ends in a domain's letters.
///
/// `iris`, `llama-3.1` and `Qwen2.5-7B` are models by this rule; `registry:8080`, `10.0.0.1` and `registry.kubeflow.svc`
/// are servers, and so would be a model named `llama.tiny`: write it `llama%2Etiny`.
fn is_host(token: &str) -> bool {
    let label = token.rsplit('.').next().unwrap_or_default();
    let domain = token.contains('.') && !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphabetic());
    token.contains(':') || domain || token.parse::<std::net::Ipv4Addr>().is_ok() || token == "localhost"
}

/// A server's name and port become the authority of a URL: nothing else may hide in them.
fn check_host(host: &str) -> Result<(), Error> {
    let wrong = || usage(format!("{} is not HOST or HOST:PORT of a model registry", shown(host)));
    let plain = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    if host.is_empty() || NAME_BYTES_MAX < host.len() || !plain {
        return Err(wrong());
    }
    let url = url::Url::parse(&format!("http://{host}/")).map_err(|_| wrong())?;
    url.host_str().filter(|host| !host.is_empty()).map(|_| ()).ok_or_else(wrong)
}

fn name(what: &str, text: &str) -> Result<String, Error> {
    let name = decoded(text).filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
    name.ok_or_else(|| usage(format!("the model-registry:// source's {what} {} is not a name", shown(text))))
}

fn namespace(query: &str) -> Result<Option<String>, Error> {
    let mut namespace = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if name != "namespace" || namespace.is_some() {
            return Err(usage("a model-registry:// source takes only the parameter namespace, once"));
        }
        if value.is_empty() || 63 < value.len() || !plain {
            return Err(usage(format!("{} is not a namespace", shown(&value))));
        }
        namespace = Some(value.into_owned());
    }
    Ok(namespace)
}
