//! What all tasks of a node share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offtake_protocol::agent::TaskSpec;
use tokio::sync::watch;

use crate::accounts::Accounts;
use crate::cores::Cores;
use crate::discover::Found;
use crate::environment::chip_indices;
use crate::isolation;
use crate::limits::ChipPower;
use crate::power::Meters;
use crate::run::Configuration;
use crate::store::Store;
use crate::supervisor::Launcher;

/// A node, as its agent has it.
#[derive(Debug)]
pub(crate) struct Node {
    pub configuration: Configuration,
    /// Its name at the server.
    pub name: String,
    pub found: Found,
    pub isolation: isolation::Node,
    pub store: Arc<Store>,
    pub launcher: Launcher,
    pub shims: PathBuf,
    pub fingerprint: Option<String>,
    pub accounts: Accounts,
    pub cores: Mutex<Cores>,
    pub meters: Mutex<Meters>,
    /// The power limits of its chips, where they can be set.
    pub chip_power: Option<Arc<ChipPower>>,
    /// Why it must not take new work.
    pub unhealthy: watch::Sender<Option<String>>,
}

impl Node {
    pub fn meters(&self) -> MutexGuard<'_, Meters> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn chips(&self) -> u16 {
        self.found.chips.as_ref().map_or(0, |chips| chips.count)
    }

    /// Whether workers cannot open chips that were not given to them.
    pub fn devices_isolated(&self) -> bool {
        let known = |chips: &crate::discover::Chips| chips.devices.len() == usize::from(chips.count);
        self.isolation.isolation().devices && self.found.chips.as_ref().is_some_and(known)
    }

    /// The device files of all chips but these.
    pub fn devices_but(&self, own: u64) -> Vec<PathBuf> {
        let Some(chips) = self.found.chips.as_ref().filter(|_| self.devices_isolated()) else { return Vec::new() };
        let others = chips.devices.iter().zip(0..u64::BITS).filter(|(_, chip)| own >> chip & 1 == 0);
        others.map(|(device, _)| device.clone()).collect()
    }

    /// A task's part of what the node has to allocate, in millionths: of its chips, or of its cores where it has none.
    pub fn part_ppm(&self, spec: &TaskSpec) -> u64 {
        let (part, whole) = match self.chips() {
            0 => (u64::from(spec.cpu.get()) * spec.workers.len() as u64, self.found.cores.len() as u64 * 1000),
            chips => {
                let own = spec.workers.iter().fold(0, |all, worker| all | worker.chips);
                (chip_indices(own).count() as u64, u64::from(chips))
            }
        };
        part.saturating_mul(1_000_000) / whole.max(1)
    }
}
