//! Secrets: drawn at random, told once, kept as digests or in files that only the server's user can read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::{digest, rand};

/// SHA-256 in hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits =
        bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| char::from(DIGITS[usize::from(digit)]));
    digits.collect()
}

/// Reads hexadecimal digits; none when it is something else.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

/// 256 random bits.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

/// What a token of a person or a program begins with.
pub(crate) const TOKEN: &str = "ot_";
/// What a token that lets a node join begins with.
pub(crate) const JOIN_TOKEN: &str = "on_";

/// A new token.
pub(crate) fn new_token(kind: &str) -> String {
    format!("{kind}{}", hex(&random()))
}

/// The server's own secret, drawn at its first start.
///
/// # Errors
/// The file cannot be read or written, or holds something else.
pub(crate) fn own_secret(path: &Path) -> io::Result<[u8; 32]> {
    match std::fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "it does not hold 32 bytes; put it back from a backup")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = random();
            write_secret(path, &secret)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

/// Writes a file that only its owner can read: whole, or not at all.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.new"));
    // One that a crash left behind may have another mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_are_read_as_they_are_written() {
        let bytes = random();
        assert_eq!(unhex::<32>(&hex(&bytes)), Some(bytes));
        for wrong in ["", "zz", "0", "é", "+1"] {
            assert_eq!(unhex::<1>(wrong), None, "{wrong}");
        }
    }
}
