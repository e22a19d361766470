//! Durable claims about part files: the format ([`record`], pure) and the file (`file`).
pub mod record;
