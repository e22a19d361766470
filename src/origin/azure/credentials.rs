//! As whom an account is asked: a shared access signature, a shared key, a token, nobody.
//!
//! In: the source and the environment. Out: a [`Permit`] for each request.
//! Holds: a signature goes to the account it was given for only; no value of a variable reaches an error.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};

use super::place::Place;
use super::signature::{Key, Over, SIGNED_FOR, Scope, VERSION};
use super::token::{self, Issuer, Token, Tokens};
use crate::error::{Error, Failure, FailureKind};
use crate::origin::Environment;
use crate::origin::control::Control;
use crate::secret::Secret;
use crate::uri::{AzureSource, check_endpoint, shared_access_signature};
use crate::wire::{self, Policy};

const SIGNATURE: &str = "AZURE_STORAGE_SAS_TOKEN";
const KEYS: [&str; 2] = ["AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY"];
const CONNECTION: &str = "AZURE_STORAGE_CONNECTION_STRING";
const ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";
const TOKEN_FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const AUTHORITY: &str = "AZURE_AUTHORITY_HOST";
const METADATA: &str = "AZURE_POD_IDENTITY_AUTHORITY_HOST";

/// Issuers of the clouds: the end of an account's host, and who issues its tokens.
const AUTHORITIES: [(&str, &str); 2] = [
    (".chinacloudapi.cn", "https://login.chinacloudapi.cn"),
    (".usgovcloudapi.net", "https://login.microsoftonline.us"),
];
/// Zones of clouds that others run than the public one.
const OTHER_CLOUDS: [&str; 3] = [".chinacloudapi.cn", ".usgovcloudapi.net", ".cloudapi.de"];
const AUTHORITY_DEFAULT: &str = "https://login.microsoftonline.com";

/// A permit by a signature of ours is asked for again this long before it ends.
const SIGNED_MARGIN: Duration = Duration::from_secs(300);

/// As whom we ask.
pub(super) struct Identity {
    how: How,
    /// The credential's kind, and what named it.
    kind: &'static str,
    from: String,
}

enum How {
    Nobody,
    Signature(Secret),
    Key(Box<Key>),
    Tokens(Box<Tokens>),
}

/// What one request carries.
pub(super) struct Permit {
    /// Parameters of the query.
    pub(super) query: Option<Secret>,
    /// For how long it holds; `None`: always.
    pub(super) holds: Option<Duration>,
    pub(super) token: Option<Token>,
}

/// `AZURE_STORAGE_CONNECTION_STRING`.
pub(super) struct ConnectionString {
    account: Option<String>,
    key: Option<Secret>,
    signature: Option<Secret>,
    /// Of the blobs, where it is named.
    endpoint: Option<String>,
    /// Of all services, where it is named.
    suffix: Option<String>,
    protocol: &'static str,
}

impl ConnectionString {
    /// Reads the variable; `None` where it is not set.
    ///
    /// # Errors
    /// [`Error::Usage`] for a text that is none.
    pub(super) fn read(environment: &Environment) -> Result<Option<Self>, Error> {
        let Some(text) = environment.var(CONNECTION) else { return Ok(None) };
        let usage = |why: &str| Error::Usage(format!("{CONNECTION} {why}"));
        let (account, key, signature, endpoint) = (None, None, None, None);
        let mut this = Self { account, key, signature, endpoint, suffix: None, protocol: "https" };
        for pair in text.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| usage("is not of the form Name=value;…"))?;
            match name.to_ascii_lowercase().as_str() {
                "accountname" => this.account = Some(value.to_owned()),
                "accountkey" => this.key = Some(Secret::new(value)),
                "sharedaccesssignature" => this.signature = Some(shared_access_signature(CONNECTION, value)?),
                "blobendpoint" => this.endpoint = Some(check_endpoint(CONNECTION, value)?),
                "endpointsuffix" => this.suffix = Some(value.to_owned()),
                "defaultendpointsprotocol" if value.eq_ignore_ascii_case("http") => this.protocol = "http",
                "usedevelopmentstorage" => {
                    return Err(usage("names no account: write out AccountName, AccountKey and BlobEndpoint"));
                }
                _ => {}
            }
        }
        if this.key.is_none() && this.signature.is_none() {
            return Err(usage("has neither AccountKey nor SharedAccessSignature"));
        }
        Ok(Some(this))
    }

    /// Whether it is for the account of `source`.
    fn is_for(&self, source: &AzureSource) -> bool {
        self.account.as_ref().is_none_or(|account| *account == source.account)
    }

    /// The endpoint that it names for `source`.
    pub(super) fn endpoint(&self, source: &AzureSource) -> Option<String> {
        let of_suffix = || {
            let suffix = self.suffix.as_ref().filter(|_| source.zone.is_none())?;
            check_endpoint(CONNECTION, &format!("{}://{}.blob.{suffix}", self.protocol, source.account)).ok()
        };
        if self.is_for(source) { self.endpoint.clone().or_else(of_suffix) } else { None }
    }
}

