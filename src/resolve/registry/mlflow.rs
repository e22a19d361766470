//! The MLflow registry's REST API: a name to a version, a version to the place of its files.
//!
//! Holds: only a version that is READY is taken; a location that is itself a model's name is followed once.

use serde::Deserialize;

use super::{Answer, named};
use crate::error::Error;
use crate::origin::Environment;
use crate::origin::rest::{Refusal, Rest, Said};
use crate::origin::tracking::Tracking;
use crate::resolve::Settings;
use crate::uri::{Choice, MlflowModel, MlflowSource, Source, check_endpoint};
use crate::wire::refusal::clean;
use crate::wire::{Class, Policy};

/// The part of the API that knows models.
const API: [&str; 3] = ["api", "2.0", "mlflow"];

#[derive(Deserialize)]
struct One {
    model_version: Version,
}

#[derive(Deserialize)]
struct Many {
    model_versions: Option<Vec<Version>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Version {
    version: Number,
    status: Option<String>,
    status_message: Option<String>,
}

/// A version's number: text by the API's word, a number from some servers.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Number(u64),
}

#[derive(Deserialize)]
struct Download {
    artifact_uri: Option<String>,
}

#[derive(Deserialize)]
struct Logged {
    model: LoggedModel,
}

#[derive(Deserialize)]
struct LoggedModel {
    info: LoggedInfo,
}

#[derive(Deserialize)]
struct LoggedInfo {
    artifact_uri: Option<String>,
    status: Option<String>,
}

/// What the server says of one model.
struct Location {
    uri: String,
    version: String,
    class: Class,
}

/// Finds out where the files of an MLflow model are.
///
/// # Errors
/// See [`super::locate`].
pub(super) async fn locate(source: &MlflowSource, settings: &Settings) -> Result<Answer, Error> {
    let environment = &settings.environment;
    let Tracking { url, login } = Tracking::registry(environment)?;
    let server = Server { rest: Rest::new(url, login, settings.wire.clone(), Policy::Configured)? };
    settings.audit.credential(&server.rest.origin()?.to_string(), server.rest.login().kind);
    let mut location = server.location(&source.model).await?;
    if is_model_name(&location.uri) {
        let Source::Mlflow(next) = Source::parse(&location.uri).map_err(refused)? else { return Err(circle()) };
        let Location { uri, class, .. } = server.location(&next.model).await?;
        location = Location { uri: joined(&uri, &next.below), class, version: location.version };
        if is_model_name(&location.uri) {
            return Err(circle());
        }
    }
    let (found, policy) = found(&joined(&location.uri, &source.below), location.class)?;
    let (found, policy, environment) = with_store_settings(found, policy, environment)?;
    Ok(Answer { source: found, named: policy, environment, version: location.version, remark: None })
}

fn is_model_name(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("models"))
}

fn circle() -> Error {
    Error::Policy("the registry names a model by another model's name: refused".to_owned())
}

fn refused(error: Error) -> Error {
    Error::Policy(format!("the registry's answer is no source: {error}"))
}

/// A location as an origin reads it. The server's own artifacts are no registry's answer but its own store.
fn found(uri: &str, class: Class) -> Result<(Source, Policy), Error> {
    if uri.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("mlflow-artifacts")) {
        return Ok((Source::parse(uri).map_err(refused)?, Policy::NamedBy(class)));
    }
    named(uri, class)
}

/// MLflow's own settings for S3, where the environment holds no stronger ones.
fn with_store_settings(
    mut found: Source,
    policy: Policy,
    environment: &Environment,
) -> Result<(Source, Policy, Environment), Error> {
    let (mut policy, mut environment) = (policy, environment.clone());
    if let Source::S3(s3) = &mut found {
        if let Some(endpoint) = environment.var("MLFLOW_S3_ENDPOINT_URL") {
            s3.endpoint = Some(check_endpoint("MLFLOW_S3_ENDPOINT_URL", endpoint)?);
            // The user's word, not the registry's.
            policy = Policy::Configured;
        }
        if environment.flag("MLFLOW_S3_IGNORE_TLS") && environment.var("S3_VERIFY_SSL").is_none() {
            environment = environment.with([("S3_VERIFY_SSL".to_owned(), "false".to_owned())]);
        }
    }
    Ok((found, policy, environment))
}

