//! The Kubeflow Model Registry's REST API: model, version, artifact, its URI.
//!
//! Holds: a token goes to the configured registry or to a service of this cluster, never to another host that a
//! source names; every list is read to its end, and its end is bounded.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;

use super::select::{Item, newer};
use super::{Answer, named};
use crate::error::Error;
use crate::origin::Environment;
use crate::origin::rest::{Login, Rest, Said};
use crate::origin::tracking::{self, SERVICE_ACCOUNT_TOKEN, bearer, nobody, read_token, server_url};
use crate::resolve::Settings;
use crate::secret::Secret;
use crate::uri::RegistrySource;
use crate::wire::address::{Class, class_of_host};
use crate::wire::refusal::clean;
use crate::wire::{self, Policy};

/// The API's versions, the one that every server has first; clients of today ask the other.
const APIS: [&str; 2] = ["v1alpha3", "v1"];

/// Entries asked per page.
const PAGE_ITEMS: &str = "200";

/// Most pages of one list: twenty thousand versions, or artifacts of one.
const PAGES_MAX: usize = 100;

/// Where a registry is, when nothing says so.
const BASE_DEFAULT: &str = "localhost:8080";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Option<Vec<Item>>,
    next_page_token: Option<String>,
}

/// A registry that answers to one version of the API.
struct Registry {
    rest: Rest,
    api: &'static str,
}

/// Where a registry is, and whether a token may go there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    url: url::Url,
    trusted: Trust,
}

/// Whether a token may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Token,
    /// The source names a host outside the cluster that the settings do not.
    Foreign,
    /// Anybody on the way could read it.
    Plain,
}

/// Finds out where the files of a registered model's version are.
///
/// # Errors
/// See [`super::locate`].
pub(super) async fn locate(source: &RegistrySource, settings: &Settings) -> Result<Answer, Error> {
    let environment = &settings.environment;
    let server = server(source, environment)?;
    let login = login(&server, environment)?;
    let rest = Rest::new(server.url, login, settings.wire.clone(), Policy::Configured)?;
    settings.audit.credential(&rest.origin()?.to_string(), rest.login().kind);
    let (registry, model) = Registry::find(rest, &source.model).await?;
    let (version, remark) = registry.version(source, &model).await?;
    let (uri, class) = registry.artifact(source, &version).await?;
    let (found, policy) = named(&uri, class)?;
    let version = version.title().to_owned();
    Ok(Answer { source: found, named: policy, environment: environment.clone(), version, remark })
}

impl Registry {
    /// The registered model, under the first version of the API that the server has.
    async fn find(rest: Rest, model: &str) -> Result<(Self, Item), Error> {
        let mut registry = Self { rest, api: APIS[0] };
        for api in APIS {
            registry.api = api;
            let path = registry.path(&["registered_model"]);
            match registry.rest.get::<Item>(&path, &[("name", model)]).await? {
                Said::Yes(item, _) => return Ok((registry, item)),
                Said::No(refusal) if refusal.by_api => {
                    let place = registry.rest.place();
                    return Err(Error::NotFound(format!("no model `{model}` at {place}: {}", refusal.message)));
                }
                Said::No(_) => {}
            }
        }
        let text = format!("{} has no model registry API, or no model `{model}`", registry.rest.place());
        Err(Error::NotFound(text))
    }

    /// The version that was named, or the newest live one.
    async fn version(&self, source: &RegistrySource, model: &Item) -> Result<(Item, Option<&'static str>), Error> {
        let id = self.id(model)?;
        let RegistrySource { model: name, version, .. } = source;
        let Some(version) = version else {
            if model.is_archived() {
                return Err(Error::NotFound(format!("model `{name}` is archived; name a version to take it anyway")));
            }
            let path = self.path(&["registered_models", id, "versions"]);
            let (newest, _) = self.newest(&path, |item| !item.is_archived()).await?;
            let none = || Error::NotFound(format!("model `{name}` has no live version at {}", self.rest.place()));
            return newest.map(|item| (item, None)).ok_or_else(none);
        };
        let path = self.path(&["model_version"]);
        match self.rest.get::<Item>(&path, &[("name", version), ("parentResourceId", id)]).await? {
            Said::Yes(item, _) => {
                let archived = item.is_archived() || model.is_archived();
                Ok((item, archived.then_some("archived")))
            }
            Said::No(refusal) => {
                let place = self.rest.place();
                Err(Error::NotFound(format!(
                    "model `{name}` has no version `{version}` at {place}: {}",
                    refusal.message
                )))
            }
        }
    }

    /// What the newest model artifact of `version` says.
    async fn artifact(&self, source: &RegistrySource, version: &Item) -> Result<(String, Class), Error> {
        let path = self.path(&["model_versions", self.id(version)?, "artifacts"]);
        let (newest, class) = self.newest(&path, Item::is_model_artifact).await?;
        let none = |what: &str| {
            let RegistrySource { model, .. } = source;
            Error::NotFound(format!("version `{}` of model `{model}` has {what}", clean(version.title())))
        };
        let artifact = newest.ok_or_else(|| none("no model artifact"))?;
        let uri = artifact.uri.filter(|uri| !uri.trim().is_empty());
        uri.map(|uri| (uri, class)).ok_or_else(|| none("a model artifact without a URI"))
    }

