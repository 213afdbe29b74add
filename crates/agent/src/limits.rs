//! Power limits of a node's chips.
//!
//! A limit is set where the chip's driver keeps to it: by NVML for NVIDIA's chips, by hwmon's `power1_cap` for AMD's
//! (<https://docs.kernel.org/gpu/amdgpu/thermal.html>). Both need root.
//!
//! The limits that chips had before the first of ours are written down until all of them are back, so that neither a
//! crash of the agent nor its next version takes a limit of ours for one of the operator's.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvml_wrapper::Nvml;
use offtake_protocol::agent::{ChipLimits, Limited};
use serde::{Deserialize, Serialize};

use crate::discover::{Chips, Roots, entries, word};
use crate::environment::Vendor;
use crate::store;

/// Milliwatts of a watt, and microwatts, as hwmon has them, of a milliwatt.
const MILLI: u32 = 1000;
const MICRO_OF_MILLI: u64 = 1000;

/// The chips of a node whose power can be limited.
#[derive(Debug)]
pub(crate) struct ChipPower {
    chips: Vec<Control>,
    file: PathBuf,
    /// Names this boot of the host: what a driver was told before is forgotten.
    boot: String,
    /// Held while chips are limited: a driver that hung must not undo what was set after it.
    known: Mutex<Known>,
}

/// What is known of the chips' limits.
#[derive(Debug)]
struct Known {
    /// What each chip may draw, in milliwatts, while the server says nothing of it.
    own_mw: Vec<u32>,
    /// Chips that are limited for the server.
    limited: BTreeSet<u16>,
}

/// What is written down while chips are limited.
#[derive(Serialize, Deserialize)]
struct Written {
    boot: String,
    own_mw: Vec<u32>,
}

/// Who keeps a chip to its limit.
#[derive(Debug)]
enum Control {
    Nvml(Arc<Nvml>, u32),
    /// The chip's folder of hwmon.
    Hwmon(PathBuf),
}

impl ChipPower {
    /// The chips' limits, if each of them has one that this process may set.
    ///
    /// # Errors
    /// Why not, where there are chips that have limits.
    pub fn find(roots: &Roots, nvml: Option<&Arc<Nvml>>, chips: &Chips, data: &Path) -> Result<Option<Self>, String> {
        let Roots { sys, proc, .. } = roots;
        let controls: Vec<Control> = match chips.vendor {
            Vendor::Nvidia => {
                let Some(nvml) = nvml else { return Ok(None) };
                (0..u32::from(chips.count)).map(|chip| Control::Nvml(Arc::clone(nvml), chip)).collect()
            }
            Vendor::Amd => chips.devices.iter().filter_map(|device| hwmon(sys, device)).map(Control::Hwmon).collect(),
            _ => return Ok(None),
        };
        if controls.is_empty() || controls.len() != usize::from(chips.count) {
            return Ok(None);
        }
        let mut found = Vec::new();
        for (chip, control) in controls.iter().enumerate() {
            let now_mw = control.milliwatts().map_err(|reason| format!("chip {chip}: {reason}"))?;
            control.may_set(now_mw).map_err(|reason| format!("chip {chip}: {reason}"))?;
            found.push(now_mw);
        }
        let file = data.join("limits.json");
        let boot = word(&proc.join("sys/kernel/random/boot_id")).unwrap_or_default();
        let written = store::read(&file).filter(|written: &Written| written.boot == boot);
        let own_mw = written.map(|written| written.own_mw).filter(|own| own.len() == found.len());
        let own_mw = own_mw.unwrap_or_else(|| found.clone());
        let differs = |(chip, (now, own)): (u16, (&u32, &u32))| (now != own).then_some(chip);
        let limited = (0..).zip(found.iter().zip(&own_mw)).filter_map(differs).collect();
        Ok(Some(Self { chips: controls, file, boot, known: Mutex::new(Known { own_mw, limited }) }))
    }