/// `below` a location, whose query stays behind it.
fn joined(uri: &str, below: &str) -> String {
    if below.is_empty() {
        return uri.to_owned();
    }
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let path = format!("{}/{below}", path.trim_end_matches('/'));
    query.map_or(path.clone(), |query| format!("{path}?{query}"))
}

struct Server {
    rest: Rest,
}

impl Server {
    async fn location(&self, model: &MlflowModel) -> Result<Location, Error> {
        match model {
            MlflowModel::Registered { name, choice } => {
                let version = self.version(name, choice).await?;
                ready(name, &version)?;
                self.download(name, version.version.text()).await
            }
            MlflowModel::Logged { id } => self.logged(id).await,
        }
    }

    /// The version that is meant.
    async fn version(&self, name: &str, choice: &Choice) -> Result<Version, Error> {
        match choice {
            Choice::Version(version) => {
                let query = [("name", name), ("version", version.as_str())];
                self.one::<One>(&["model-versions", "get"], &query, name).await.map(|(one, _)| one.model_version)
            }
            Choice::Alias(alias) => {
                let query = [("name", name), ("alias", alias.as_str())];
                self.one::<One>(&["registered-models", "alias"], &query, name).await.map(|(one, _)| one.model_version)
            }
            Choice::Latest => self.latest(name, &[("name", name)]).await,
            Choice::Stage(stage) => self.latest(name, &[("name", name), ("stages", stage)]).await,
        }
    }

    async fn latest(&self, name: &str, query: &[(&str, &str)]) -> Result<Version, Error> {
        let (many, _) = self.one::<Many>(&["registered-models", "get-latest-versions"], query, name).await?;
        let latest = many.model_versions.unwrap_or_default().into_iter().max_by_key(|version| version.version.number());
        latest.ok_or_else(|| Error::NotFound(format!("model `{name}` has no such version at {}", self.rest.place())))
    }

    async fn download(&self, name: &str, version: String) -> Result<Location, Error> {
        let query = [("name", name), ("version", version.as_str())];
        let (download, class) = self.one::<Download>(&["model-versions", "get-download-uri"], &query, name).await?;
        let uri = self.stated(name, download.artifact_uri)?;
        Ok(Location { uri, version, class })
    }

    async fn logged(&self, id: &str) -> Result<Location, Error> {
        let (logged, class) = self.one::<Logged>(&["logged-models", id], &[], id).await?;
        let LoggedInfo { artifact_uri, status } = logged.model.info;
        if let Some(status) = status.filter(|status| status != "LOGGED_MODEL_READY" && status != "READY") {
            let status: String = status.chars().take(40).collect();
            return Err(Error::NotFound(format!("model `{id}` is {}, not READY", status.escape_debug())));
        }
        let uri = self.stated(id, artifact_uri)?;
        Ok(Location { uri, version: id.to_owned(), class })
    }

    fn stated(&self, name: &str, uri: Option<String>) -> Result<String, Error> {
        let uri = uri.filter(|uri| !uri.trim().is_empty());
        uri.ok_or_else(|| Error::NotFound(format!("{} has no location for model `{name}`", self.rest.place())))
    }