impl Identity {
    /// Finds credentials in the order of docs/origins.md, and a first token where tokens are used.
    ///
    /// # Errors
    /// [`Error::Usage`] for settings that cannot be used, [`Error::Denied`] when an issuer refuses,
    /// [`Error::Network`] when it does not answer.
    pub(super) async fn find(
        source: &AzureSource,
        environment: &Environment,
        place: &Place,
        connection: Option<ConnectionString>,
        named: Policy,
        settings: &wire::Settings,
    ) -> Result<Self, Error> {
        if let Some(signature) = source.signature() {
            return Ok(Self::signature(signature.clone(), "the source's query"));
        }
        if let Some(found) = of_storage(source, environment, place, connection, named)? {
            return Ok(found);
        }
        let found = if may_ask(source, environment, place, named) { issuer(environment, place)? } else { None };
        let Some((issuer, kind, from)) = found else {
            let from = format!("no credentials are configured ({}, {SIGNATURE}, AZURE_CLIENT_ID)", KEYS[0]);
            return Ok(Self { how: How::Nobody, kind: "anonymous", from });
        };
        if !place.is_private() {
            let text = format!("a token does not go to {} over plain http: use https", place.shown());
            return Err(Error::Usage(text));
        }
        let metadata = environment.var(METADATA).map(|text| check_endpoint(METADATA, text)).transpose()?;
        let metadata = metadata.and_then(|text| url::Url::parse(&text).ok());
        let control = Control::trusting(&settings.identity_tls, settings, Policy::Configured)?;
        let this = Self { how: How::Tokens(Box::new(Tokens::new(issuer, control, metadata))), kind, from };
        this.permit(Scope::Container, place).await.map_err(crate::origin::failed)?;
        Ok(this)
    }

    fn signature(signature: Secret, from: &str) -> Self {
        Self { how: How::Signature(signature), kind: "shared access signature", from: from.to_owned() }
    }

    /// What a request for `scope` carries.
    ///
    /// # Errors
    /// `Denied` when no token is to be had, `Unavailable` or `Stalled` when asking again may help.
    pub(super) async fn permit(&self, scope: Scope<'_>, place: &Place) -> Result<Permit, Failure> {
        match &self.how {
            How::Nobody => Ok(Permit { query: None, holds: None, token: None }),
            How::Signature(signature) => Ok(Permit { query: Some(signature.clone()), holds: None, token: None }),
            How::Key(key) => {
                let over = if place.shown().starts_with("https:") { Over::Https } else { Over::Any };
                let query = key.sign(place.account(), place.container(), scope, over, SystemTime::now());
                Ok(Permit { query: Some(query), holds: Some(SIGNED_FOR - SIGNED_MARGIN), token: None })
            }
            How::Tokens(tokens) => {
                let token = match scope {
                    Scope::Container => tokens.get().await,
                    Scope::Blob(name) => tokens.lend(name).await,
                };
                let token = token.map_err(|failure| {
                    Failure::new(failure.kind, format!("{}: {}", self.describe(), failure.detail))
                })?;
                Ok(Permit { query: None, holds: Some(token.holds), token: Some(token) })
            }
        }
    }