    /// The newest entry of a list that is `wanted`, and where the peer that listed it is.
    async fn newest(&self, path: &[&str], wanted: impl Fn(&Item) -> bool) -> Result<(Option<Item>, Class), Error> {
        let (mut best, mut seen, mut token) = (None, HashSet::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut query = vec![("orderBy", "CREATE_TIME"), ("sortOrder", "DESC"), ("pageSize", PAGE_ITEMS)];
            query.extend(token.as_deref().map(|token| ("nextPageToken", token)));
            let (page, class) = match self.rest.get::<Page>(path, &query).await? {
                Said::Yes(page, class) => (page, class),
                Said::No(refusal) => {
                    let place = self.rest.place();
                    let text = format!("{place} does not list what it knows: {} ({})", refusal.message, refusal.status);
                    return Err(Error::Network(text));
                }
            };
            best = page.items.unwrap_or_default().into_iter().filter(|item| wanted(item)).fold(best, newer);
            match page.next_page_token.filter(|token| !token.is_empty()) {
                None => return Ok((best, class)),
                Some(next) if !seen.insert(next.clone()) => break,
                Some(next) => token = Some(next),
            }
        }
        Err(Error::Network(format!("{} lists without end", self.rest.place())))
    }

    fn path<'a>(&self, below: &[&'a str]) -> Vec<&'a str> {
        [["api", "model_registry", self.api].as_slice(), below].concat()
    }

    /// The number that lists are asked with.
    fn id<'a>(&self, item: &'a Item) -> Result<&'a str, Error> {
        let id = item.id.as_deref().filter(|id| !matches!(*id, "" | "." | ".."));
        id.ok_or_else(|| Error::Network(format!("{} answers without an id", self.rest.place())))
    }
}

/// Where the registry of `source` is: its host, its namespace's service, or the configured one.
fn server(source: &RegistrySource, environment: &Environment) -> Result<Server, Error> {
    let setting = ["MODEL_REGISTRY_BASE_URL", "MR_BASE_URL"];
    let (setting, value) = setting
        .into_iter()
        .find_map(|name| environment.var(name).map(|value| (name, value)))
        .unwrap_or(("MODEL_REGISTRY_BASE_URL", BASE_DEFAULT));
    let scheme = environment.var("MODEL_REGISTRY_SCHEME").map(str::to_ascii_lowercase);
    if scheme.as_deref().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Error::Usage("MODEL_REGISTRY_SCHEME is neither http nor https".to_owned()));
    }
    let base = if value.contains("://") {
        server_url(setting, value)?
    } else {
        server_url(setting, &format!("{}://{value}", scheme.as_deref().unwrap_or("http")))?
    };
    let scheme = scheme.unwrap_or_else(|| base.scheme().to_owned());
    let domain = environment.var("MODEL_REGISTRY_CLUSTER_DOMAIN").unwrap_or("svc.cluster.local");
    let service = |service: &str, namespace: &str| match service.split_once(':') {
        Some((service, port)) => format!("{scheme}://{service}.{namespace}.{domain}:{port}"),
        None => format!("{scheme}://{service}.{namespace}.{domain}:{}", base.port().unwrap_or(8080)),
    };
    let (url, of_source) = match (&source.host, &source.namespace) {
        (None, None) => (base.clone(), None),
        (None, Some(namespace)) => {
            let name = environment.var("MODEL_REGISTRY_SERVICE_NAME").unwrap_or("model-registry-service");
            (server_url("MODEL_REGISTRY_SERVICE_NAME", &service(name, namespace))?, None)
        }
        // A service's bare name means the one of that namespace; a full name or an address says more than it.
        (Some(host), Some(namespace)) if is_bare(host) => {
            (server_url("the source's host", &service(host, namespace))?, Some(host))
        }
        (Some(host), _) => (server_url("the source's host", &format!("{scheme}://{host}"))?, Some(host)),
    };
    let host = url.host_str().unwrap_or_default();
    let service = tracking::is_service(host, domain);
    let configured = of_source.is_none() || url.origin() == base.origin();
    let near = class_of_host(host.trim_matches(['[', ']'])).is_some_and(|class| class == Class::Loopback);
    let trusted = if !configured && !service {
        Trust::Foreign
    } else if url.scheme() == "https" || service || near || (configured && tracking::token_may_travel(&url)) {
        Trust::Token
    } else {
        Trust::Plain
    };
    Ok(Server { url, trusted })
}

fn is_bare(host: &str) -> bool {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    !name.contains(['.', '[']) && !wire::address::is_localhost(name)
}

