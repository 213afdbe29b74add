//! `random`: any node that can take the request, all equally likely; a share goes to any chip that has it left.
//!
//! The baseline of Weng et al. (USENIX ATC 2023, section 6). What is drawn depends on the seed and the job alone, so a
//! job that is tried again at the same instant draws the same.

use offtake_units::ChipMilli;
use offtake_workload::rng::Rng;

use crate::capacity::FreeVector;
use crate::fact::JobId;

/// Nodes drawn before the search goes on from the last one upwards: among nodes of which one in twenty can take the
/// request, 64 draws miss all of them 4 times in 100.
pub const DRAWS: u32 = 64;

/// What a job draws from.
pub fn source(seed: u64, job: JobId) -> Rng {
    Rng::new(seed).derive("placement").derive_index(job.0)
}

/// What a chip has left that is drawn from all that hold a share.
pub fn level(free: &FreeVector, share: ChipMilli, rng: &mut Rng) -> ChipMilli {
    let holding = free.shared.partition_point(|left| *left >= share.get());
    let drawn = rng.below(holding as u64 + u64::from(free.whole)) as usize;
    free.shared[..holding].get(drawn).map_or(ChipMilli::WHOLE, |left| ChipMilli::new(*left))
}
