//! Which peers to run, as the user says it.

/// Which peers are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Those that are installed.
    Auto,
    /// None.
    None,
    /// These; one that is missing is a row that says so.
    Named(Vec<String>),
}

impl Wanted {
    /// Reads `auto`, `none` or names between commas.
    ///
    /// # Errors
    /// A name that is none of [`super::names`].
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            list => {
                let asked: Vec<String> = list.split(',').map(|name| name.trim().to_owned()).collect();
                match asked.iter().find(|name| !super::names().contains(&name.as_str())) {
                    Some(name) => Err(format!("`{name}` is not auto, none or one of {}", super::names().join(", "))),
                    None => Ok(Self::Named(asked)),
                }
            }
        }
    }
}
