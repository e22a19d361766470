//! The variables of one process, read once by `cli`.

use std::collections::BTreeMap;

/// A snapshot of environment variables. Values may be secrets, so `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The snapshot of these variables.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The value of `name`; an empty one counts as unset.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// The snapshot with `variables` in place of those of the same names.
    pub fn with(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.0.extend(variables);
        self
    }

    /// Whether `name` is `false`, `0`, `no` or `off`, in any case; a variable that is unset is not.
    pub fn refuses(&self, name: &str) -> bool {
        let value = self.var(name).unwrap_or_default().to_ascii_lowercase();
        matches!(value.as_str(), "false" | "0" | "no" | "off")
    }

    /// Whether `name` is `true`, `1`, `yes` or `on`, in any case.
    pub fn flag(&self, name: &str) -> bool {
        let value = self.var(name).unwrap_or_default().to_ascii_lowercase();
        matches!(value.as_str(), "true" | "1" | "yes" | "on")
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}
