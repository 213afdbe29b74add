//! Clocks that are wrong by a little, and go a little too fast or too slow.

/// Shows `offset + real time × (1 + drift)`. It never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    pub offset_ms: i64,
    /// Parts per million; below a million either way.
    pub drift_ppm: i64,
}

impl Clock {
    pub const fn at(self, real_ms: u64) -> i64 {
        let real = real_ms as i64;
        self.offset_ms + real + real * self.drift_ppm / 1_000_000
    }

    /// The first instant of real time at which it shows at least this.
    pub const fn when(self, shown_ms: i64) -> u64 {
        let since = shown_ms.saturating_sub(self.offset_ms);
        if since <= 0 {
            return 0;
        }
        let mut real = (since as i128 * 1_000_000 / (1_000_000 + self.drift_ppm) as i128) as u64;
        while self.at(real) < shown_ms {
            real += 1;
        }
        real
    }
}
