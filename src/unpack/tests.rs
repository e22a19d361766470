//! Archives made by hand, byte by byte, and what becomes of them.

use super::*;