/// As whom the registry is asked: the token that is configured, or the pod's own, where it may be sent.
fn login(server: &Server, environment: &Environment) -> Result<Login, Error> {
    let file = |name: &'static str| environment.var(name).map(|path| (path, name));
    let token = if let Some(token) = environment.var("MODEL_REGISTRY_TOKEN") {
        Some((Secret::new(token), "bearer token"))
    } else if let Some((path, _)) = file("MODEL_REGISTRY_TOKEN_FILE") {
        Some((read_token(Path::new(path))?, "bearer token"))
    } else if let Some((path, _)) = file("KF_PIPELINES_SA_TOKEN_PATH") {
        Some((read_token(Path::new(path))?, "service account token"))
    } else if Path::new(SERVICE_ACCOUNT_TOKEN).exists() {
        Some((read_token(Path::new(SERVICE_ACCOUNT_TOKEN))?, "service account token"))
    } else {
        None
    };
    match (token, server.trusted) {
        (Some((token, kind)), Trust::Token) => bearer("the model registry's token", &token, kind),
        (None, _) => Ok(Login { kind: "anonymous: no token is configured", ..nobody() }),
        (Some(_), Trust::Foreign) => {
            let kind = "anonymous: the token is not for this host; set MODEL_REGISTRY_BASE_URL";
            Ok(Login { kind, ..nobody() })
        }
        (Some(_), Trust::Plain) => {
            let kind = "anonymous: the token does not go over plain http; use https";
            Ok(Login { kind, ..nobody() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::Source;

    fn check(text: &str, variables: &[(&str, &str)], url: &str, trusted: Trust) {
        let Ok(Source::Registry(source)) = Source::parse(text) else { panic!("{text}") };
        let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let server = server(&source, &Environment::new(pairs)).unwrap();
        assert_eq!((server.url.as_str().trim_end_matches('/'), server.trusted), (url, trusted), "{text} {variables:?}");
    }

    #[test]
    fn the_registry_is_the_sources_host_the_namespaces_service_or_the_configured_one() {
        use Trust::{Foreign, Plain, Token};
        let base = |value| [("MODEL_REGISTRY_BASE_URL", value)];
        let near = base("127.0.0.1:9000");
        check("model-registry://iris", &[], "http://localhost:8080", Token);
        check("model-registry://iris/v1", &near, "http://127.0.0.1:9000", Token);
        check("model-registry://iris", &[("MR_BASE_URL", "mr.kf:1")], "http://mr.kf:1", Plain);
        check("model-registry://iris", &base("mr.kf.svc:1"), "http://mr.kf.svc:1", Token);
        check("model-registry://iris", &base("https://mr.example.com/x/"), "https://mr.example.com/x", Token);
        check("model-registry://iris", &base("http://mr.example.com"), "http://mr.example.com", Plain);
        check(
            "model-registry://iris",
            &base("model-registry-service:8080"),
            "http://model-registry-service:8080",
            Token,
        );
        let own = "http://model-registry-service.test.svc.cluster.local:8080";
        check("model-registry://iris/v1?namespace=test", &[], own, Token);
        let named = [
            ("MODEL_REGISTRY_SERVICE_NAME", "mr"),
            ("MODEL_REGISTRY_CLUSTER_DOMAIN", "svc.corp"),
            ("MODEL_REGISTRY_SCHEME", "https"),
            ("MODEL_REGISTRY_BASE_URL", "x:8443"),
        ];
        check("model-registry://iris?namespace=a-b_c", &named, "https://mr.a-b_c.svc.corp:8443", Token);
        check("model-registry://mr:7/iris/v1?namespace=ns", &[], "http://mr.ns.svc.cluster.local:7", Token);
        check("model-registry://mr.example.com/iris?namespace=ns", &[], "http://mr.example.com", Foreign);
        check("model-registry://127.0.0.1:9001/iris", &near, "http://127.0.0.1:9001", Foreign);
        check("model-registry://127.0.0.1:9000/iris", &near, "http://127.0.0.1:9000", Token);
        check("model-registry://mr.ns.svc.cluster.local:8080/iris", &[], "http://mr.ns.svc.cluster.local:8080", Token);
        check("model-registry://mr/iris/v1", &[], "http://mr", Foreign);
        check("model-registry://localhost:8080/iris", &[], "http://localhost:8080", Token);
    }

    #[test]
    fn a_token_is_read_by_rank_and_kept_from_strangers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "canary-of-file\n").unwrap();
        let path = path.to_str().unwrap();
        let kind = |variables: &[(&str, &str)], trusted| {
            let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let server = Server { url: url::Url::parse("http://localhost").unwrap(), trusted };
            let login = login(&server, &Environment::new(pairs)).unwrap();
            assert!(!format!("{login:?}").contains("canary"), "{login:?}");
            let sent = login.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
            (login.kind, sent)
        };
        let both = [("MODEL_REGISTRY_TOKEN", "canary"), ("KF_PIPELINES_SA_TOKEN_PATH", path)];
        assert_eq!(kind(&both, Trust::Token), ("bearer token", Some("Bearer canary".to_owned())));
        let pod = ("service account token", Some("Bearer canary-of-file".to_owned()));
        assert_eq!(kind(&both[1..], Trust::Token), pod);
        for trusted in [Trust::Foreign, Trust::Plain] {
            assert_eq!(kind(&both, trusted).1, None, "{trusted:?}");
        }
    }
}
