//! What becomes of jobs that kill nodes, of nodes that kill jobs, and of nodes that are new or come back.

use std::collections::BTreeMap;

use offtake_units::{Duration, Ppm};
use serde::{Deserialize, Serialize};

/// What becomes of jobs that kill nodes, of nodes that kill jobs, and of nodes that are new or come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// Faults that are older count no more.
    pub window: Duration,
    /// A job is put on hold when its nodes have failed so often in the window, each time another, beside what those of a
    /// job of its size see anyway: five standard deviations above the mean. Never for 0.
    pub hold_jobs_after: u32,
    /// A node is drained when so many different jobs have failed on it in the window. Never for 0.
    pub drain_nodes_after: u32,
    /// The most of the fleet's nodes that are drained for that at one time; one node at least.
    pub most_drained: Ppm,
    /// For how long a node takes no work after it has joined, or has come back.
    pub burn_in: Duration,
    /// Mean time between failures of one chip, for what a job sees anyway.
    pub chip_mtbf: Duration,
    /// What NVIDIA's XIDs tell, where that is to be something else than [`Blame::of_xid`] says.
    pub xid: BTreeMap<u16, Blame>,
}

impl Default for Health {
    /// One failure in 50,700 chip-hours: 419 in 54 days on 16,384 (Llama 3, arXiv:2407.21783, section 3.3.4). The rest is
    /// assumed.
    fn default() -> Self {
        Self {
            window: Duration::DAY,
            hold_jobs_after: 3,
            drain_nodes_after: 3,
            most_drained: Ppm::new(20_000),
            burn_in: Duration::ZERO,
            chip_mtbf: Duration::from_secs(50_700 * 3_600),
            xid: BTreeMap::new(),
        }
    }
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// What runs there: the node stays.
    Job,
    /// The node: it takes no more work.
    Node,
}

impl Blame {
    /// What an XID tells, after NVIDIA's "Analyzing Xid Errors with the Xid Catalog". Of those whose way out is a restart
    /// of the application the job is to blame, of those that want a reset, a look at memory or links, or another part,
    /// the node; of those that are not in this list, the job, as a node on which they come again and again is drained
    /// for that.
    pub const fn of_xid(code: u16) -> Self {
        match code {
            // Double-bit ECC error; halt of a micro-controller; rows remapped, and rows that could not be.
            48 | 62 | 63 | 64
            // NVLink; fallen off the bus; many single-bit ECC errors; contained and uncontained ECC errors.
            | 74 | 79 | 92 | 94 | 95
            // The system processor does not answer, or fails; link to the processor; unrecovered ECC error.
            | 119 | 120 | 121 | 140 => Self::Node,
            // 13, 31, 43 and 45 above all: exception, page fault, stopped, cleaned up after another fault.
            _ => Self::Job,
        }
    }
}

impl Health {
    /// What an XID tells.
    pub fn blame(&self, code: u16) -> Blame {
        self.xid.get(&code).copied().unwrap_or_else(|| Blame::of_xid(code))
    }

    /// After how many failures of nodes a job on so many chips, in thousandths, is put on hold.
    pub(crate) fn most_failures(&self, chip_milli: u64) -> u64 {
        let chip_ms = u128::from(chip_milli) * self.window.as_millis().max(0) as u128;
        // In millionths. The standard deviation of a Poisson count is the square root of its mean.
        let mean = chip_ms * 1_000 / (self.chip_mtbf.as_millis().max(1) as u128);
        let spread = mean.saturating_mul(25_000_000).isqrt();
        let usual = u64::try_from((mean + spread) / 1_000_000).unwrap_or(u64::MAX);
        u64::from(self.hold_jobs_after).saturating_add(usual)
    }
}

/// The XID that a line of the kernel's log tells of, as in `NVRM: Xid (PCI:0000:3b:00): 79, pid=1234`; `xid 79` will do.
pub fn xid_in(text: &str) -> Option<u16> {
    let start = text.to_ascii_lowercase().find("xid")? + "xid".len();
    let rest = &text[start..];
    let rest = match rest.trim_start().strip_prefix('(') {
        Some(device) => device.split_once(')')?.1,
        None => rest,
    };
    let rest = rest.trim_start_matches([' ', ':', '=']);
    let digits = rest.find(|other: char| !other.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_xid_is_found_in_the_words_of_the_kernel() {
        let told = [
            ("NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus.", Some(79)),
            ("gpu 3: xid 48", Some(48)),
            ("XID: 13", Some(13)),
            ("Xid (PCI:0000", None),
            ("xid", None),
            ("xid 99999", None),
            ("disk is full", None),
        ];
        for (text, expected) in told {
            assert_eq!(xid_in(text), expected, "{text}");
        }
    }

    #[test]
    fn a_policy_may_think_otherwise_of_an_xid() {
        let health = Health { xid: BTreeMap::from([(63, Blame::Job), (13, Blame::Node)]), ..Health::default() };
        let blamed = [13, 31, 43, 45, 63, 64, 79, 999].map(|code| health.blame(code) == Blame::Node);
        assert_eq!(blamed, [true, false, false, false, false, true, true, false]);
    }

    #[test]
    fn a_large_job_may_see_more_failures() {
        let health = Health::default();
        assert_eq!(health.most_failures(8_000), 3);
        assert_eq!(health.most_failures(2_048_000), 3 + 5, "2,048 chips see 0.97 a day");
        assert_eq!(health.most_failures(16_384_000), 3 + 21, "16,384 chips see 7.76 a day");
    }
}
