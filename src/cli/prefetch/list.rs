//! LIST, the models of `dray prefetch`: YAML, or one URI a line. Pure.
//!
//! In: text. Out: [`Model`]s in the order in which they are fetched.
//! Holds: every source can be read, and no two models share a name, a folder, or one inside the other.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};

use crate::error::Error;
use crate::manifest::SafePath;
use crate::uri::Source;

/// Largest LIST that is read.
pub(super) const LIST_BYTES_MAX: u64 = 4 << 20;

/// Most models of one LIST.
const MODELS_MAX: usize = 10_000;

/// One model to fetch. No `Debug`: a source may carry a login.
pub(super) struct Model {
    /// As it was written.
    pub(super) uri: String,
    /// What tables and reports call it.
    pub(super) name: String,
    /// Higher ones go first; equal ones in the order of the list.
    pub(super) priority: i64,
    /// Patterns of its own, in place of the flags'.
    pub(super) allow: Option<Vec<String>>,
    pub(super) ignore: Option<Vec<String>>,
    /// Digests its files must have.
    pub(super) pin: Option<PathBuf>,
    /// Where it lands, below `--into`.
    pub(super) subdir: SafePath,
}

/// Reads LIST; highest priority first.
///
/// # Errors
/// [`Error::Usage`] with the line, and never with its text: a source may carry a login.
pub(super) fn parse(text: &str) -> Result<Vec<Model>, Error> {
    let items = if is_yaml(text) { yaml(text)? } else { lines(text) };
    if items.is_empty() {
        return Err(Error::Usage("the list names no model".to_owned()));
    }
    if MODELS_MAX < items.len() {
        return Err(Error::Usage(format!("the list names more than {MODELS_MAX} models")));
    }
    let mut models = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| model(item).map_err(|error| Error::Usage(format!("model {}: {error}", index + 1))))
        .collect::<Result<Vec<_>, _>>()?;
    apart(&models)?;
    models.sort_by_key(|model| std::cmp::Reverse(model.priority));
    Ok(models)
}

/// A model as the list has it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    uri: String,
    name: Option<String>,
    #[serde(default)]
    priority: i64,
    allow: Option<Vec<String>>,
    ignore: Option<Vec<String>>,
    pin: Option<PathBuf>,
    subdir: Option<String>,
}

/// A model, or its URI alone.
struct Listed(Item);

/// The list itself, or a mapping that has it under `models`.
struct Document(Vec<Listed>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    models: Vec<Listed>,
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URI or a mapping with one")
            }

            fn visit_str<E: de::Error>(self, uri: &str) -> Result<Item, E> {
                Ok(Item { uri: uri.to_owned(), ..Item::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
                Item::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Either).map(Self)
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Vec<Listed>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of models, or a mapping with one under `models`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Listed>, A::Error> {
                let mut models = Vec::new();
                while let Some(model) = seq.next_element()? {
                    models.push(model);
                }
                Ok(models)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Listed>, A::Error> {
                Wrapped::deserialize(MapAccessDeserializer::new(map)).map(|wrapped| wrapped.models)
            }
        }
        deserializer.deserialize_any(Either).map(Self)
    }
}

/// Whether the first line that says anything is YAML's. `models:/iris/1` is a source.
fn is_yaml(text: &str) -> bool {
    let Some(first) = significant(text).next() else { return false };
    let key = |key: &str| first.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
    key("models:") || key("-") || first.starts_with("---") || first.starts_with(['[', '{', '%'])
}

