//! Blobs of Azure Storage: `az://account/container/prefix-or-blob`, blob URLs, and what MLflow and Hadoop write.
//!
//! Holds: a shared access signature leaves the text as a [`Secret`], and is in no canonical form.

use super::{decoded, shown, usage};
use crate::error::Error;
use crate::secret::Secret;

/// Longest name of a blob that Azure stores, in characters.
const BLOB_CHARS_MAX: usize = 1024;

/// The public cloud's zone: what stands behind the account in the name of its host.
const PUBLIC: &str = "blob.core.windows.net";

/// Zones of the public cloud and of those that are apart from it, without the service's own label.
const CLOUDS: [&str; 4] = ["core.windows.net", "core.chinacloudapi.cn", "core.usgovcloudapi.net", "core.cloudapi.de"];

/// Zones of accounts with numbered names: `account.z12.blob.storage.azure.net`.
const NUMBERED: &str = "storage.azure.net";

/// Containers with names that no rule allows.
const CONTAINERS: [&str; 4] = ["$root", "$web", "$logs", "$blobchangefeed"];

/// Parameters of a shared access signature, as Microsoft's pages on account, service and user delegation SAS have them.
const SIGNING: [&str; 34] = [
    "sv",
    "ss",
    "srt",
    "sp",
    "se",
    "st",
    "spr",
    "sip",
    "sig",
    "sr",
    "si",
    "sdd",
    "skoid",
    "sktid",
    "skt",
    "ske",
    "sks",
    "skv",
    "skdutid",
    "sduoid",
    "saoid",
    "suoid",
    "scid",
    "ses",
    "srh",
    "srq",
    "rscc",
    "rscd",
    "rsce",
    "rscl",
    "rsct",
    "tn",
    "snapshot-time",
    "api-version",
];

/// All but what a path may hold unencoded: a blob's `/` stays.
const PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A blob, a folder of blobs, or a whole container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AzureSource {
    /// The storage account's name.
    pub account: String,
    /// What stands behind the account in the name of its host, where that is not the public cloud's; the environment
    /// may name another endpoint.
    pub zone: Option<String>,
    /// The container's name.
    pub container: String,
    /// What follows the container's `/`, decoded.
    pub blob: String,
    sas: Option<Secret>,
}

/// What a host is to Azure Storage.
enum Host<'a> {
    /// Blobs of an account in a zone.
    Blobs { account: &'a str, zone: String },
    /// File shares.
    Files,
    /// Somebody else's.
    Foreign,
}

impl AzureSource {
    /// Reads what follows `az://`, or a scheme of Hadoop's.
    pub(super) fn parse(scheme: &str, rest: &str) -> Result<Self, Error> {
        if scheme == "az" { Self::parse_az(rest) } else { Self::parse_hadoop(scheme, rest) }
    }

    /// Names as they stand, but for a shared access signature behind a `?`.
    fn parse_az(rest: &str) -> Result<Self, Error> {
        let (place, sas) = without_signature("the az:// source's query", rest)?;
        let (account, path) = place.split_once('/').unwrap_or((place, ""));
        if account.is_empty() {
            return Err(usage("the az:// source names no account: az://account/container/prefix"));
        }
        Self::checked(account, None, path, sas)
    }

    /// Reads what follows `wasbs://`, `abfss://` and their like: `container@account.zone/path`.
    fn parse_hadoop(scheme: &str, rest: &str) -> Result<Self, Error> {
        let (place, sas) = without_signature("the source's query", rest)?;
        let (authority, blob) = place.split_once('/').unwrap_or((place, ""));
        let wrong = || usage(format!("the source is not of the form {scheme}://container@account.{PUBLIC}/path"));
        let (container, host) = authority.split_once('@').ok_or_else(wrong)?;
        match host_of(&host.to_ascii_lowercase()) {
            Host::Blobs { account, zone } => Self::checked(account, Some(zone), &format!("{container}/{blob}"), sas),
            Host::Files | Host::Foreign => Err(wrong()),
        }
    }

