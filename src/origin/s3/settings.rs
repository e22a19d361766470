//! Where S3 is and how we ask there: environment before profile before URI. Pure.

use crate::error::Error;
use crate::origin::Environment;
use crate::uri::{S3Source, check_endpoint, check_region};

/// The region where nothing names one.
const REGION_DEFAULT: &str = "us-east-1";

/// Says no more than "Amazon's own".
const GLOBAL_ENDPOINT: &str = "https://s3.amazonaws.com";

/// What the environment and the URI say; the profile's words come in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// The endpoint to use; `None` for Amazon's own.
    pub(super) endpoint: Option<String>,
    /// Whether the endpoint is the URI's word alone.
    pub(super) endpoint_of_uri: bool,
    /// The region that requests are signed for.
    pub(super) region: String,
    /// Whether the bucket is the first segment of the path rather than of the host.
    pub(super) path_style: bool,
    /// Whether Amazon's transfer acceleration is used.
    pub(super) accelerate: bool,
    /// The variable that demands unsigned requests.
    pub(super) anonymous: Option<&'static str>,
}

/// What the shared configuration file says.
#[derive(Debug, Clone, Default)]
pub(super) struct Profile {
    pub(super) endpoint: Option<String>,
    pub(super) region: Option<String>,
}

impl Settings {
    /// # Errors
    /// [`Error::Usage`] for an endpoint or region that is none.
    pub(super) fn new(source: &S3Source, environment: &Environment, profile: &Profile) -> Result<Self, Error> {
        let named = |name: &'static str| environment.var(name).map(|value| check_endpoint(name, value)).transpose();
        let heeded = !environment.flag("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
        let endpoint = match (heeded, named("AWS_ENDPOINT_URL_S3")?, named("AWS_ENDPOINT_URL")?) {
            (true, Some(endpoint), _) | (true, None, Some(endpoint)) => Some(endpoint),
            (true, None, None) => {
                profile.endpoint.as_deref().map(|url| check_endpoint("the profile's endpoint_url", url)).transpose()?
            }
            (false, _, _) => None,
        };
        let endpoint_of_uri = endpoint.is_none() && source.endpoint.is_some();
        let endpoint = endpoint.or_else(|| source.endpoint.clone());
        // Amazon's old global name serves only one region by path; the SDK knows the right host of each.
        let endpoint = endpoint.filter(|endpoint| endpoint != GLOBAL_ENDPOINT);
        let region = environment.var("AWS_REGION").or_else(|| environment.var("AWS_DEFAULT_REGION"));
        let region = region.or(profile.region.as_deref()).or(source.region.as_deref()).unwrap_or(REGION_DEFAULT);
        Ok(Self {
            path_style: endpoint.is_some() && !environment.flag("S3_USER_VIRTUAL_BUCKET"),
            accelerate: endpoint.is_none() && environment.flag("S3_USE_ACCELERATE"),
            endpoint,
            endpoint_of_uri,
            region: check_region(region)?,
            anonymous: ["AWS_NO_SIGN_REQUEST", "awsAnonymousCredential"]
                .into_iter()
                .find(|name| environment.flag(name)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uri::Source;

    fn settings(uri: &str, variables: &[(&str, &str)], profile: &Profile) -> Result<Settings, Error> {
        let Ok(Source::S3(source)) = Source::parse(uri) else { panic!("{uri}") };
        let environment =
            Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Settings::new(&source, &environment, profile)
    }

    #[test]
    fn endpoint_and_region_follow_their_order() {
        let uri = "s3://bucket/m?endpoint=http://uri:1&defaultRegion=uri-1";
        let profile = Profile { endpoint: Some("http://profile:1".to_owned()), region: Some("profile-1".to_owned()) };
        let mut variables = vec![
            ("AWS_ENDPOINT_URL_S3", "https://s3-only:1/"),
            ("AWS_ENDPOINT_URL", "http://all:1"),
            ("AWS_REGION", "env-1"),
            ("AWS_DEFAULT_REGION", "env-2"),
        ];
        let check = |variables: &[(&str, &str)], profile: &Profile, endpoint: &str, region: &str| {
            let settings = settings(uri, variables, profile).unwrap();
            assert_eq!(
                (settings.endpoint.as_deref(), settings.region.as_str(), settings.path_style),
                (Some(endpoint), region, true)
            );
        };
        check(&variables, &profile, "https://s3-only:1", "env-1");
        variables.remove(2);
        variables.remove(0);
        check(&variables, &profile, "http://all:1", "env-2");
        check(&[], &profile, "http://profile:1", "profile-1");
        check(&[("AWS_ENDPOINT_URL", " "), ("AWS_REGION", "")], &Profile::default(), "http://uri:1", "uri-1");
        check(
            &[("AWS_ENDPOINT_URL", "http://all:1"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")],
            &profile,
            "http://uri:1",
            "profile-1",
        );
        let bare = settings("s3://bucket/m", &[], &Profile::default()).unwrap();
        assert_eq!(
            bare,
            Settings {
                endpoint: None,
                endpoint_of_uri: false,
                region: "us-east-1".to_owned(),
                path_style: false,
                accelerate: false,
                anonymous: None
            }
        );
    }

    #[test]
    fn anonymous_and_virtual_hosts_are_asked_for_by_name() {
        for (name, value, anonymous) in [
            ("AWS_NO_SIGN_REQUEST", "true", true),
            ("AWS_NO_SIGN_REQUEST", "YES", true),
            ("AWS_NO_SIGN_REQUEST", "false", false),
            ("awsAnonymousCredential", "True", true),
            ("awsAnonymousCredential", "", false),
        ] {
            assert_eq!(
                settings("s3://bucket", &[(name, value)], &Profile::default()).unwrap().anonymous,
                anonymous.then_some(name),
                "{name}={value}"
            );
        }
        for (variables, accelerate) in [
            (&[("S3_USE_ACCELERATE", "true")][..], true),
            (&[("S3_USE_ACCELERATE", "false")], false),
            (&[("S3_USE_ACCELERATE", "true"), ("AWS_ENDPOINT_URL", "http://x")], false),
            (&[("S3_USE_ACCELERATE", "true"), ("AWS_ENDPOINT_URL", "https://s3.amazonaws.com")], true),
        ] {
            let settings = settings("s3://bucket", variables, &Profile::default()).unwrap();
            assert_eq!((settings.accelerate, settings.path_style), (accelerate, settings.endpoint.is_some()));
        }
        let virtual_host = [("AWS_ENDPOINT_URL", "http://x"), ("S3_USER_VIRTUAL_BUCKET", "true")];
        assert!(!settings("s3://bucket", &virtual_host, &Profile::default()).unwrap().path_style);
    }

    #[test]
    fn settings_that_are_none_are_usage_errors() {
        for (name, value) in [
            ("AWS_ENDPOINT_URL", "minio:9000"),
            ("AWS_ENDPOINT_URL_S3", "ftp://x"),
            ("AWS_REGION", "eu west"),
            ("AWS_ENDPOINT_URL", "http://u:p@x"),
        ] {
            let Err(Error::Usage(text)) = settings("s3://bucket", &[(name, value)], &Profile::default()) else {
                panic!("{name}={value}")
            };
            assert!(!text.contains("u:p"), "{text}");
        }
    }
}
