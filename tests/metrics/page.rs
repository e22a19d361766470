//! A strict reader of Prometheus' text format 0.0.4: what a lenient scraper would forgive is a failure here.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Labels in the order they are written, which is sorted here.
type Labels = Vec<(String, String)>;

/// One scrape.
#[derive(Default)]
pub(crate) struct Page {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<(String, Labels), f64>,
    /// Values of earlier scrapes by name, handed on by [`Page::assert_follows`].
    seen: RefCell<BTreeMap<String, Vec<f64>>>,
}

impl Page {
    /// Reads a page; anything out of order panics.
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut page = Self::default();
        let mut family = String::new();
        let mut helped = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(helped.insert(name.to_owned()) && !help.trim().is_empty(), "one HELP a family: {line}");
                family = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(name, family, "TYPE follows HELP");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(page.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "one TYPE a family: {line}");
            } else {
                page.sample(&family, line);
            }
        }
        page.check();
        page
    }

    fn sample(&mut self, family: &str, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line:?}"));
        let (name, labels) = match series.split_once('{') {
            None => (series, Vec::new()),
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("labels end"))),
        };
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.starts_with("dray_") && name.chars().all(valid), "name of {line:?}");
        let kind = self.kinds.get(family).unwrap_or_else(|| panic!("a sample before its TYPE: {line}"));
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        assert_eq!(kind == "counter", family.ends_with("_total"), "counters, and they alone, end in _total: {line}");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(0.0 <= value && value.is_finite(), "{line}");
        let before = self.samples.insert((name.to_owned(), labels), value);
        assert_eq!(before, None, "a series twice: {line}");
    }

    /// What only the whole page tells: every family has a sample, buckets grow up to their count.
    fn check(&self) {
        for (family, kind) in &self.kinds {
            let of_family = |name: &str| name.strip_prefix(family.as_str()).is_some();
            assert!(self.samples.keys().any(|(name, _)| of_family(name)), "{family} has no sample");
            if kind != "histogram" {
                continue;
            }
            let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((name, labels), value) in &self.samples {
                if *name == format!("{family}_bucket") {
                    let (bound, rest): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|(name, _)| name == "le");
                    let bound = bound.first().expect("a bucket has a bound").1.parse().expect("a bound is a number");
                    series.entry(rest).or_default().push((bound, *value));
                }
            }
            for (labels, mut buckets) in series {
                buckets.sort_by(|one, two| one.0.total_cmp(&two.0));
                assert!(buckets.is_sorted_by(|one, two| one.0 < two.0 && one.1 <= two.1), "{family}: {buckets:?}");
                let (bound, count) = *buckets.last().expect("a bucket");
                assert_eq!((bound, count), (f64::INFINITY, self.samples[&(format!("{family}_count"), labels)]));
            }
        }
    }

    /// The value of a series without labels.
    pub(crate) fn value(&self, name: &str) -> f64 {
        *self.samples.get(&(name.to_owned(), Vec::new())).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The value of a series with one label; 0 where it is not there.
    pub(crate) fn labelled(&self, name: &str, label: &str, value: &str) -> f64 {
        let labels = vec![(label.to_owned(), value.to_owned())];
        self.samples.get(&(name.to_owned(), labels)).copied().unwrap_or(0.0)
    }

    /// The sum over all labels.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.samples.iter().filter(|((known, _), _)| known == name).map(|(_, value)| value).sum()
    }

    /// Nothing that counts has fallen since `before`, and no series is gone.
    pub(crate) fn assert_follows(&self, before: &Self) {
        let mut seen = before.seen.borrow().clone();
        for ((name, labels), value) in &before.samples {
            let now = self.samples.get(&(name.clone(), labels.clone()));
            let now = *now.unwrap_or_else(|| panic!("{name} {labels:?} is gone"));
            let counts =
                name.ends_with("_total") || ["_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
            assert!(!counts || *value <= now, "{name} {labels:?} fell from {value} to {now}");
            seen.entry(name.clone()).or_default().push(*value);
        }
        self.seen.replace(seen);
    }

    /// Whether some earlier page had `name` between two values.
    pub(crate) fn seen_between(&self, name: &str, low: f64, high: f64) -> bool {
        self.seen.borrow().get(name).is_some_and(|values| values.iter().any(|value| low <= *value && *value <= high))
    }
}

/// Reads `a="x",b="y"`. Values here hold neither quotes nor backslashes.
fn labels(text: &str) -> Labels {
    let mut labels = Labels::new();
    for pair in text.split("\",") {
        let (name, value) = pair.split_once("=\"").unwrap_or_else(|| panic!("a label: {pair:?}"));
        let value = value.strip_suffix('"').unwrap_or(value);
        assert!(!name.is_empty() && !value.contains(['"', '\\', '\n']), "{pair:?}");
        labels.push((name.to_owned(), value.to_owned()));
    }
    labels.sort();
    labels
}
