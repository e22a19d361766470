//! Durable claims about part files ([`record`], pure), what is written and not durable yet ([`written`], pure), and
//! the files they are in (`file`).

pub mod file;
pub mod record;
mod replay;
pub mod written;
