//! Power limits of a node's chips.
//!
//! A limit is set where the chip's driver keeps to it: by NVML for NVIDIA's chips, by hwmon's `power1_cap` for AMD's
//! (<https://docs.kernel.org/gpu/amdgpu/thermal.html>). Both need root.
//!
//! The limits that chips had before the first of ours are written down until all of them are back, so that neither a
//! crash of the agent nor its next version takes a limit of ours for one of the operator's.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nvml_wrapper::Nvml;
use offtake_protocol::agent::{ChipLimits, Limited};

use crate::discover::{Chips, entries, word};
use crate::environment::Vendor;
use crate::store;

/// Microwatts, as hwmon has them, and milliwatts, as NVML has them, of a watt.
const MICRO: u64 = 1_000_000;
const MILLI: u32 = 1000;

/// The chips of a node whose power can be limited.
#[derive(Debug)]
pub(crate) struct ChipPower {
    chips: Vec<Control>,
    /// What each chip may draw, in watts, while the server says nothing of it.
    own: Vec<u32>,
    /// Where that is written down while it differs from what is in force.
    file: PathBuf,
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
    pub fn find(sys: &Path, nvml: Option<&Arc<Nvml>>, chips: &Chips, data: &Path) -> Result<Option<Self>, String> {
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
            let watts = control.watts().map_err(|reason| format!("chip {chip}: {reason}"))?;
            control.may_set(watts).map_err(|reason| format!("chip {chip}: {reason}"))?;
            found.push(watts);
        }
        let file = data.join("limits.json");
        let own = store::read(&file).filter(|own: &Vec<u32>| own.len() == found.len()).unwrap_or(found);
        Ok(Some(Self { chips: controls, own, file }))
    }

    /// What a chip may draw without the server's limits, in watts.
    pub fn own(&self) -> u32 {
        self.own.first().copied().unwrap_or_default()
    }

    /// The limits that keep each chip to so much.
    pub fn all_at(&self, watts: u32) -> ChipLimits {
        (0..).zip(&self.own).filter(|(_, own)| watts < **own).map(|(chip, _)| (chip, watts)).collect()
    }

    /// The limits in force, but for the chips' own.
    pub fn set(&self) -> ChipLimits {
        let now = self.chips.iter().map(Control::watts);
        let limited = (0..).zip(now.zip(&self.own)).filter_map(|(chip, (now, own))| Some((chip, now.ok()?, *own)));
        limited.filter(|(_, now, own)| now != own).map(|(chip, now, _)| (chip, now)).collect()
    }

    /// Sets limits; chips that are not named get back their own.
    pub fn limit(&self, wanted: &ChipLimits) -> Limited {
        let mut failed = None;
        let mut note = |reason: String| {
            tracing::error!(reason, "a chip is not limited as it was ordered");
            failed.get_or_insert(reason);
        };
        // A chip that the agent forgot to have limited would stay so for ever.
        let written = if wanted.is_empty() { Ok(()) } else { store::write(&self.file, &self.own) };
        if let Err(error) = &written {
            note(format!("cannot write down what its chips may draw in {}: {error}", self.file.display()));
        }
        if let Some(chip) = wanted.keys().find(|chip| usize::from(**chip) >= self.chips.len()) {
            note(format!("there is no chip {chip}"));
        }
        for (chip, (control, own)) in (0..).zip(self.chips.iter().zip(&self.own)) {
            // No order lifts a limit of the operator's.
            let watts = wanted.get(&chip).filter(|_| written.is_ok()).map_or(*own, |wanted| *own.min(wanted));
            if let Err(reason) = control.limit(watts) {
                note(format!("chip {chip} cannot be kept to {watts} W: {reason}"));
            }
        }
        let mut set = self.set();
        if set.is_empty()
            && let Err(error) = fs::remove_file(&self.file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "{} cannot be removed", self.file.display());
        }
        // Also where a chip's own limit is as low.
        let now = |chip: &u16| Some((*chip, self.chips.get(usize::from(*chip))?.watts().ok()?));
        set.extend(wanted.keys().filter_map(now));
        Limited { set, failed }
    }
}

impl Control {
    /// The limit in force.
    fn watts(&self) -> Result<u32, String> {
        match self {
            Self::Nvml(nvml, chip) => {
                let limit = nvml.device_by_index(*chip).and_then(|device| device.power_management_limit());
                limit.map(|milliwatts| milliwatts / MILLI).map_err(|error| error.to_string())
            }
            Self::Hwmon(folder) => cap(folder, "power1_cap"),
        }
    }

