//! Where GCS is, and the URLs of its JSON API. Pure.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::Error;
use crate::origin::Environment;
use crate::uri::{GcsSource, check_endpoint};

/// Google's own.
const ENDPOINT: &str = "https://storage.googleapis.com";

/// The variable of every client of Google's for an emulator: nobody logs in there.
pub(super) const EMULATOR: &str = "STORAGE_EMULATOR_HOST";

/// gcloud's own variable for another endpoint, such as one of Private Service Connect.
const OVERRIDE: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE";

/// What the override ends with where it is written as gcloud documents it.
const API_PATH: &str = "/storage/v1";

/// Objects asked per page: the API's own most.
const PAGE_OBJECTS: u32 = 1000;

/// What is wanted of an object's description.
const OBJECT_FIELDS: &str = "name,size,generation,crc32c,md5Hash";

/// All but the unreserved characters: a `/` of a name is `%2F` in a path.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An endpoint of the JSON API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Scheme, host, port and perhaps a path, without a slash at the end.
    base: String,
    emulator: bool,
}

impl Place {
    /// # Errors
    /// [`Error::Usage`] for a setting that is no endpoint.
    pub(super) fn new(environment: &Environment) -> Result<Self, Error> {
        if let Some(host) = environment.var(EMULATOR) {
            let url = if host.contains("://") { host.to_owned() } else { format!("http://{host}") };
            return Ok(Self { base: check_endpoint(EMULATOR, &url)?, emulator: true });
        }
        let named = environment.var(OVERRIDE).map(|text| check_endpoint(OVERRIDE, text)).transpose()?;
        let base = named.unwrap_or_else(|| ENDPOINT.to_owned());
        let base = base.strip_suffix(API_PATH).unwrap_or(&base).to_owned();
        Ok(Self { base, emulator: false })
    }

    /// Whether requests go without a login by demand.
    pub(super) fn is_emulator(&self) -> bool {
        self.emulator
    }

    /// The endpoint in words.
    pub(super) fn shown(&self) -> &str {
        &self.base
    }

    /// One page of the objects whose names begin with `prefix`.
    pub(super) fn page(&self, bucket: &str, prefix: &str, token: Option<&str>) -> String {
        let fields = format!("nextPageToken,items({OBJECT_FIELDS})");
        let mut url = format!("{}/b/{}/o?maxResults={PAGE_OBJECTS}&fields={}", self.api(), name(bucket), name(&fields));
        for (key, value) in [("prefix", Some(prefix).filter(|prefix| !prefix.is_empty())), ("pageToken", token)] {
            if let Some(value) = value {
                url.push_str(&format!("&{key}={}", name(value)));
            }
        }
        url
    }

    /// The description of an object as it is now.
    pub(super) fn object(&self, source: &GcsSource, object: &str) -> String {
        format!("{}?fields={}", self.object_path(source, object), name(OBJECT_FIELDS))
    }

    /// The bytes of an object, of one generation where that is known.
    pub(super) fn media(&self, source: &GcsSource, object: &str, generation: Option<&str>) -> String {
        let pin = generation.map(|generation| format!("&generation={}", name(generation))).unwrap_or_default();
        format!("{}?alt=media{pin}", self.object_path(source, object))
    }

    fn object_path(&self, source: &GcsSource, object: &str) -> String {
        format!("{}/b/{}/o/{}", self.api(), name(&source.bucket), name(object))
    }

    fn api(&self) -> String {
        format!("{}{API_PATH}", self.base)
    }
}

fn name(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Result<Place, Error> {
        Place::new(&Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))))
    }

    #[test]
    fn the_endpoint_is_googles_unless_the_environment_says_otherwise() {
        for (variables, base, emulator) in [
            (&[][..], "https://storage.googleapis.com", false),
            (&[(EMULATOR, "http://127.0.0.1:9023/")], "http://127.0.0.1:9023", true),
            (&[(EMULATOR, "gcs:4443"), (OVERRIDE, "https://x")], "http://gcs:4443", true),
            (&[(EMULATOR, ""), (OVERRIDE, "https://psc.example/storage/v1/")], "https://psc.example", false),
            (&[(OVERRIDE, "http://127.0.0.1:1")], "http://127.0.0.1:1", false),
        ] {
            let place = place(variables).unwrap();
            assert_eq!((place.shown(), place.is_emulator()), (base, emulator), "{variables:?}");
        }
        for (name, value) in [(EMULATOR, "ftp://x"), (OVERRIDE, "http://u:p@x"), (OVERRIDE, "x")] {
            let Err(Error::Usage(text)) = place(&[(name, value)]) else { panic!("{name}={value}") };
            assert!(text.contains(name) && !text.contains("u:p"), "{text}");
        }
    }

    #[test]
    fn names_are_one_segment_of_a_path_whatever_they_hold() {
        let place = place(&[(EMULATOR, "h:1")]).unwrap();
        let source = GcsSource { bucket: "bucket".to_owned(), object: String::new() };
        let object = "m/a b?c=d&e#f%41+ü";
        let encoded = "m%2Fa%20b%3Fc%3Dd%26e%23f%2541%2B%C3%BC";
        let media = place.media(&source, object, Some("17"));
        assert_eq!(media, format!("http://h:1/storage/v1/b/bucket/o/{encoded}?alt=media&generation=17"));
        // The URL's own parser must leave it so.
        assert_eq!(crate::wire::Url::parse(&media).unwrap().expose(), media);
        assert_eq!(place.media(&source, "a", None), "http://h:1/storage/v1/b/bucket/o/a?alt=media");
        let described = place.object(&source, "a/b");
        assert_eq!(
            described,
            "http://h:1/storage/v1/b/bucket/o/a%2Fb?fields=name%2Csize%2Cgeneration%2Ccrc32c%2Cmd5Hash"
        );
        let page = place.page("bucket", "m/", Some("t="));
        assert!(page.ends_with("&prefix=m%2F&pageToken=t%3D"), "{page}");
        assert!(!place.page("bucket", "", None).contains("prefix"));
    }
}
