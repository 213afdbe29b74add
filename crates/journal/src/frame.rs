//! A batch's records as one string of bytes.

use crate::error::Error;

/// The most bytes of one record.
pub const MAX_RECORD: usize = 64 << 20;

/// The most bytes of one batch, 8 for each record included.
pub const MAX_BATCH: usize = 256 << 20;

/// Bytes before each record: its length and its checksum.
pub(crate) const HEADER: usize = 8;

/// Adds `record` to a batch.
pub(crate) fn push(batch: &mut Vec<u8>, record: &[u8]) -> Result<(), Error> {
    if record.len() > MAX_RECORD {
        return Err(Error::TooLarge { what: "a record", bytes: record.len(), limit: MAX_RECORD });
    }
    let bytes = batch.len() + HEADER + record.len();
    if bytes > MAX_BATCH {
        return Err(Error::TooLarge { what: "a batch", bytes, limit: MAX_BATCH });
    }
    let length = (record.len() as u32).to_be_bytes();
    batch.extend_from_slice(&length);
    batch.extend_from_slice(&checksum(length, record).to_be_bytes());
    batch.extend_from_slice(record);
    Ok(())
}

/// Takes the first record off a batch; says why where it is none.
pub(crate) fn pop<'b>(batch: &mut &'b [u8]) -> Result<&'b [u8], &'static str> {
    let (length, rest) = batch.split_first_chunk::<4>().ok_or("the batch ends early")?;
    let (sum, rest) = rest.split_first_chunk::<4>().ok_or("the batch ends early")?;
    let (record, rest) = rest
        .split_at_checked(u32::from_be_bytes(*length) as usize)
        .ok_or("its length is wrong, or the batch ends early")?;
    if checksum(*length, record) != u32::from_be_bytes(*sum) {
        return Err("its checksum is wrong");
    }
    *batch = rest;
    Ok(record)
}

/// The length counts too, so that a run of zeros is no record.
fn checksum(length: [u8; 4], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length);
    hasher.update(record);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_off_what_was_put_in() {
        let mut batch = Vec::new();
        for record in [b"one".as_slice(), b"", b"three"] {
            push(&mut batch, record).expect("small");
        }
        let mut rest = batch.as_slice();
        assert_eq!(pop(&mut rest), Ok(b"one".as_slice()));
        assert_eq!(pop(&mut rest), Ok(b"".as_slice()));
        assert_eq!(pop(&mut rest), Ok(b"three".as_slice()));
        assert!(rest.is_empty());
    }

    #[test]
    fn every_bit_counts() {
        let mut batch = Vec::new();
        push(&mut batch, b"record").expect("small");
        for bit in 0..batch.len() * 8 {
            let mut flipped = batch.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(pop(&mut flipped.as_slice()).is_err(), "bit {bit}");
        }
        assert!(pop(&mut [0; 64].as_slice()).is_err());
        for end in 0..batch.len() {
            assert!(pop(&mut &batch[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn refuses_what_is_too_large() {
        let record = vec![0; MAX_RECORD];
        let mut batch = Vec::new();
        for _ in 0..3 {
            push(&mut batch, &record).expect("within the limits");
        }
        let before = batch.len();
        assert!(matches!(push(&mut batch, &record), Err(Error::TooLarge { what: "a batch", .. })));
        assert_eq!(batch.len(), before);
        assert!(matches!(
            push(&mut Vec::new(), &vec![0; MAX_RECORD + 1]),
            Err(Error::TooLarge { what: "a record", .. })
        ));
    }
}
