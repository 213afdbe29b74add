//! A set of small integers as bits, with one summary bit per word, so that an empty stretch of 4,096 costs one look.

use std::ops::Range;

/// A set of integers below a fixed bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    words: Vec<u64>,
    summary: Vec<u64>,
}

impl Bits {
    /// The empty set over `0..bound`.
    pub fn new(bound: usize) -> Self {
        let words = bound.div_ceil(64);
        Self { words: vec![0; words], summary: vec![0; words.div_ceil(64)] }
    }

    /// Adds `item`.
    pub fn insert(&mut self, item: u32) {
        let word = item as usize / 64;
        self.words[word] |= 1 << (item % 64);
        self.summary[word / 64] |= 1 << (word % 64);
    }

    /// Removes `item`.
    pub fn remove(&mut self, item: u32) {
        let word = item as usize / 64;
        self.words[word] &= !(1 << (item % 64));
        if self.words[word] == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
    }

    /// Whether `item` is in the set.
    pub fn contains(&self, item: u32) -> bool {
        self.words[item as usize / 64] >> (item % 64) & 1 == 1
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.summary.iter().all(|word| *word == 0)
    }

    /// Adds or removes a whole range.
    pub fn fill(&mut self, range: Range<u32>, present: bool) {
        if range.is_empty() {
            return;
        }
        let (first, last) = (range.start as usize / 64, (range.end as usize - 1) / 64);
        for word in first..=last {
            let mut mask = u64::MAX;
            if word == first {
                mask &= u64::MAX << (range.start % 64);
            }
            if word == last {
                mask &= u64::MAX >> (63 - (range.end - 1) % 64);
            }
            if present {
                self.words[word] |= mask;
                self.summary[word / 64] |= 1 << (word % 64);
            } else {
                self.words[word] &= !mask;
                if self.words[word] == 0 {
                    self.summary[word / 64] &= !(1 << (word % 64));
                }
            }
        }
    }

    /// The lowest item in `range`.
    pub fn first_in(&self, range: Range<u32>) -> Option<u32> {
        self.first_where(range, |_, word| word)
    }

    /// The lowest item in `range` that is in `other` too. Both sets have the same bound.
    pub fn first_common(&self, other: &Self, range: Range<u32>) -> Option<u32> {
        self.first_where(range, |index, word| word & other.words[index])
    }

    fn first_where(&self, range: Range<u32>, keep: impl Fn(usize, u64) -> u64) -> Option<u32> {
        if range.is_empty() {
            return None;
        }
        let end_word = (range.end as usize - 1) / 64;
        let mut word = range.start as usize / 64;
        let mut mask = u64::MAX << (range.start % 64);
        while word <= end_word {
            let bits = keep(word, self.words[word]) & mask;
            if bits != 0 {
                let item = (word * 64) as u32 + bits.trailing_zeros();
                return (item < range.end).then_some(item);
            }
            mask = u64::MAX;
            word = self.next_word(word + 1)?;
        }
        None
    }

    /// The first word at or after `from` that holds anything.
    fn next_word(&self, from: usize) -> Option<usize> {
        let mut block = from / 64;
        let mut bits = self.summary.get(block)? & (u64::MAX << (from % 64));
        while bits == 0 {
            block += 1;
            bits = *self.summary.get(block)?;
        }
        Some(block * 64 + bits.trailing_zeros() as usize)
    }

    /// All items, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut next = 0;
        let bound = (self.words.len() * 64) as u32;
        std::iter::from_fn(move || {
            let item = self.first_in(next..bound)?;
            next = item + 1;
            Some(item)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_sorted_set(ops in prop::collection::vec((0u32..500, 0u32..500, any::<bool>(), any::<bool>()), 0..60)) {
            let (mut bits, mut truth) = (Bits::new(500), BTreeSet::new());
            let mut odd = Bits::new(500);
            (1..500).step_by(2).for_each(|item| odd.insert(item));
            for (a, b, whole_range, present) in ops {
                let (low, high) = (a.min(b), a.max(b));
                let range = if whole_range { low..high } else { low..low + 1 };
                if whole_range {
                    bits.fill(range.clone(), present);
                } else if present {
                    bits.insert(low);
                } else {
                    bits.remove(low);
                }
                range.for_each(|item| { if present { truth.insert(item); } else { truth.remove(&item); } });
                prop_assert_eq!(bits.first_in(low..high), truth.range(low..high).next().copied());
                let common = truth.range(low..high).find(|item| **item % 2 == 1).copied();
                prop_assert_eq!(bits.first_common(&odd, low..high), common);
                prop_assert_eq!(bits.is_empty(), truth.is_empty());
            }
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), truth.into_iter().collect::<Vec<_>>());
        }
    }
}