fn significant(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn lines(text: &str) -> Vec<Item> {
    significant(text).map(|line| Item { uri: line.to_owned(), ..Item::default() }).collect()
}

fn yaml(text: &str) -> Result<Vec<Item>, Error> {
    let options = serde_saphyr::options! { with_snippet: false };
    let document: Document = serde_saphyr::from_str_with_options(text, options).map_err(|error| told(&error))?;
    Ok(document.0.into_iter().map(|Listed(item)| item).collect())
}

/// Where the list cannot be read, and why where that repeats nothing of it but the name of a field.
fn told(error: &serde_saphyr::Error) -> Error {
    let place = error.location().map_or_else(String::new, |at| format!(" at line {}", at.line()));
    let why = error.without_snippet().to_string();
    let names_a_field = ["unknown field", "missing field", "duplicate field"].iter().any(|begin| why.contains(begin));
    let why = if names_a_field { why } else { "it is not a list of models".to_owned() };
    Error::Usage(format!("the list cannot be read{place}: {}", why.lines().next().unwrap_or_default()))
}

fn model(item: Item) -> Result<Model, Error> {
    let Item { uri, name, priority, allow, ignore, pin, subdir } = item;
    let source = Source::parse(&uri)?;
    let name = match name {
        Some(name) if name.trim().is_empty() || name.chars().any(char::is_control) => {
            return Err(Error::Usage("its name is empty or has a control character".to_owned()));
        }
        Some(name) => name,
        None => default_name(&source.canonical())
            .ok_or_else(|| Error::Usage("its source gives it no name: write one with `name`".to_owned()))?,
    };
    let wanted = subdir.as_deref().unwrap_or(&name);
    let subdir = SafePath::parse(wanted).map_err(|error| Error::Usage(format!("its folder: {error}")))?;
    Ok(Model { uri, name, priority, allow, ignore, pin, subdir })
}

/// The last part of a source, or all parts of a registry's name, in characters that need no care anywhere.
fn default_name(canonical: &str) -> Option<String> {
    let (scheme, rest) = canonical.split_once(':')?;
    let path = rest.split_once('?').map_or(rest, |(path, _)| path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // The last part of those is a version.
    let registry = ["models", "mlflow", "model-registry"].contains(&scheme);
    let name = if registry { parts.join("-") } else { (*parts.last()?).to_owned() };
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let name = name.trim_matches(['.', '-']);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Refuses models that would land in each other.
fn apart(models: &[Model]) -> Result<(), Error> {
    let mut names = BTreeSet::new();
    for model in models {
        if !names.insert(model.name.as_str()) {
            let name = &model.name;
            return Err(Error::Usage(format!("two models are called `{name}`: tell them apart with `name`")));
        }
    }
    // `a/b` sorts behind `a!`, so the separator is made the lowest character.
    let mut folders: Vec<(String, &str)> =
        models.iter().map(|model| (model.subdir.as_str().replace('/', "\0") + "\0", model.name.as_str())).collect();
    folders.sort();
    for pair in folders.windows(2) {
        if let [(outer, first), (inner, second)] = pair
            && inner.starts_with(outer.as_str())
        {
            return Err(Error::Usage(format!("`{first}` and `{second}` would land in one folder")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<(String, String, String, i64)> {
        let shown = |model: Model| (model.uri, model.name, model.subdir.to_string(), model.priority);
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).into_iter().map(shown).collect()
    }

    fn row(uri: &str, name: &str, subdir: &str, priority: i64) -> (String, String, String, i64) {
        (uri.to_owned(), name.to_owned(), subdir.to_owned(), priority)
    }

    #[test]
    fn a_line_is_a_source_and_gets_its_last_part_as_name() {
        let text =
            "# models\n\ns3://bucket/team/iris/\n  hf://owner/name:v1\nmodels:/credit/3\nhttps://h/a/m.bin?x=1\n";
        let expected = [
            row("s3://bucket/team/iris/", "iris", "iris", 0),
            row("hf://owner/name:v1", "name-v1", "name-v1", 0),
            row("models:/credit/3", "credit-3", "credit-3", 0),
            row("https://h/a/m.bin?x=1", "m.bin", "m.bin", 0),
        ];
        assert_eq!(rows(text), expected);
    }

    #[test]
    fn yaml_is_a_list_or_a_mapping_and_sorts_by_priority() {
        let expected = [
            row("s3://bkt/urgent", "big one", "llm/big", 9),
            row("s3://bkt/first", "first", "first", 0),
            row("s3://bkt/second", "second", "second", 0),
            row("s3://bkt/later", "later", "later", -1),
        ];
        let listed = "- s3://bkt/first\n- {uri: s3://bkt/later, priority: -1}\n- s3://bkt/second\n\
                      - uri: s3://bkt/urgent\n  name: big one\n  subdir: llm/big\n  priority: 9\n";
        let indented: String = listed.lines().map(|line| format!("  {line}\n")).collect();
        for text in [listed.to_owned(), format!("---\n{listed}"), format!("# why\nmodels:\n{indented}")] {
            assert_eq!(rows(&text), expected, "{text}");
        }
        assert_eq!(rows(r#"{"models": ["s3://bkt/json"]}"#), [row("s3://bkt/json", "json", "json", 0)]);
    }

    #[test]
    fn every_field_is_taken() {
        let text = "- uri: s3://bkt/m\n  allow: ['*.json']\n  ignore: [a, b]\n  pin: locks/m.lock\n";
        let models = parse(text).unwrap_or_else(|error| panic!("{error}"));
        let [model] = models.as_slice() else { panic!("one model") };
        assert_eq!(model.allow.as_deref(), Some(&["*.json".to_owned()][..]));
        assert_eq!(model.ignore.as_deref(), Some(&["a".to_owned(), "b".to_owned()][..]));
        assert_eq!(model.pin, Some(PathBuf::from("locks/m.lock")));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_source() {
        for (text, why) in [
            ("", "no model"),
            ("# nothing\n", "no model"),
            ("models: []\n", "no model"),
            ("model\n", "model 1: the source has no scheme"),
            ("s3://bkt/m\nftp://login:hush@h/m\n", "model 2: the source's scheme"),
            ("- uri: s3://bkt/m\n  url: hush\n", "at line 2: unknown field `url`"),
            ("- name: hush\n", "missing field `uri`"),
            ("- uri: s3://bkt/m\n  priority: hush\n", "at line 2: it is not a list of models"),
            ("models: https://login:hush@h/m\n", "it is not a list of models"),
            ("- s3://bkt/m\n- [hush]\n", "it is not a list of models"),
            ("- s3://bkt/m\n- 's3://hush", "it is not a list of models"),
            ("s3://bkt/m\ns3://ckt/m\n", "two models are called `m`"),
            ("- uri: s3://bkt/m\n  subdir: ../hush-not\n", "`.` or `..` component"),
            (
                "- {uri: s3://bkt/m, subdir: a}\n- {uri: s3://bkt/n, subdir: a/b}\n",
                "`m` and `n` would land in one folder",
            ),
            ("- {uri: s3://bkt/m, subdir: a}\n- {uri: s3://bkt/n, subdir: a}\n", "would land in one folder"),
            ("- {uri: s3://bkt/m, name: ' '}\n", "its name is empty"),
        ] {
            let Err(Error::Usage(told)) = parse(text) else { panic!("{text}") };
            assert!(told.contains(why), "{text}: {told}");
            assert!(!told.contains("hush@") && !told.contains("hush]"), "{told}");
            assert!(!told.contains('\n'), "{told}");
        }
        let near =
            "- {uri: s3://bkt/m, subdir: a}\n- {uri: s3://bkt/n, subdir: a-b}\n- {uri: s3://bkt/o, subdir: b/a}\n";
        assert_eq!(rows(near).len(), 3);
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "- &a0 [s3://bkt/m]\n".to_owned();
        for level in 1..40 {
            let before = level - 1;
            text += &format!("- &a{level} [*a{before}, *a{before}, *a{before}, *a{before}]\n");
        }
        assert!(matches!(parse(&text), Err(Error::Usage(_))));
        let deep = "[".repeat(100_000);
        assert!(matches!(parse(&deep), Err(Error::Usage(_))));
        let many: String = (0..=MODELS_MAX).map(|number| format!("s3://bkt/m{number}\n")).collect();
        let Err(Error::Usage(told)) = parse(&many) else { panic!("too many") };
        assert!(told.contains("more than 10000 models"), "{told}");
    }
}
