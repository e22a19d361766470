//! Where the Hub is and as whom it is asked, from the variables that its own clients read.

use std::path::PathBuf;

use crate::error::Error;
use crate::origin::Environment;
use crate::secret::Secret;
use crate::uri::check_endpoint;

/// The Hub itself, unless `HF_ENDPOINT` says otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// Longest token file that is read.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// What every request to the Hub needs.
#[derive(Debug)]
pub(super) struct Settings {
    /// Scheme, host, port and perhaps a path, without a slash at the end.
    pub(super) endpoint: String,
    pub(super) token: Option<Secret>,
    /// The variable or file that the token is from.
    pub(super) named: String,
}

impl Settings {
    /// Reads the variables, and the token's file.
    ///
    /// # Errors
    /// [`Error::Usage`] when nothing may be asked, for an endpoint that is none, and for a token that cannot be read.
    pub(super) fn read(environment: &Environment) -> Result<Self, Error> {
        if environment.flag("HF_HUB_OFFLINE") {
            let text =
                "HF_HUB_OFFLINE is set, so nothing can be fetched from the Hub; unset it, or name another source";
            return Err(Error::Usage(text.to_owned()));
        }
        let endpoint = environment.var("HF_ENDPOINT").unwrap_or(ENDPOINT);
        let (token, named) = token(environment)?.unzip();
        let named = named.unwrap_or_default();
        Ok(Self { endpoint: check_endpoint("HF_ENDPOINT", endpoint)?, token, named })
    }

    /// The kind of credential that requests carry, as the audit log names it.
    pub(super) fn credential(&self) -> &'static str {
        if self.token.is_some() { "bearer token" } else { "anonymous" }
    }

    /// As whom the Hub is asked, for people.
    pub(super) fn asked_as(&self) -> String {
        if self.token.is_some() {
            format!("the token from {}", self.named)
        } else {
            "anonymous: HF_TOKEN is not set".to_owned()
        }
    }
}

/// The token, and where it is from.
fn token(environment: &Environment) -> Result<Option<(Secret, String)>, Error> {
    if environment.flag("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = environment.var(name) {
            return checked(name, token).map(|token| Some((token, name.to_owned())));
        }
    }
    let named = environment.var("HF_TOKEN_PATH").map(PathBuf::from);
    let Some(path) = named.clone().or_else(|| home(environment).map(|home| home.join("token"))) else {
        return Ok(None);
    };
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if named.is_none() || error.kind() == std::io::ErrorKind::NotFound => {
            // A home that this user may not read is as good as none: pods run as any UID.
            tracing::debug!(path = %path.display(), %error, "there is no token file");
            return Ok(None);
        }
        Err(error) => return Err(Error::Usage(format!("HF_TOKEN_PATH {}: {error}", path.display()))),
    };
    let token = text.trim();
    let path = path.display().to_string();
    if token.is_empty() { Ok(None) } else { checked(&path, token).map(|token| Some((token, path))) }
}

fn home(environment: &Environment) -> Option<PathBuf> {
    let cache = || environment.var("XDG_CACHE_HOME").map(PathBuf::from);
    let own = || environment.var("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let home = || cache().or_else(own).map(|cache| cache.join("huggingface"));
    environment.var("HF_HOME").map(PathBuf::from).or_else(home)
}

fn read(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// A token that makes a header; it is never repeated.
fn checked(what: &str, token: &str) -> Result<Secret, Error> {
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Secret::new(token));
    }
    Err(Error::Usage(format!("the Hub's token in {what} is not one plain word")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, Error> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(&Environment::new(variables))
    }

    fn check(variables: &[(&str, &str)], token: Option<&str>) {
        let settings = settings(variables).unwrap();
        assert_eq!(settings.token.as_ref().map(Secret::expose), token, "{variables:?}");
    }

    #[test]
    fn tokens_come_from_variables_then_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::create_dir_all(folder.path().join("cache/huggingface")).unwrap();
        std::fs::create_dir_all(folder.path().join(".cache/huggingface")).unwrap();
        for (name, token) in [
            ("token", "hf_home\n"),
            ("own", "hf_path\r\n"),
            ("cache/huggingface/token", "hf_xdg"),
            (".cache/huggingface/token", "hf_user"),
            ("empty", "\n"),
        ] {
            std::fs::write(folder.path().join(name), token).unwrap();
        }
        let (root, own, empty, absent) = (path(""), path("own"), path("empty"), path("absent"));
        let cache = path("cache");
        let all = [("HF_HOME", root.as_str()), ("HF_TOKEN_PATH", own.as_str()), ("HUGGING_FACE_HUB_TOKEN", "hf_old")];
        check(&[], None);
        check(&[("HF_TOKEN", "hf_new"), all[0], all[1], all[2]], Some("hf_new"));
        check(&[("HF_TOKEN", " "), all[0], all[1], all[2]], Some("hf_old"));
        check(&all[..2], Some("hf_path"));
        check(&all[..1], Some("hf_home"));
        check(&[("XDG_CACHE_HOME", &cache), ("HOME", &root)], Some("hf_xdg"));
        check(&[("HOME", &root)], Some("hf_user"));
        check(&[("HF_TOKEN_PATH", &absent), ("HF_HOME", &root)], None);
        check(&[("HF_TOKEN_PATH", &empty)], None);
        check(&[("HF_TOKEN", "hf_new"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), all[0]], None);
    }

    #[test]
    fn settings_that_cannot_be_meant_are_usage_errors_without_the_token() {
        for variables in [
            [("HF_HUB_OFFLINE", "1"), ("HF_TOKEN", "canary")],
            [("HF_HUB_OFFLINE", "ON"), ("HF_TOKEN", "canary")],
            [("HF_ENDPOINT", "hub.corp"), ("HF_TOKEN", "canary")],
            [("HF_ENDPOINT", "https://canary:canary@hub.corp"), ("HF_TOKEN", "canary")],
            [("HF_TOKEN", "canary\r\nX: y"), ("HOME", "/")],
            [("HF_TOKEN_PATH", "/proc/self/mem"), ("HOME", "/")],
        ] {
            let Err(Error::Usage(text)) = settings(&variables) else { panic!("{variables:?} is accepted") };
            assert!(!text.contains("canary"), "{text}");
        }
        assert_eq!(settings(&[]).unwrap().endpoint, "https://huggingface.co");
        assert_eq!(settings(&[("HF_ENDPOINT", "http://h:1/hf/")]).unwrap().endpoint, "http://h:1/hf");
        assert_eq!(settings(&[("HF_HUB_OFFLINE", "0")]).unwrap().credential(), "anonymous");
    }
}
