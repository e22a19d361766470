//! `models:/NAME/VERSION` and its kin: a model by its name in an MLflow registry, and `mlflow-artifacts:/PATH`.

use super::{decoded, shown, usage};
use crate::error::Error;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// A model that an MLflow server knows. Which server is the environment's to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MlflowSource {
    /// Which model.
    pub model: MlflowModel,
    /// What of it, below its root; empty for all. No component is empty, `.` or `..`.
    pub below: String,
    /// The names as they were written.
    place: String,
}

/// How a model is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MlflowModel {
    /// A version of a registered model.
    Registered {
        /// The registered model's name.
        name: String,
        /// Which of its versions.
        choice: Choice,
    },
    /// A logged model, by its id `m-…`.
    Logged {
        /// The id.
        id: String,
    },
}

/// Which version of a registered model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This one, a number in decimal.
    Version(String),
    /// The one with the highest number.
    Latest,
    /// The highest number in this stage (`Production`, `Staging`, …).
    Stage(String),
    /// The one this alias points to.
    Alias(String),
}

impl MlflowSource {
    /// Reads what follows `models:` or `mlflow:`; `models:/x`, `models://x` and `models:///x` mean the same.
    pub(super) fn parse(scheme: &str, rest: &str) -> Result<Self, Error> {
        let place = rest.trim_start_matches('/');
        if !(1..=3).contains(&(rest.len() - place.len())) {
            return Err(usage(format!("{scheme} sources begin with {scheme}:/")));
        }
        if place.contains(['?', '#']) {
            return Err(usage(format!("a {scheme}: source takes no parameters; write `?` as %3F and `#` as %23")));
        }
        let place = place.trim_end_matches('/');
        let (first, rest) = place.split_once('/').map_or((place, None), |(first, rest)| (first, Some(rest)));
        let (model, below) = match (first.rsplit_once('@'), rest) {
            (Some((name, alias)), below) => (registered(name, Choice::Alias(word("alias", alias)?))?, below),
            (None, None) if first.starts_with("m-") => (MlflowModel::Logged { id: word("model id", first)? }, None),
            (None, None) => {
                return Err(usage(format!("name a version: {scheme}:/NAME/VERSION, /latest or NAME@ALIAS")));
            }
            (None, Some(rest)) => {
                let (which, below) = rest.split_once('/').map_or((rest, None), |(which, below)| (which, Some(below)));
                (registered(first, choice(which)?)?, below)
            }
        };
        let below = below.map_or_else(|| Ok(String::new()), path)?;
        Ok(Self { model, below, place: place.to_owned() })
    }

    pub(super) fn canonical(&self) -> String {
        format!("models:/{}", self.place)
    }
}

fn registered(name: &str, choice: Choice) -> Result<MlflowModel, Error> {
    Ok(MlflowModel::Registered { name: word("model", name)?, choice })
}

fn choice(text: &str) -> Result<Choice, Error> {
    let text = word("version", text)?;
    Ok(match text.as_str() {
        latest if latest.eq_ignore_ascii_case("latest") => Choice::Latest,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Choice::Version(text),
        _ => Choice::Stage(text),
    })
}

fn word(what: &str, text: &str) -> Result<String, Error> {
    let name = decoded(text).filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
    name.ok_or_else(|| usage(format!("{} is not the name of a {what} in MLflow", shown(text))))
}

/// A path below a root, decoded; it becomes part of a URL, where `..` would lead elsewhere.
fn path(text: &str) -> Result<String, Error> {
    let path = decoded(text).filter(|path| path.split('/').all(|part| !matches!(part, "" | "." | "..")));
    path.ok_or_else(|| usage(format!("{} is not a path below a model", shown(text))))
}

/// Files that an MLflow tracking server hands out itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactsSource {
    /// `HOST` or `HOST:PORT`, where the source names it; otherwise the tracking server's.
    pub host: Option<String>,
    /// The path below the server's artifact root, decoded; not empty, no component is empty, `.` or `..`.
    pub path: String,
}

impl ArtifactsSource {
    /// Reads what follows `mlflow-artifacts:`.
    pub(super) fn parse(rest: &str) -> Result<Self, Error> {
        let (host, place) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("", rest.strip_prefix('/').unwrap_or_default()),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let url = url::Url::parse(&format!("http://{host}/"));
        if !host.is_empty() && (!host.bytes().all(plain) || url.is_err()) {
            return Err(usage("the mlflow-artifacts: source's host is not HOST or HOST:PORT"));
        }
        if place.contains(['?', '#']) {
            return Err(usage("an mlflow-artifacts: source takes no parameters"));
        }
        Ok(Self {
            host: Some(host).filter(|host| !host.is_empty()).map(str::to_owned),
            path: path(place.trim_end_matches('/'))?,
        })
    }

    pub(super) fn canonical(&self) -> String {
        // Just what a parser could read otherwise.
        let path = self.path.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
        match &self.host {
            Some(host) => format!("mlflow-artifacts://{host}/{path}"),
            None => format!("mlflow-artifacts:/{path}"),
        }
    }
}
