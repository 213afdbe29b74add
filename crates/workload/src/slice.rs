//! Slices of a torus as users of TPUs write them: `4x4x8`, `16x16`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A box of chips in two or three dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slice {
    /// The chips along x, y and z; along z 1 in two dimensions.
    pub sides: [u16; 3],
    is_flat: bool,
}

/// What a slice may look like.
pub const SLICE_ALLOWED: &str = "chips along two or three axes, such as `4x4` or `4x4x8`";

impl Slice {
    /// The chips of it.
    pub fn chips(self) -> u64 {
        self.sides.into_iter().map(u64::from).product()
    }
}

impl FromStr for Slice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |part: &str| {
            let is_number =
                !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()) && !part.starts_with('0');
            part.parse().ok().filter(|_| is_number)
        };
        let sides: Option<Vec<u16>> = text.split('x').take(4).map(side).collect();
        match sides.as_deref() {
            Some([x, y]) => Ok(Self { sides: [*x, *y, 1], is_flat: true }),
            Some([x, y, z]) => Ok(Self { sides: [*x, *y, *z], is_flat: false }),
            _ => Err(format!("a slice is {SLICE_ALLOWED}")),
        }
    }
}

impl TryFrom<String> for Slice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Slice> for String {
    fn from(slice: Slice) -> Self {
        slice.to_string()
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.sides;
        if self.is_flat { write!(f, "{x}x{y}") } else { write!(f, "{x}x{y}x{z}") }
    }
}
