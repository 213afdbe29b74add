//! Random numbers that are the same on every machine, in a tree.
//!
//! The generator is xoshiro256** 1.0 (Blackman and Vigna, 2018, public domain), seeded through SplitMix64 (Steele, Lea
//! and Flood, 2014; public-domain code by Vigna), as its authors advise. It is fast and passes the usual tests; it is
//! not for secrets.
//!
//! Generators form a tree: [`Rng::derive`] makes a child from a name and the *key* of its parent, not from how many
//! numbers the parent gave. One more draw here therefore moves nothing there.

use offtake_units::Ppm;

use crate::fixed;

/// A generator of random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    key: u64,
    state: [u64; 4],
}

impl Rng {
    /// The root of a tree.
    pub fn new(seed: u64) -> Self {
        let mut mixer = seed;
        let mut next = || {
            mixer = mixer.wrapping_add(SPLITMIX_STEP);
            mix(mixer)
        };
        Self { key: seed, state: [next(), next(), next(), next()] }
    }

    /// The child of a name.
    pub fn derive(&self, name: &str) -> Self {
        // FNV-1a; what it lacks in mixing is done below.
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let hash = name.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        Self::new(mix(mix(self.key.wrapping_add(SPLITMIX_STEP)) ^ hash))
    }

    /// The child of a number, such as that of a node or a job.
    pub fn derive_index(&self, index: u64) -> Self {
        // Another constant than in `derive`, so that no number is a name.
        const INDEXED: u64 = 0xd1b5_4a32_d192_ed03;
        Self::new(mix(mix(self.key.wrapping_add(INDEXED)) ^ mix(index.wrapping_add(INDEXED))))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = b.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number from 0 up to and without `end`, all equally likely (Lemire, 2019); 0 where `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 {
            return 0;
        }
        let unfair = end.wrapping_neg() % end;
        loop {
            let product = u128::from(self.bits()) * u128::from(end);
            if product as u64 >= unfair {
                return (product >> 64) as u64;
            }
        }
    }

    /// True with this probability.
    pub fn happens(&mut self, probability: Ppm) -> bool {
        self.below(u64::from(Ppm::ONE.parts())) < u64::from(probability.parts())
    }

    /// An exponentially distributed amount of this mean: the time to the next event of a Poisson process. The unit is
    /// the caller's; a mean with bits after the point gives an amount with as many.
    pub fn exponential(&mut self, mean: u128) -> u128 {
        let factor_q32 = u128::from(fixed::minus_ln_q32(self.bits()));
        let (high, low) = (mean >> 32, mean & u128::from(u32::MAX));
        high.saturating_mul(factor_q32).saturating_add((low * factor_q32) >> 32)
    }

    /// A share from 0 up to and without 1, with 32 bits after the point.
    pub(crate) fn share_q32(&mut self) -> u64 {
        self.bits() >> 32
    }
}

const SPLITMIX_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_numbers_of_the_reference() {
        // The first numbers of SplitMix64 from 1234567, as its reference code prints them.
        let mixed: Vec<_> =
            (1..=3).map(|n: u64| mix(1_234_567_u64.wrapping_add(n.wrapping_mul(SPLITMIX_STEP)))).collect();
        assert_eq!(mixed, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        // The first numbers of xoshiro256** from the state 1, 2, 3, 4.
        let mut rng = Rng { key: 0, state: [1, 2, 3, 4] };
        assert_eq!([rng.bits(), rng.bits(), rng.bits()], [11_520, 0, 1_509_978_240]);
    }

    #[test]
    fn a_draw_here_moves_nothing_there() {
        let root = Rng::new(7);
        let mut drawn = root.clone();
        drawn.bits();
        assert_eq!(root.derive("a"), drawn.derive("a"));
        assert_ne!(root.derive("a"), root.derive("b"));
        assert_ne!(root.derive_index(0), root.derive_index(1));
        assert_ne!(root.derive("a").derive("b"), root.derive("b").derive("a"));
    }

    #[test]
    fn draws_have_the_means_that_they_should() {
        const DRAWS: u64 = 100_000;
        let mut rng = Rng::new(1);
        let mean = (0..DRAWS).map(|_| rng.below(11)).sum::<u64>() as f64 / DRAWS as f64;
        assert!((mean - 5.0).abs() < 0.05, "{mean}");
        let mean = (0..DRAWS).map(|_| rng.exponential(1_000_000)).sum::<u128>() as f64 / DRAWS as f64;
        assert!((mean - 1e6).abs() < 1e4, "{mean}");
        let hits = (0..DRAWS).filter(|_| rng.happens(Ppm::new(250_000))).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        assert_eq!((rng.below(0), rng.below(1)), (0, 0));
    }
}
