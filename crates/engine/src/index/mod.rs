//! The two orders that placement looks things up in.

mod bits;
mod ordered;

pub use bits::Bits;
pub use ordered::Ordered;