    /// Whether asking again may help where `permit` was refused: another token may be had.
    pub(super) async fn renewed(&self, permit: &Permit) -> bool {
        match (&self.how, &permit.token) {
            (How::Tokens(tokens), Some(token)) => {
                tokens.refused(token).await;
                true
            }
            _ => false,
        }
    }

    /// The kind of credential that requests carry, for the audit log.
    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether nobody's name is used.
    pub(super) fn is_nobody(&self) -> bool {
        matches!(self.how, How::Nobody)
    }

    /// As whom we ask, for people.
    pub(super) fn describe(&self) -> String {
        let separator = if self.is_nobody() { ":" } else { " of" };
        format!("{}{separator} {}", self.kind, self.from)
    }
}

impl Permit {
    /// The headers of a request, and what of them and of the query nobody may read.
    pub(super) fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-version", HeaderValue::from_static(VERSION));
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token.authorization.expose())
                .map_err(|_| Failure::new(FailureKind::Denied, "the token is not plain text"))?;
            value.set_sensitive(true);
            headers.insert(http::header::AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// The same for the wire.
    pub(super) fn secrets(&self) -> Vec<(String, Secret)> {
        let version = ("x-ms-version".to_owned(), Secret::new(VERSION));
        let authorization = self.token.as_ref().map(|token| ("authorization".to_owned(), token.authorization.clone()));
        [version].into_iter().chain(authorization).collect()
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.query.as_ref().map(Secret::expose)
    }
}

/// Credentials of the storage account itself: a signature or a key of the environment.
fn of_storage(
    source: &AzureSource,
    environment: &Environment,
    place: &Place,
    connection: Option<ConnectionString>,
    named: Policy,
) -> Result<Option<Identity>, Error> {
    let account = environment.var(ACCOUNT);
    let is_named = account == Some(source.account.as_str());
    // Variables without an account are for the account that the user named; a registry's word does not move them. A key
    // may sign for any account: a signature does not tell the key.
    let may_sign = account.is_none() || is_named || place.configured;
    let may_send = is_named || place.configured || (account.is_none() && named == Policy::Configured);
    if let Some(text) = environment.var(SIGNATURE).filter(|_| may_send) {
        return Ok(Some(Identity::signature(shared_access_signature(SIGNATURE, text)?, SIGNATURE)));
    }
    for name in KEYS {
        match environment.var(name) {
            Some(text) if is_signature(text) && may_send => {
                return Ok(Some(Identity::signature(shared_access_signature(name, text)?, name)));
            }
            Some(text) if !is_signature(text) && may_sign => return key(text, name).map(Some),
            _ => {}
        }
    }
    let Some(connection) = connection.filter(|connection| connection.is_for(source)) else { return Ok(None) };
    let may_send = may_send || connection.account.is_some();
    match (connection.signature, connection.key) {
        (Some(signature), _) if may_send => Ok(Some(Identity::signature(signature, CONNECTION))),
        (_, Some(text)) => key(text.expose(), CONNECTION).map(Some),
        _ => Ok(None),
    }
}

/// Whether a value is a signature where a key may stand as well: a key in base64 may end in `sig==`.
fn is_signature(text: &str) -> bool {
    text.trim_start_matches('?').split('&').any(|pair| pair.starts_with("sig="))
}

fn key(text: &str, name: &str) -> Result<Identity, Error> {
    let key = Key::read(text).ok_or_else(|| Error::Usage(format!("the account key of {name} is not base64")))?;
    Ok(Identity { how: How::Key(Box::new(key)), kind: "shared key", from: name.to_owned() })
}

/// Whether tokens may be asked for: neither a client's secret nor a token of one cloud goes to another's because a
/// registry named an account there.
fn may_ask(source: &AzureSource, environment: &Environment, place: &Place, named: Policy) -> bool {
    let is_named = place.configured || environment.var(ACCOUNT) == Some(source.account.as_str());
    let elsewhere = |zone: &str| OTHER_CLOUDS.iter().any(|cloud| zone.ends_with(cloud));
    named == Policy::Configured || is_named || !source.zone.as_deref().is_some_and(elsewhere)
}