    /// What a chip may draw without the server's limits, in watts.
    pub fn own(&self) -> u32 {
        self.known().own_mw.first().map_or(0, |own| own / MILLI)
    }

    /// The limits that keep each chip to so much.
    pub fn all_at(&self, watts: u32) -> ChipLimits {
        let lower = |own: &u32| u64::from(watts) * u64::from(MILLI) < u64::from(*own);
        (0..).zip(&self.known().own_mw).filter(|(_, own)| lower(own)).map(|(chip, _)| (chip, watts)).collect()
    }

    /// The server's limits that are in force.
    pub fn set(&self) -> ChipLimits {
        self.in_force(self.known().limited.iter())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_force<'a>(&self, chips: impl Iterator<Item = &'a u16>) -> ChipLimits {
        let now = |chip: &u16| Some((*chip, self.chips.get(usize::from(*chip))?.milliwatts().ok()?.div_ceil(MILLI)));
        chips.filter_map(now).collect()
    }

    /// Sets limits; chips that were limited and are not named get back their own, and all others are left alone.
    pub fn limit(&self, wanted: &ChipLimits) -> Limited {
        let mut known = self.known();
        let mut failed = None;
        let mut note = |reason: String| {
            tracing::error!(reason, "a chip is not limited as it was ordered");
            failed.get_or_insert(reason);
        };
        if known.limited.is_empty() {
            // The operator may have set others since.
            for (own, control) in known.own_mw.iter_mut().zip(&self.chips) {
                *own = control.milliwatts().unwrap_or(*own);
            }
        }
        // A chip that the agent forgot to have limited would stay so for ever.
        let written = Written { boot: self.boot.clone(), own_mw: known.own_mw.clone() };
        let written = if wanted.is_empty() { Ok(()) } else { store::write(&self.file, &written) };
        if let Err(error) = &written {
            note(format!("cannot write down what its chips may draw in {}: {error}", self.file.display()));
        }
        if let Some(chip) = wanted.keys().find(|chip| usize::from(**chip) >= self.chips.len()) {
            note(format!("there is no chip {chip}"));
        }
        for (chip, control) in (0..).zip(&self.chips) {
            let own_mw = known.own_mw[usize::from(chip)];
            let result = match wanted.get(&chip).filter(|_| written.is_ok()) {
                Some(watts) => {
                    known.limited.insert(chip);
                    // No order lifts a limit of the operator's.
                    let least = watts.saturating_mul(MILLI).min(own_mw);
                    control.limit(least).map_err(|reason| format!("chip {chip} cannot be kept to {watts} W: {reason}"))
                }
                None if known.limited.contains(&chip) => {
                    let restored = control.set(own_mw);
                    if restored.is_ok() {
                        known.limited.remove(&chip);
                    }
                    let watts = own_mw / MILLI;
                    restored.map_err(|reason| format!("chip {chip} does not get its own {watts} W back: {reason}"))
                }
                None => Ok(()),
            };
            result.unwrap_or_else(&mut note);
        }
        if known.limited.is_empty()
            && let Err(error) = fs::remove_file(&self.file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "{} cannot be removed", self.file.display());
        }
        Limited { set: self.in_force(known.limited.iter()), failed }
    }
}

impl Control {
    /// The limit in force.
    fn milliwatts(&self) -> Result<u32, String> {
        match self {
            Self::Nvml(nvml, chip) => {
                let limit = nvml.device_by_index(*chip).and_then(|device| device.power_management_limit());
                limit.map_err(|error| error.to_string())
            }
            Self::Hwmon(folder) => cap(folder, "power1_cap"),
        }
    }

    /// The least and the most that can be set, in milliwatts.
    fn range(&self) -> Result<(u32, u32), String> {
        match self {
            Self::Nvml(nvml, chip) => {
                let device = nvml.device_by_index(*chip);
                let range = device.and_then(|device| device.power_management_limit_constraints());
                range.map(|range| (range.min_limit, range.max_limit)).map_err(|error| error.to_string())
            }
            Self::Hwmon(folder) => Ok((cap(folder, "power1_cap_min")?, cap(folder, "power1_cap_max")?)),
        }
    }

