//! Durable claims about part files: the format ([`record`], pure) and the file (`file`).

pub mod file;
pub mod record;
mod replay;