/// Who issues tokens, the kind of credential and what named it; `None` unless an identity is named.
fn issuer(environment: &Environment, place: &Place) -> Result<Option<(Issuer, &'static str, String)>, Error> {
    // KServe's older names win, as in its own container.
    let either = |older: &'static str, name: &'static str| {
        [older, name].into_iter().find_map(|name| environment.var(name).map(|value| (name, value.to_owned())))
    };
    let Some((client_name, client)) = either("AZ_CLIENT_ID", "AZURE_CLIENT_ID") else { return Ok(None) };
    let tenant = || {
        let missing = || Error::Usage(format!("{client_name} is set without AZURE_TENANT_ID"));
        either("AZ_TENANT_ID", "AZURE_TENANT_ID").map(|(_, tenant)| tenant).ok_or_else(missing)
    };
    if let Some((name, secret)) = either("AZ_CLIENT_SECRET", "AZURE_CLIENT_SECRET") {
        let (authority, tenant) = (authority(environment, place)?, tenant()?);
        let issuer = Issuer::ClientSecret { authority, tenant, client, secret: Secret::new(secret) };
        return Ok(Some((issuer, "client secret", format!("{client_name} and {name}"))));
    }
    if let Some(file) = environment.var(TOKEN_FILE) {
        let (authority, tenant, file) = (authority(environment, place)?, tenant()?, PathBuf::from(file));
        token::check_file(TOKEN_FILE, &file)?;
        let from = format!("{client_name} and {TOKEN_FILE}");
        return Ok(Some((Issuer::WorkloadIdentity { authority, tenant, client, file }, "workload identity", from)));
    }
    Ok(Some((Issuer::ManagedIdentity { client }, "managed identity", client_name.to_owned())))
}

