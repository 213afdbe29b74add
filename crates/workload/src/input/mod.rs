//! Reading text files that nobody vouches for: plain or gzip, line by line, in bounded memory.
//!
//! [`Lines`] bounds the length of a line and of the whole, so that neither a line of 10 GB nor a compressed bomb can
//! exhaust the memory. [`Table`] reads CSV on top of it. Every error says the file, the line, what was given and what
//! is allowed.

mod decimal;
mod error;
mod lines;
mod table;

pub use decimal::parse_decimal;
pub use error::{InputError, Place, excerpt};
pub use lines::{Limits, Line, Lines};
pub use table::{Column, Row, Table, write_row};
