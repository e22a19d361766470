//! What counts are held to: ten times the items cost little more than ten times the instructions, and what is stored.

use std::collections::BTreeMap;

/// Ten times the items may cost this many times the instructions. Tables that grow and logarithms take a few percent;
/// what is quadratic takes a hundred.
pub(crate) const GROWTH_MAX: f64 = 11.0;

/// A case as it was counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    /// `subject/variant/size` of the larger size.
    pub(crate) name: String,
    pub(crate) small: u64,
    /// Of ten times the items.
    pub(crate) large: u64,
    /// Allowed distance of `large` from what is stored, in percent.
    pub(crate) tolerance: f64,
}

pub(crate) fn ratio(count: u64, other: u64) -> f64 {
    count as f64 / other as f64
}

/// The change against a stored figure, in percent.
pub(crate) fn change(found: u64, stored: u64) -> f64 {
    (ratio(found, stored) - 1.0) * 100.0
}

/// The cases that grow faster than their input.
pub(crate) fn growing(counted: &[Counted]) -> Vec<String> {
    let fast = counted.iter().filter(|case| GROWTH_MAX < ratio(case.large, case.small));
    fast.map(|case| {
        let Counted { name, small, large, .. } = case;
        let ratio = ratio(*large, *small);
        format!("{name}: {large} instructions, {small} for a tenth of it: {ratio:.2} times, at most {GROWTH_MAX:.2}")
    })
    .collect()
}

/// The cases that are not what is stored of them, and of [`Extent::All`] what is stored and was not counted.
pub(crate) fn differing(counted: &[Counted], stored: &BTreeMap<String, u64>, extent: Extent) -> Vec<String> {
    let differs = |case: &Counted| {
        let Counted { name, large, tolerance, .. } = case;
        let Some(stored) = stored.get(name) else { return Some(format!("{name}: {large} instructions, none stored")) };
        let far = *tolerance < change(*large, *stored).abs();
        let ratio = ratio(*large, *stored);
        far.then(|| {
            format!("{name}: {large} instructions, {stored} stored: {ratio:.3} times, {tolerance} % are allowed")
        })
    };
    let unknown = |name: &&String| extent == Extent::All && !counted.iter().any(|case| case.name == **name);
    let unknown = stored.keys().filter(unknown).map(|name| format!("{name}: stored, and no case counts it"));
    counted.iter().filter_map(differs).chain(unknown).collect()
}

/// Which cases were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    All,
    /// Those that the command line chose.
    Chosen,
}

/// Shows that each rule can fail, before it is trusted.
///
/// # Panics
/// When one cannot, or fails what is good.
pub(crate) fn prove_rules() {
    let case = |small, large| vec![Counted { name: "a/b/10".to_owned(), small, large, tolerance: 3.0 }];
    let stored = |name: &str, count| BTreeMap::from([(name.to_owned(), count)]);
    for (large, offenders) in [(9000, 0), (10_990, 0), (11_100, 1), (100_000, 1)] {
        assert_eq!(growing(&case(1000, large)).len(), offenders, "{large}");
    }
    for (large, offenders) in [(10_000, 0), (10_290, 0), (9_710, 0), (10_310, 1), (9_690, 1)] {
        assert_eq!(differing(&case(1, large), &stored("a/b/10", 10_000), Extent::All).len(), offenders, "{large}");
    }
    assert_eq!(differing(&case(1, 1), &stored("a/b/20", 1), Extent::All).len(), 2, "one unknown on each side");
    assert_eq!(differing(&[], &stored("a/b/20", 1), Extent::Chosen).len(), 0, "what was not chosen is not missed");
}
