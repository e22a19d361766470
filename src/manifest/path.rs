//! x
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafePath(String);
impl SafePath { pub fn as_str(&self) -> &str { &self.0 } }
pub enum NameError{}
