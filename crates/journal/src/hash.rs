//! The hash chain over all records.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};

/// A link of the chain: SHA-256 over all records up to a sequence.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The chain before the first record.
    pub const ZERO: Self = Self([0; 32]);

    /// The chain after `record`, where this is the chain before it.
    pub fn after(&self, record: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&self.0);
        context.update(&(record.len() as u64).to_be_bytes());
        context.update(record);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What was given is no hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 64 hexadecimal digits, as `offtake journal verify` prints it")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotAHash);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(NotAHash);
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(hash))
    }
}

/// A place in the journal: a sequence and the chain up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The sequence of a record; 0 before the first.
    pub sequence: u64,
    /// The chain over all records up to it, itself included.
    pub chain: Hash,
}

impl Position {
    /// Before the first record.
    pub const START: Self = Self { sequence: 0, chain: Hash::ZERO };

    /// The position of `record`, which comes right after this one.
    pub fn after(&self, record: &[u8]) -> Self {
        Self { sequence: self.sequence + 1, chain: self.chain.after(record) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed apart from this code: `python3 -c 'import hashlib; h = hashlib.sha256(bytes(32) + (2).to_bytes(8, "big") +
    /// b"{}").digest(); print(hashlib.sha256(h + bytes(8)).hexdigest())'`.
    #[test]
    fn the_chain_is_what_the_documentation_says() {
        let at = Position::START.after(b"{}").after(b"");
        assert_eq!(at.sequence, 2);
        assert_eq!(at.chain.to_string(), "5b375929c1c1ba5522ec250201544068e1a2da0b5e6433e888bb0e07e28a8356");
    }

    #[test]
    fn reads_what_it_prints() {
        let hash = Hash::ZERO.after(b"x");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
        assert_eq!("".parse::<Hash>(), Err(NotAHash));
        assert_eq!("é".repeat(32).parse::<Hash>(), Err(NotAHash));
        assert_eq!("+f".repeat(32).parse::<Hash>(), Err(NotAHash));
    }
}
