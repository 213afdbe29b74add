//! Members of one (level, node kind), ordered by how many nodes they can still give: the fullest that fits is found
//! without a scan.

use std::ops::Range;

use super::bits::Bits;

/// Members `0..len`, each with a count; answers "the smallest count of at least `need`, lowest member first".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    len: usize,
    /// The members of each count; allocated when a count first occurs.
    buckets: Vec<Option<Bits>>,
    /// The counts that occur.
    occurring: Bits,
}

impl Ordered {
    /// All `len` members at count zero; no count will exceed `most`.
    pub fn new(len: usize, most: u32) -> Self {
        let mut all = Bits::new(len);
        all.fill(0..len as u32, true);
        let mut buckets = vec![None; most as usize + 1];
        buckets[0] = Some(all);
        let mut occurring = Bits::new(most as usize + 1);
        occurring.insert(0);
        Self { len, buckets, occurring }
    }

    /// Moves a member from count `from` to count `to`.
    pub fn rekey(&mut self, member: u32, from: u32, to: u32) {
        if let Some(bucket) = &mut self.buckets[from as usize] {
            bucket.remove(member);
            if bucket.is_empty() {
                self.occurring.remove(from);
            }
        }
        let len = self.len;
        self.buckets[to as usize].get_or_insert_with(|| Bits::new(len)).insert(member);
        self.occurring.insert(to);
    }

    /// The first member, by count from `need` up and then by number, that lies in `range` and in `open` and that
    /// `accept` takes. `accept` answers a refusal with the member to go on from, so that a whole refused stretch is
    /// passed at once.
    pub fn fullest(
        &self,
        need: u32,
        range: Range<u32>,
        open: &Bits,
        mut accept: impl FnMut(u32) -> Result<(), u32>,
    ) -> Option<u32> {
        let most = self.buckets.len() as u32;
        let mut count = need;
        while let Some(found) = self.occurring.first_in(count..most) {
            if let Some(bucket) = &self.buckets[found as usize] {
                let mut from = range.start;
                while let Some(member) = bucket.first_common(open, from..range.end) {
                    match accept(member) {
                        Ok(()) => return Some(member),
                        Err(next) => from = next.max(member + 1),
                    }
                }
            }
            count = found + 1;
        }
        None
    }
}