    /// Reads an `https://` URL of a blob endpoint of Azure's; `None` for another host's.
    ///
    /// # Errors
    /// [`Error::Usage`] for a URL of Azure's that names no container or file share, or has a query that is no shared
    /// access signature.
    pub(super) fn of_url(text: &str) -> Result<Option<Self>, Error> {
        let Ok(url) = url::Url::parse(text) else { return Ok(None) };
        if url.scheme() != "https" || url.port().is_some() {
            return Ok(None);
        }
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let (account, zone) = match host_of(&host) {
            Host::Blobs { account, zone } => (account, zone),
            Host::Files => {
                return Err(usage("file shares of Azure are not among the sources of this build; blobs are"));
            }
            Host::Foreign => return Ok(None),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(usage("a URL of Azure's carries no login; use a shared access signature"));
        }
        let query = url.query().filter(|query| !query.is_empty());
        let sas = query.map(|query| shared_access_signature("the query of the source's URL", query)).transpose()?;
        let path = decoded(url.path().trim_start_matches('/'));
        let path = path.ok_or_else(|| usage("the path of the source's URL is not plain UTF-8"))?;
        Self::checked(account, Some(zone), &path, sas).map(Some)
    }

    fn checked(account: &str, zone: Option<String>, path: &str, sas: Option<Secret>) -> Result<Self, Error> {
        check_account(account)?;
        let (container, blob) = path.split_once('/').unwrap_or((path, ""));
        check_container(container)?;
        if BLOB_CHARS_MAX < blob.chars().count() {
            return Err(usage(format!("the blob's name is longer than {BLOB_CHARS_MAX} characters")));
        }
        if blob.split('/').any(|part| part == "." || part == "..") {
            return Err(usage("the blob's name has a `.` or `..` component"));
        }
        let zone = zone.filter(|zone| zone != PUBLIC);
        Ok(Self { account: account.to_owned(), zone, container: container.to_owned(), blob: blob.to_owned(), sas })
    }

    /// The host of the account's blobs, unless the environment names another.
    pub fn host(&self) -> String {
        format!("{}.{}", self.account, self.zone.as_deref().unwrap_or(PUBLIC))
    }

    /// The shared access signature that came with the source: parameters of a query, for the account's host only.
    pub fn signature(&self) -> Option<&Secret> {
        self.sas.as_ref()
    }

    /// `az://…` in the public cloud, the URL elsewhere; never the signature.
    pub(super) fn canonical(&self) -> String {
        let Self { account, zone, container, blob, .. } = self;
        match zone {
            None => format!("az://{account}/{container}/{blob}"),
            Some(_) => {
                format!("https://{}/{container}/{}", self.host(), percent_encoding::utf8_percent_encode(blob, PATH))
            }
        }
    }
}

/// What `host`, in small letters, is. The endpoint of a data lake (`dfs`) has the same containers as that of blobs.
fn host_of(host: &str) -> Host<'_> {
    let Some((account, zone)) = host.split_once('.') else { return Host::Foreign };
    let (number, rest) = match zone.split_once('.') {
        Some((number, rest)) if rest.ends_with(NUMBERED) && is_zone_number(number) => (Some(number), rest),
        _ => (None, zone),
    };
    let Some((service, cloud)) = rest.split_once('.') else { return Host::Foreign };
    if !(if number.is_some() { cloud == NUMBERED } else { CLOUDS.contains(&cloud) }) {
        return Host::Foreign;
    }
    match service {
        "blob" | "dfs" => {
            let number = number.map(|number| format!("{number}.")).unwrap_or_default();
            Host::Blobs { account, zone: format!("{number}blob.{cloud}") }
        }
        "file" => Host::Files,
        _ => Host::Foreign,
    }
}

/// `z` and one or two digits.
fn is_zone_number(label: &str) -> bool {
    let digits = label.strip_prefix('z').unwrap_or_default();
    matches!(digits.len(), 1 | 2) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Azure's rules: 3 to 24 small letters and digits.
fn check_account(account: &str) -> Result<(), Error> {
    let plain = account.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if plain && (3..=24).contains(&account.len()) {
        return Ok(());
    }
    Err(usage(format!("account name {} is not 3 to 24 small letters and digits", shown(account))))
}

/// Azure's rules: 3 to 63 small letters, digits and single hyphens between them.
fn check_container(container: &str) -> Result<(), Error> {
    if container.is_empty() {
        return Err(usage("the source names no container of the Azure account"));
    }
    let byte_fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let hyphens = container.starts_with('-') || container.ends_with('-') || container.contains("--");
    let fits = (3..=63).contains(&container.len()) && container.bytes().all(byte_fits) && !hyphens;
    if fits || CONTAINERS.contains(&container) {
        return Ok(());
    }
    let text = "is not 3 to 63 small letters, digits and single hyphens between them";
    Err(usage(format!("container name {} {text}", shown(container))))
}

/// Cuts a shared access signature off what stands before the first `?` that has one behind it: it is a secret, whatever
/// else stands beside it. Any other `?` is part of a name.
fn without_signature<'a>(what: &str, text: &'a str) -> Result<(&'a str, Option<Secret>), Error> {
    let found = text.match_indices('?').find(|(at, _)| has_signature(&text[at + 1..]));
    match found {
        Some((at, _)) => Ok((&text[..at], Some(shared_access_signature(what, &text[at + 1..])?))),
        None => Ok((text, None)),
    }
}