    /// Whether this process may set a limit, tried with the one that is in force.
    fn may_set(&self, now_mw: u32) -> Result<(), String> {
        match self {
            Self::Nvml(..) => self.write(now_mw),
            Self::Hwmon(folder) => {
                let file = OpenOptions::new().write(true).open(folder.join("power1_cap"));
                file.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    fn write(&self, milliwatts: u32) -> Result<(), String> {
        match self {
            Self::Nvml(nvml, chip) => {
                let device = nvml.device_by_index(*chip);
                let set = device.and_then(|mut device| device.set_power_management_limit(milliwatts));
                set.map_err(|error| error.to_string())
            }
            Self::Hwmon(folder) => {
                let microwatts = (u64::from(milliwatts) * MICRO_OF_MILLI).to_string();
                fs::write(folder.join("power1_cap"), microwatts).map_err(|error| error.to_string())
            }
        }
    }

    /// Sets a limit that its driver says it allows.
    fn limit(&self, milliwatts: u32) -> Result<(), String> {
        if self.milliwatts()? == milliwatts {
            return Ok(());
        }
        let (least, most) = self.range()?;
        if milliwatts < least || milliwatts > most {
            return Err(format!("its driver allows {} to {} W", least.div_ceil(MILLI), most / MILLI));
        }
        self.set(milliwatts)
    }

    /// Sets a limit, and sees to it that it is in force.
    fn set(&self, milliwatts: u32) -> Result<(), String> {
        if self.milliwatts()? == milliwatts {
            return Ok(());
        }
        self.write(milliwatts)?;
        match self.milliwatts()? {
            now if now == milliwatts => Ok(()),
            now => Err(format!("its driver took that, and keeps it to {} W", now / MILLI)),
        }
    }
}

/// The folder of hwmon of a chip that has this device file, if it has a limit there.
fn hwmon(sys: &Path, device: &Path) -> Option<PathBuf> {
    let folder = sys.join("class/drm").join(device.file_name()?).join("device/hwmon");
    entries(&folder).into_iter().find(|entry| entry.join("power1_cap").exists())
}

/// A file of hwmon, in milliwatts.
fn cap(folder: &Path, name: &str) -> Result<u32, String> {
    let microwatts = word(&folder.join(name)).and_then(|text| text.parse::<u64>().ok());
    let milliwatts = microwatts.and_then(|microwatts| u32::try_from(microwatts / MICRO_OF_MILLI).ok());
    milliwatts.ok_or_else(|| format!("{} tells no power", folder.join(name).display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn two_chips_as_they_are(folder: &Folder) -> Chips {
        let devices = [128, 129].map(|minor| folder.path().join(format!("dev/dri/renderD{minor}"))).into();
        Chips { vendor: Vendor::Amd, kind: "mi300x".to_owned(), count: 2, memory: None, watts: None, devices }
    }

    /// A node with two chips of AMD at 750 W, that may be kept to 200 W.
    fn two_chips(folder: &Folder) -> Chips {
        for minor in [128, 129] {
            for (file, watts) in [("power1_cap", 750), ("power1_cap_min", 200), ("power1_cap_max", 750)] {
                let path = format!("sys/class/drm/renderD{minor}/device/hwmon/hwmon3/{file}");
                folder.write(&path, &format!("{}\n", watts * 1_000_000));
            }
        }
        two_chips_as_they_are(folder)
    }

    fn roots(folder: &Folder) -> Roots {
        let root = |name: &str| folder.path().join(name);
        Roots { dev: root("dev"), etc: root("etc"), proc: root("proc"), sys: root("sys") }
    }

    fn found(folder: &Folder, chips: &Chips) -> ChipPower {
        let found = ChipPower::find(&roots(folder), None, chips, folder.path());
        found.expect("they may be set").expect("they have limits")
    }

    fn limits(of: &[(u16, u32)]) -> ChipLimits {
        of.iter().copied().collect()
    }

    #[test]
    fn chips_are_limited_and_get_their_own_limits_back_after_a_crash() {
        let folder = Folder::new("limits");
        let chips = two_chips(&folder);
        let power = found(&folder, &chips);
        assert_eq!((power.own(), power.set()), (750, limits(&[])));
        let limited = power.limit(&limits(&[(1, 450)]));
        assert_eq!(limited, Limited { set: limits(&[(1, 450)]), failed: None });
        drop(power);
        let again = found(&folder, &chips);
        assert_eq!((again.own(), again.set()), (750, limits(&[(1, 450)])));
        assert_eq!(again.limit(&limits(&[])), Limited::default());
        let text = fs::read_to_string(folder.path().join("sys/class/drm/renderD129/device/hwmon/hwmon3/power1_cap"));
        assert_eq!(text.expect("it is there"), "750000000");
        assert!(!folder.path().join("limits.json").exists(), "nothing of ours is in force");
    }

    #[test]
    fn what_the_operator_sets_meanwhile_is_kept() {
        let folder = Folder::new("limits of the operator");
        let power = found(&folder, &two_chips(&folder));
        let file = |minor: u32| format!("sys/class/drm/renderD{minor}/device/hwmon/hwmon3/power1_cap");
        let now = |minor| fs::read_to_string(folder.path().join(file(minor))).expect("it is there");
        folder.write(&file(128), "500500000");
        power.limit(&limits(&[(1, 450)]));
        folder.write(&file(128), "400000000");
        power.limit(&limits(&[]));
        assert_eq!((now(128).as_str(), now(129).as_str()), ("400000000", "750000000"), "it was never ours");
        assert_eq!(power.limit(&limits(&[(0, 600)])).set, limits(&[(0, 400)]), "no order lifts it");
        power.limit(&limits(&[(0, 300)]));
        power.limit(&limits(&[]));
        assert_eq!(now(128), "400000000");
        // After the host has started anew its drivers know nothing of what was written down.
        power.limit(&limits(&[(0, 300)]));
        folder.write("proc/sys/kernel/random/boot_id", "another");
        folder.write(&file(128), "350000000");
        assert_eq!(found(&folder, &two_chips_as_they_are(&folder)).set(), limits(&[]));
    }

    #[test]
    fn a_limit_that_a_driver_does_not_allow_is_told() {
        let folder = Folder::new("limits refused");
        let power = found(&folder, &two_chips(&folder));
        let limited = power.limit(&limits(&[(0, 100), (1, 300)]));
        assert_eq!(limited.set, limits(&[(0, 750), (1, 300)]));
        let words = "chip 0 cannot be kept to 100 W: its driver allows 200 to 750 W";
        assert_eq!(limited.failed.as_deref(), Some(words));
        assert_eq!(power.limit(&limits(&[(7, 300)])).failed.as_deref(), Some("there is no chip 7"));
        let above = power.limit(&limits(&[(0, 800)]));
        assert_eq!(above, Limited { set: limits(&[(0, 750)]), failed: None }, "its own limit is lower");
        assert_eq!(power.all_at(500), limits(&[(0, 500), (1, 500)]));
        assert_eq!(power.all_at(800), limits(&[]), "a node's own limit lifts none");
    }

    #[test]
    fn chips_without_limits_are_told_from_those_whose_limits_are_garbage() {
        let folder = Folder::new("limits missing");
        let chips = two_chips(&folder);
        let find = || ChipPower::find(&roots(&folder), None, &chips, folder.path());
        folder.write("sys/class/drm/renderD128/device/hwmon/hwmon3/power1_cap", "lots");
        assert!(find().expect_err("garbage").ends_with("hwmon3/power1_cap tells no power"));
        fs::remove_dir_all(folder.path().join("sys/class/drm/renderD128")).expect("removed");
        assert!(find().expect("nothing is wrong").is_none(), "one of two has none");
    }
}