/// Who issues the tokens of an account: the environment's word, or its cloud's.
fn authority(environment: &Environment, place: &Place) -> Result<String, Error> {
    let Some(text) = environment.var(AUTHORITY) else {
        let host = place.origin().map(|origin| origin.host).unwrap_or_default();
        let of_cloud = AUTHORITIES.iter().find(|(end, _)| host.ends_with(end));
        return Ok(of_cloud.map_or(AUTHORITY_DEFAULT, |(_, authority)| authority).to_owned());
    };
    let url = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = check_endpoint(AUTHORITY, &url)?;
    if url.starts_with("https:") { Ok(url) } else { Err(Error::Usage(format!("{AUTHORITY} is not an https:// URL"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::Source;
    use crate::wire::Class;

    const SAS: &str = "sv=2021-12-02&sig=canary";
    const SECRET_KEY: &str = "Y2FuYXJ5";
    const USER: Policy = Policy::Configured;
    const REGISTRY: Policy = Policy::NamedBy(Class::Public);

    /// What of the environment's own credentials is used for the account `acc`.
    fn check(variables: &[(&str, &str)], named: Policy, expected: Option<(&str, &str)>) {
        let Ok(Source::Azure(source)) = Source::parse("az://acc/models/m") else { panic!("no source") };
        let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::new(pairs);
        let connection = ConnectionString::read(&environment).unwrap();
        let place = Place::new(&source, &environment, connection.as_ref()).unwrap();
        let found = of_storage(&source, &environment, &place, connection, named).unwrap();
        let found = found.as_ref().map(|identity| (identity.kind, identity.from.as_str()));
        assert_eq!(found, expected, "{variables:?} {named:?}");
    }

    #[test]
    fn signatures_go_before_keys_and_keys_before_connection_strings() {
        let sas = ("AZURE_STORAGE_SAS_TOKEN", SAS);
        let access = ("AZURE_STORAGE_ACCESS_KEY", SECRET_KEY);
        let key = ("AZURE_STORAGE_KEY", SECRET_KEY);
        let connection = ("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=Y2FuYXJ5");
        check(&[], USER, None);
        check(&[connection], USER, Some(("shared key", "AZURE_STORAGE_CONNECTION_STRING")));
        check(&[connection, key], USER, Some(("shared key", "AZURE_STORAGE_KEY")));
        check(&[connection, key, access], USER, Some(("shared key", "AZURE_STORAGE_ACCESS_KEY")));
        let signature = Some(("shared access signature", "AZURE_STORAGE_SAS_TOKEN"));
        check(&[connection, key, access, sas], USER, signature);
    }

    #[test]
    fn a_signature_goes_to_the_account_it_is_for() {
        let sas = ("AZURE_STORAGE_SAS_TOKEN", SAS);
        let (own, other) = (("AZURE_STORAGE_ACCOUNT", "acc"), ("AZURE_STORAGE_ACCOUNT", "other"));
        let found = Some(("shared access signature", "AZURE_STORAGE_SAS_TOKEN"));
        check(&[sas, own], USER, found);
        check(&[sas, other], USER, None);
        check(&[sas], REGISTRY, None);
        check(&[sas, own], REGISTRY, found);
        check(&[sas, ("AZURE_STORAGE_ENDPOINT", "https://here.example")], REGISTRY, found);
        let key = ("AZURE_STORAGE_KEY", SECRET_KEY);
        check(&[key], REGISTRY, Some(("shared key", "AZURE_STORAGE_KEY")));
        check(&[key, other], USER, None);
        check(&[("AZURE_STORAGE_KEY", SAS)], REGISTRY, None);
        // Base64 of 64 bytes, and no signature.
        let tail = format!("{}sig==", "A".repeat(83));
        check(&[("AZURE_STORAGE_KEY", &tail)], USER, Some(("shared key", "AZURE_STORAGE_KEY")));
        let connection = |text| ("AZURE_STORAGE_CONNECTION_STRING", text);
        check(&[connection("AccountName=other;AccountKey=Y2FuYXJ5")], USER, None);
        check(&[connection("SharedAccessSignature=sig=canary")], REGISTRY, None);
        let whole = connection("AccountName=acc;SharedAccessSignature=sig=canary");
        check(&[whole], REGISTRY, Some(("shared access signature", "AZURE_STORAGE_CONNECTION_STRING")));
    }

    #[test]
    fn tokens_leave_the_cloud_only_for_an_account_that_the_user_named() {
        let china = "https://acc.blob.core.chinacloudapi.cn/models";
        let (own, other) = (("AZURE_STORAGE_ACCOUNT", "acc"), ("AZURE_STORAGE_ACCOUNT", "other"));
        for (uri, variable, named, expected) in [
            (china, None, USER, true),
            (china, None, REGISTRY, false),
            (china, Some(other), REGISTRY, false),
            (china, Some(own), REGISTRY, true),
            (china, Some(("AZURE_STORAGE_ENDPOINT", "https://here.example")), REGISTRY, true),
            ("https://acc.blob.core.windows.net/models", None, REGISTRY, true),
            ("https://acc.blob.core.cloudapi.de/models", None, REGISTRY, false),
        ] {
            let Ok(Source::Azure(source)) = Source::parse(uri) else { panic!("{uri}") };
            let environment = Environment::new(variable.map(|(name, value)| (name.to_owned(), value.to_owned())));
            let place = Place::new(&source, &environment, None).unwrap();
            assert_eq!(may_ask(&source, &environment, &place, named), expected, "{uri} {variable:?} {named:?}");
        }
    }

    #[test]
    fn tokens_are_issued_by_the_accounts_own_cloud() {
        for (uri, variable, expected) in [
            ("az://acc/models", None, Ok("https://login.microsoftonline.com")),
            ("https://acc.blob.core.chinacloudapi.cn/models", None, Ok("https://login.chinacloudapi.cn")),
            ("https://acc.blob.core.usgovcloudapi.net/models", None, Ok("https://login.microsoftonline.us")),
            ("az://acc/models", Some("login.example/"), Ok("https://login.example")),
            ("az://acc/models", Some("http://login.example"), Err(())),
        ] {
            let Ok(Source::Azure(source)) = Source::parse(uri) else { panic!("{uri}") };
            let environment = Environment::new(variable.map(|value| (AUTHORITY.to_owned(), value.to_owned())));
            let place = Place::new(&source, &environment, None).unwrap();
            let found = authority(&environment, &place);
            assert_eq!(found.as_deref().map_err(|_| ()), expected, "{uri} {variable:?}");
        }
    }
}