fn has_signature(query: &str) -> bool {
    query
        .split(['&', '?'])
        .any(|pair| pair.split_once('=').is_some_and(|(name, value)| name == "sig" && !value.is_empty()))
}

/// Reads a shared access signature, from wherever `what` says it came: the parameters, with or without `?`.
///
/// # Errors
/// [`Error::Usage`], naming `what` and perhaps a parameter, never a value: without `sig`, with a parameter that signs
/// nothing (`snapshot`, `versionid`, `comp`, …), or with characters that end a query.
pub fn shared_access_signature(what: &str, text: &str) -> Result<Secret, Error> {
    let text = text.trim().trim_start_matches('?');
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'?'));
    let none = |why: &str| Err(usage(format!("{what} is no shared access signature: {why}")));
    let known = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name).to_ascii_lowercase();
        SIGNING.contains(&name.as_str())
    };
    match text.split('&').find(|pair| !known(pair)) {
        Some(stranger) => none(&format!("it has {}", parameter(stranger))),
        None if !plain || !has_signature(text) => none("it has no `sig`, or characters of no query"),
        None => Ok(Secret::new(text)),
    }
}

/// A parameter by its name, when that can be no part of a secret.
fn parameter(pair: &str) -> String {
    let plain =
        |name: &&str| !name.is_empty() && name.len() <= 16 && name.bytes().all(|byte| byte.is_ascii_lowercase());
    let name = pair.split_once('=').map(|(name, _)| name).filter(plain);
    name.map_or_else(|| "a parameter that signs nothing".to_owned(), |name| format!("the parameter `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::Source;

    const SAS: &str = "sv=2021-12-02&sr=c&sp=rl&se=2030-01-01T00%3A00%3A00Z&sig=canary%2Bsig%3D";

    fn azure(text: &str) -> AzureSource {
        let Ok(Source::Azure(source)) = Source::parse(text) else { panic!("{text}: {:?}", Source::parse(text)) };
        source
    }

    #[test]
    fn az_paths_are_names_as_they_stand() {
        for (text, container, blob) in [
            ("az://account1/models", "models", ""),
            ("AZ://account1/models/", "models", ""),
            ("az://account1/models/a b+c%20d#1?x=y/ü", "models", "a b+c%20d#1?x=y/ü"),
            ("az://account1/$root/file", "$root", "file"),
        ] {
            let source = azure(text);
            assert_eq!((source.container.as_str(), source.blob.as_str()), (container, blob), "{text}");
            assert_eq!(source.canonical(), format!("az://account1/{container}/{blob}"));
            assert_eq!(source.host(), "account1.blob.core.windows.net");
        }
    }

    #[test]
    fn urls_and_other_names_of_blobs_lead_to_the_same_place() {
        for (text, canonical) in [
            ("https://acc.blob.core.windows.net/c-1/m/a%20b.bin", "az://acc/c-1/m/a b.bin"),
            ("HTTPS://ACC.Blob.core.windows.net:443/c-1/", "az://acc/c-1/"),
            ("https://acc.blob.core.windows.net/c-1", "az://acc/c-1/"),
            ("https://acc.dfs.core.windows.net/c-1/m", "az://acc/c-1/m"),
            ("https://acc.z1.blob.storage.azure.net/c-1/m", "https://acc.z1.blob.storage.azure.net/c-1/m"),
            ("https://acc.z12.dfs.storage.azure.net/c-1/a b", "https://acc.z12.blob.storage.azure.net/c-1/a%20b"),
            ("https://acc.blob.core.chinacloudapi.cn/c-1/m%2Fx", "https://acc.blob.core.chinacloudapi.cn/c-1/m/x"),
            ("https://acc.blob.core.usgovcloudapi.net/c-1/m", "https://acc.blob.core.usgovcloudapi.net/c-1/m"),
            ("wasbs://c-1@acc.blob.core.windows.net/1/x%20y/m", "az://acc/c-1/1/x%20y/m"),
            ("wasb://c-1@acc.blob.core.windows.net", "az://acc/c-1/"),
            ("abfss://c-1@acc.dfs.core.windows.net/m", "az://acc/c-1/m"),
        ] {
            let source = azure(text);
            assert_eq!(source.canonical(), canonical, "{text}");
            assert_eq!(azure(canonical), source, "{canonical}");
        }
    }

    #[test]
    fn other_hosts_are_web_servers() {
        for text in [
            "https://blob.core.windows.net/c/m",
            "https://acc.blob.core.windows.net.example.com/c/m",
            "https://acc.web.core.windows.net/c/m",
            "https://acc.z123.blob.storage.azure.net/c/m",
            "https://acc.zz.blob.storage.azure.net/c/m",
            "https://acc.z1.blob.core.windows.net/c/m",
            "https://acc.blob.storage.azure.net/c/m",
            "https://acc.blob.core.windows.net:8443/c/m",
            "http://acc.blob.core.windows.net/c/m",
        ] {
            assert!(matches!(Source::parse(text), Ok(Source::Http(_))), "{text}: {:?}", Source::parse(text));
        }
    }

    #[test]
    fn a_signature_is_kept_and_never_shown() {
        for text in [
            format!("az://acc/models/m?{SAS}"),
            format!("https://acc.blob.core.windows.net/models/m?{SAS}"),
            format!("https://acc.z1.blob.storage.azure.net/models/m?{SAS}"),
        ] {
            let source = azure(&text);
            assert_eq!(source.signature().map(Secret::expose), Some(SAS));
            let parsed = Source::parse(&text).unwrap();
            for shown in [format!("{source:?}"), format!("{parsed:?}"), parsed.to_string(), source.canonical()] {
                assert!(!shown.contains("canary") && !shown.contains('?'), "{shown}");
            }
            assert_eq!(source.blob, "m");
        }
        assert_eq!(shared_access_signature("X", &format!(" ?{SAS}\n")).unwrap().expose(), SAS);
    }

    #[test]
    fn bad_sources_are_usage_errors_that_show_no_secret() {
        let long = format!("az://acc/models/{}", "k".repeat(1025));
        for text in [
            "az:",
            "az:/acc/models",
            "az://",
            "az:///models",
            "az://acc",
            "az://acc/",
            "az://ac/models",
            "az://Acc/models",
            "az://user@acc/models",
            "az://acc/c/m",
            "az://acc/Models",
            "az://acc/-models",
            "az://acc/mo--dels",
            "az://acc/$other/m",
            "az://acc/models/../x",
            "az://acc/models/a/./b",
            "az://acc/models/m?sig=canary&restype=container",
            "az://acc/models/m?sig=canary canary",
            long.as_str(),
            "https://acc.blob.core.windows.net/",
            "https://acc.blob.core.windows.net/models/%ff",
            "https://acc.blob.core.windows.net/models/m?comp=list",
            "https://acc.blob.core.windows.net/models/m?versionid=canary",
            "https://acc.blob.core.windows.net/models/m?sv=2021-12-02",
            "https://acc.blob.core.windows.net/models/m?canarycanarycanarycanarycanarycanary",
            "https://u:canary@acc.blob.core.windows.net/models/m",
            "https://a_b.blob.core.windows.net/models/m",
            "https://acc.file.core.windows.net/share/m",
            "https://acc.z1.file.storage.azure.net/share/m",
            "wasbs://models/m",
            "wasbs://models@acc/m",
            "abfss://models@acc.file.core.windows.net/m",
        ] {
            let Err(Error::Usage(why)) = Source::parse(text) else { panic!("{text}: {:?}", Source::parse(text)) };
            assert!(!why.contains("canary"), "{why}");
        }
        let Err(Error::Usage(text)) = Source::parse("https://acc.file.core.windows.net/share/m") else { panic!() };
        assert!(text.contains("file shares"), "{text}");
    }

    #[test]
    fn a_signature_is_a_secret_wherever_it_stands() {
        let signed = "sv=2021-12-02&sig=hush";
        for text in [
            format!("az://acc/c-1/m?{signed}"),
            format!("wasbs://c-1@acc.blob.core.windows.net/m?{signed}"),
            format!("abfss://c-1@acc.dfs.core.windows.net/m?{signed}"),
        ] {
            let Ok(Source::Azure(azure)) = Source::parse(&text) else { panic!("an Azure source") };
            assert_eq!((azure.blob.as_str(), azure.signature().is_some()), ("m", true));
            assert!(!format!("{azure:?}").contains("hush"));
        }
        for text in [format!("az://acc/c-1/m?{signed}?timeout=5"), format!("az://acc/c-1/m?x?{signed}?")] {
            let Err(Error::Usage(told)) = Source::parse(&text) else { panic!("refused") };
            assert!(!told.contains("hush"), "{told}");
        }
        let Ok(Source::Azure(azure)) = Source::parse("az://acc/c-1/what?") else { panic!("a name") };
        assert_eq!(azure.blob, "what?");
    }
}
