//! The MLflow server that the environment names, and the login it is asked with; the pod's service account.
//!
//! Holds: a login goes to the server that the environment names and to no other; a service account's token goes out
//! over https, or stays inside the cluster.

use std::io::Read;
use std::path::Path;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::Error;
use crate::origin::Environment;
use crate::origin::rest::{Login, secret_header};
use crate::secret::Secret;
use crate::wire::address::{Class, class_of_host};
use crate::wire::proxy::base64;

/// The token that Kubernetes mounts into every pod.
pub(crate) const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The pod's namespace, beside the token.
const SERVICE_ACCOUNT_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Tokens are a few KiB.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Which workspace of an MLflow server is meant.
const WORKSPACE: HeaderName = HeaderName::from_static("x-mlflow-workspace");

/// An MLflow server.
pub(crate) struct Tracking {
    pub(crate) url: url::Url,
    pub(crate) login: Login,
}

impl Tracking {
    /// The server of the model registry: `MLFLOW_REGISTRY_URI`, or the tracking server.
    ///
    /// # Errors
    /// [`Error::Usage`] when none is named, or something cannot be used.
    pub(crate) fn registry(environment: &Environment) -> Result<Self, Error> {
        Self::of(environment, &["MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI"])
    }

    /// The server of runs and artifacts: `MLFLOW_TRACKING_URI`, or the registry's.
    ///
    /// # Errors
    /// As [`Tracking::registry`].
    pub(crate) fn artifacts(environment: &Environment) -> Result<Self, Error> {
        Self::of(environment, &["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
    }

    fn of(environment: &Environment, names: &[&str]) -> Result<Self, Error> {
        let named = names.iter().find_map(|name| environment.var(name).map(|value| (*name, value)));
        let Some((name, value)) = named else {
            return Err(Error::Usage("set MLFLOW_TRACKING_URI to the MLflow server's URL".to_owned()));
        };
        if environment.var("MLFLOW_TRACKING_CLIENT_CERT_PATH").is_some() {
            let text = "MLFLOW_TRACKING_CLIENT_CERT_PATH: this build presents no client certificates";
            return Err(Error::Usage(text.to_owned()));
        }
        let url = server_url(name, value)?;
        let mut login = login(environment, &url)?;
        if let Some(workspace) = environment.var("MLFLOW_WORKSPACE") {
            let value = HeaderValue::from_str(workspace);
            let value = value.map_err(|_| Error::Usage("MLFLOW_WORKSPACE is not plain text".to_owned()))?;
            login.headers.insert(WORKSPACE, value);
        }
        Ok(Self { url, login })
    }
}

/// Reads the URL of a registry's server from the setting `name`.
///
/// # Errors
/// [`Error::Usage`] unless it is http or https with a host, and without userinfo, query and fragment.
pub(crate) fn server_url(name: &str, value: &str) -> Result<url::Url, Error> {
    let text = crate::uri::check_endpoint(name, value)?;
    url::Url::parse(&text).map_err(|error| Error::Usage(format!("{name} is not a URL: {error}")))
}

fn login(environment: &Environment, url: &url::Url) -> Result<Login, Error> {
    let basic = environment.var("MLFLOW_TRACKING_USERNAME").zip(environment.var("MLFLOW_TRACKING_PASSWORD"));
    if let Some((user, password)) = basic {
        let pair = base64(format!("{user}:{password}").as_bytes());
        let value = secret_header("MLFLOW_TRACKING_USERNAME", &format!("Basic {pair}"))?;
        let secrets = vec![Secret::new(user), Secret::new(password)];
        return Ok(Login { headers: HeaderMap::from_iter([(AUTHORIZATION, value)]), secrets, kind: "basic login" });
    }
    if let Some(token) = environment.var("MLFLOW_TRACKING_TOKEN") {
        return bearer("MLFLOW_TRACKING_TOKEN", &Secret::new(token), "bearer token");
    }
    let kind = environment.var("MLFLOW_TRACKING_AUTH").unwrap_or_default();
    if !matches!(kind, "kubernetes" | "kubernetes-namespaced") {
        let known = kind.is_empty();
        let text = "MLFLOW_TRACKING_AUTH is neither kubernetes nor kubernetes-namespaced";
        return if known { Ok(nobody()) } else { Err(Error::Usage(text.to_owned())) };
    }
    if !token_may_travel(url) {
        let text = "MLFLOW_TRACKING_AUTH: a service account token goes to an MLflow server over https or inside the cluster only";
        return Err(Error::Usage(text.to_owned()));
    }
    let token = read_token(Path::new(SERVICE_ACCOUNT_TOKEN))?;
    let mut login = bearer(SERVICE_ACCOUNT_TOKEN, &token, "service account token")?;
    if kind == "kubernetes-namespaced" {
        let namespace = read_token(Path::new(SERVICE_ACCOUNT_NAMESPACE))?;
        let value = HeaderValue::from_str(namespace.expose());
        let value = value.map_err(|_| Error::Usage(format!("{SERVICE_ACCOUNT_NAMESPACE} is not plain text")))?;
        login.headers.insert(WORKSPACE, value);
    }
    Ok(login)
}

/// A login without any.
pub(crate) fn nobody() -> Login {
    Login { kind: "anonymous", ..Login::default() }
}

/// A login by bearer token; `what` names where it is from.
///
/// # Errors
/// [`Error::Usage`] when it makes no header.
pub(crate) fn bearer(what: &str, token: &Secret, kind: &'static str) -> Result<Login, Error> {
    let value = secret_header(what, &format!("Bearer {}", token.expose()))?;
    Ok(Login { headers: HeaderMap::from_iter([(AUTHORIZATION, value)]), secrets: vec![token.clone()], kind })
}

/// Reads a token's file, without the line end that editors leave.
///
/// # Errors
/// [`Error::Usage`] when it cannot be read, is empty or too long.
pub(crate) fn read_token(path: &Path) -> Result<Secret, Error> {
    let wrong = |why: &str| Error::Usage(format!("token file {}: {why}", path.display()));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(&error.to_string()))?;
    let read = file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| wrong(&error.to_string()))?;
    if text.trim().is_empty() || TOKEN_BYTES_MAX < u64::try_from(read).unwrap_or(u64::MAX) {
        return Err(wrong("empty, or too long for a token"));
    }
    Ok(Secret::new(text.trim()))
}