    /// One document; an unknown name is a 404, an unknown alias a 400.
    async fn one<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        name: &str,
    ) -> Result<(T, Class), Error> {
        let place = self.rest.place();
        match self.rest.get::<T>(&[API.as_slice(), path].concat(), query).await? {
            Said::Yes(value, class) => Ok((value, class)),
            Said::No(Refusal { by_api: true, message, .. }) => {
                Err(Error::NotFound(format!("model `{name}` at {place}: {message}")))
            }
            Said::No(Refusal { status, .. }) => {
                Err(Error::NotFound(format!("{place} answers with status {status}: is it an MLflow server?")))
            }
        }
    }
}

impl Number {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }

    fn number(&self) -> u64 {
        self.text().parse().unwrap_or(0)
    }
}

/// Whether a version's files are all there.
///
/// # Errors
/// [`Error::Network`] for one that is still being registered: later it may be ready. [`Error::NotFound`] otherwise.
fn ready(name: &str, version: &Version) -> Result<(), Error> {
    let number = clean(&version.version.text());
    let text = |status: &str| format!("version {number} of model `{name}` is {status}, not READY");
    match version.status.as_deref() {
        None | Some("READY") => Ok(()),
        Some("PENDING_REGISTRATION") => Err(Error::Network(text("PENDING_REGISTRATION"))),
        Some(status) => {
            let status: String = status.chars().take(40).collect();
            let why = version.status_message.as_deref().filter(|why| !why.is_empty()).unwrap_or("no reason given");
            let why = clean(why);
            Err(Error::NotFound(format!("{}: {why}", text(&status.escape_debug().to_string()))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ready_versions_are_taken() {
        let version = |status: Option<&str>| Version {
            version: Number::Text("3".to_owned()),
            status: status.map(str::to_owned),
            status_message: None,
        };
        assert_eq!(ready("m", &version(Some("READY"))), Ok(()));
        assert_eq!(ready("m", &version(None)), Ok(()));
        assert!(matches!(ready("m", &version(Some("PENDING_REGISTRATION"))), Err(Error::Network(_))));
        assert!(matches!(ready("m", &version(Some("FAILED_REGISTRATION"))), Err(Error::NotFound(_))));
        let forged = Version {
            version: Number::Text("1\nerror: forged\u{1b}[31m".to_owned()),
            status: Some("DELETED".to_owned()),
            status_message: Some("a\nb".to_owned()),
        };
        let text = ready("m", &forged).unwrap_err().to_string();
        assert!(text.contains("version 1 error: forged [31m") && !text.contains(char::is_control), "{text:?}");
    }

    #[test]
    fn what_is_below_a_model_stands_before_the_query() {
        for (uri, below, whole) in [
            ("s3://b/m", "", "s3://b/m"),
            ("s3://b/m/", "data/x", "s3://b/m/data/x"),
            ("s3://b/m?endpoint=http://x", "d", "s3://b/m/d?endpoint=http://x"),
        ] {
            assert_eq!(joined(uri, below), whole);
        }
    }

    #[test]
    fn mlflows_s3_settings_stand_below_s3s_own() {
        let environment = Environment::new([
            ("MLFLOW_S3_ENDPOINT_URL".to_owned(), "http://minio:9000/".to_owned()),
            ("MLFLOW_S3_IGNORE_TLS".to_owned(), "true".to_owned()),
        ]);
        let source = || Source::parse("s3://bucket/m").unwrap();
        let named = Policy::NamedBy(Class::Public);
        let (found, policy, changed) = with_store_settings(source(), named, &environment).unwrap();
        let Source::S3(s3) = found else { panic!("not s3") };
        assert_eq!((s3.endpoint.as_deref(), policy), (Some("http://minio:9000"), Policy::Configured));
        assert!(changed.refuses("S3_VERIFY_SSL"));
        let explicit = environment.with([("S3_VERIFY_SSL".to_owned(), "true".to_owned())]);
        assert!(!with_store_settings(source(), named, &explicit).unwrap().2.refuses("S3_VERIFY_SSL"));
        let (_, policy, _) = with_store_settings(source(), named, &Environment::default()).unwrap();
        assert_eq!(policy, named);
    }
}