    /// The least and the most that can be set.
    fn range(&self) -> Result<(u32, u32), String> {
        match self {
            Self::Nvml(nvml, chip) => {
                let device = nvml.device_by_index(*chip);
                let range = device.and_then(|device| device.power_management_limit_constraints());
                let range = range.map_err(|error| error.to_string())?;
                Ok((range.min_limit.div_ceil(MILLI), range.max_limit / MILLI))
            }
            Self::Hwmon(folder) => Ok((cap(folder, "power1_cap_min")?, cap(folder, "power1_cap_max")?)),
        }
    }

    /// Whether this process may set a limit, tried with the one that is in force.
    fn may_set(&self, now: u32) -> Result<(), String> {
        match self {
            Self::Nvml(..) => self.write(now),
            Self::Hwmon(folder) => {
                let file = OpenOptions::new().write(true).open(folder.join("power1_cap"));
                file.map(drop).map_err(|error| error.to_string())
            }
        }
    }

    fn write(&self, watts: u32) -> Result<(), String> {
        match self {
            Self::Nvml(nvml, chip) => {
                let device = nvml.device_by_index(*chip);
                let set = device.and_then(|mut device| device.set_power_management_limit(watts.saturating_mul(MILLI)));
                set.map_err(|error| error.to_string())
            }
            Self::Hwmon(folder) => {
                let text = (u64::from(watts) * MICRO).to_string();
                fs::write(folder.join("power1_cap"), text).map_err(|error| error.to_string())
            }
        }
    }

    /// Sets a limit, and sees to it that it is in force.
    fn limit(&self, watts: u32) -> Result<(), String> {
        if self.watts()? == watts {
            return Ok(());
        }
        let (least, most) = self.range()?;
        if watts < least || watts > most {
            return Err(format!("its driver allows {least} to {most} W"));
        }
        self.write(watts)?;
        match self.watts()? {
            now if now == watts => Ok(()),
            now => Err(format!("its driver took that, and keeps it to {now} W")),
        }
    }
}

/// The folder of hwmon of a chip that has this device file, if it has a limit there.
fn hwmon(sys: &Path, device: &Path) -> Option<PathBuf> {
    let folder = sys.join("class/drm").join(device.file_name()?).join("device/hwmon");
    entries(&folder).into_iter().find(|entry| entry.join("power1_cap").exists())
}

/// A file of hwmon, in watts.
fn cap(folder: &Path, name: &str) -> Result<u32, String> {
    let microwatts = word(&folder.join(name)).and_then(|text| text.parse::<u64>().ok());
    let watts = microwatts.and_then(|microwatts| u32::try_from(microwatts / MICRO).ok());
    watts.ok_or_else(|| format!("{} tells no power", folder.join(name).display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    /// A node with two chips of AMD at 750 W, that may be kept to 200 W.
    fn two_chips(folder: &Folder) -> Chips {
        let devices: Vec<PathBuf> =
            [128, 129].map(|minor| folder.path().join(format!("dev/dri/renderD{minor}"))).into();
        for device in &devices {
            let name = device.file_name().and_then(|name| name.to_str()).expect("a name");
            for (file, watts) in [("power1_cap", 750), ("power1_cap_min", 200), ("power1_cap_max", 750)] {
                let path = format!("sys/class/drm/{name}/device/hwmon/hwmon3/{file}");
                folder.write(&path, &format!("{}\n", watts * MICRO));
            }
        }
        Chips { vendor: Vendor::Amd, kind: "mi300x".to_owned(), count: 2, memory: None, watts: None, devices }
    }

    fn found(folder: &Folder, chips: &Chips) -> ChipPower {
        let found = ChipPower::find(&folder.path().join("sys"), None, chips, folder.path());
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
        let find = || ChipPower::find(&folder.path().join("sys"), None, &chips, folder.path());
        folder.write("sys/class/drm/renderD128/device/hwmon/hwmon3/power1_cap", "lots");
        assert!(find().expect_err("garbage").ends_with("hwmon3/power1_cap tells no power"));
        fs::remove_dir_all(folder.path().join("sys/class/drm/renderD128")).expect("removed");
        assert!(find().expect("nothing is wrong").is_none(), "one of two has none");
    }
}