/// Whether a service account's token may go to a server that the user configured: nobody on the way may read it.
pub(crate) fn token_may_travel(url: &url::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
    let inside = !host.contains(['.', ':']) || is_service(host, "svc.cluster.local");
    let near = matches!(class_of_host(host), Some(Class::Loopback | Class::Private));
    url.scheme() == "https" || inside || near
}

/// Whether a host is a service of this cluster by its full name.
pub(crate) fn is_service(host: &str, domain: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    below(&domain.to_ascii_lowercase()) || below("svc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_token_travels_in_secret_or_inside() {
        for (url, may) in [
            ("https://mlflow.example.com", true),
            ("http://mlflow.example.com", false),
            ("http://203.0.113.7:5000", false),
            ("http://mlflow", true),
            ("http://mlflow.models.svc:5000", true),
            ("http://mlflow.models.svc.cluster.local:5000", true),
            ("http://127.0.0.1:5000", true),
            ("http://[::1]:5000", true),
            ("http://10.1.2.3:5000", true),
            ("http://evilsvc.cluster.local.example.com", false),
            ("http://[2001:db8::1]", false),
        ] {
            assert_eq!(token_may_travel(&url::Url::parse(url).unwrap()), may, "{url}");
        }
        assert!(is_service("a.b.svc.corp", "svc.corp") && !is_service("svc.corp", "svc.corp"));
        assert!(!is_service("xsvc.corp", "svc.corp"));
    }

    #[test]
    fn the_registry_comes_before_the_tracking_server_and_logins_have_an_order() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Environment::new(pairs)
        };
        let both = of(&[("MLFLOW_REGISTRY_URI", "http://r"), ("MLFLOW_TRACKING_URI", "http://t/base/")]);
        assert_eq!(Tracking::registry(&both).unwrap().url.as_str(), "http://r/");
        assert_eq!(Tracking::artifacts(&both).unwrap().url.as_str(), "http://t/base");
        for (pairs, kind) in [
            (
                &[("MLFLOW_TRACKING_USERNAME", "u"), ("MLFLOW_TRACKING_PASSWORD", "p"), ("MLFLOW_TRACKING_TOKEN", "t")]
                    [..],
                "basic login",
            ),
            (&[("MLFLOW_TRACKING_USERNAME", "u"), ("MLFLOW_TRACKING_TOKEN", "t")], "bearer token"),
            (&[], "anonymous"),
        ] {
            let environment = of(&[&[("MLFLOW_TRACKING_URI", "http://t")], pairs].concat());
            assert_eq!(Tracking::registry(&environment).unwrap().login.kind, kind);
        }
        for wrong in [
            &[][..],
            &[("MLFLOW_TRACKING_URI", "sqlite:///m.db")],
            &[("MLFLOW_TRACKING_URI", "databricks")],
            &[("MLFLOW_TRACKING_URI", "http://u:canary@t")],
            &[("MLFLOW_TRACKING_URI", "http://t"), ("MLFLOW_TRACKING_AUTH", "arn")],
            &[("MLFLOW_TRACKING_URI", "http://t"), ("MLFLOW_TRACKING_CLIENT_CERT_PATH", "/c")],
            &[("MLFLOW_TRACKING_URI", "http://203.0.113.7"), ("MLFLOW_TRACKING_AUTH", "kubernetes")],
        ] {
            let Err(Error::Usage(text)) = Tracking::registry(&of(wrong)).map(|_| ()) else { panic!("{wrong:?}") };
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
