//! What work takes from the wall: energy of a task, power of the node.
//!
//! A task with chips is given what its chips took: by their own energy counters, or by their power over time where they
//! have none. A task without chips is given its part of what the processors took (RAPL), by processor time; where that
//! cannot be read, its part of what the whole node took (a power sensor of hwmon, or IPMI), by what was allocated. Where
//! nothing can be read, the server's model of the node applies.
//!
//! The node's power is its own sensor's; without one, the sum of chips and processors.
//!
//! Counters that wrap and sensors that only tell the present are read every [`SAMPLE_INTERVAL`], and again when a task
//! starts and ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::Nvml;
use offtake_protocol::agent::EnergySource;
use serde::{Deserialize, Serialize};

use crate::discover::{entries, word};
use crate::environment::chip_indices;

/// Time between two readings. RAPL's counters wrap after a quarter of an hour at the earliest.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);
/// How long IPMI may take to tell the node's power.
const IPMI_LIMIT: Duration = Duration::from_secs(5);

/// The meters of a node, and what they have shown since the agent started.
#[derive(Debug)]
pub struct Meters {
    nvml: Option<Arc<Nvml>>,
    chips: u16,
    /// Chips whose power has to be added up, as they have no counter of energy.
    sampled_chips: BTreeMap<u32, Sum>,
    zones: Vec<Zone>,
    sensors: Vec<PathBuf>,
    node: Option<Sum>,
    proc: PathBuf,
}

/// What the meters showed when a task started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// By chip: energy since some instant, in millijoules, and how it is known.
    chips: BTreeMap<u32, (u64, EnergySource)>,
    processors_mj: Option<u64>,
    busy_ms: Option<u64>,
    node_mj: Option<u64>,
}

impl Start {
    /// What of it still means something to another run of the agent: counters that the chips keep themselves.
    pub fn lasting(self) -> Self {
        let lasts = self.chips.values().all(|(_, source)| *source == EnergySource::ChipCounter);
        Self { chips: if lasts { self.chips } else { BTreeMap::new() }, ..Self::default() }
    }
}

/// A task's part of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Processor time that it took, in milliseconds, where it was measured.
    pub cpu_ms: Option<u64>,
    /// Its part of what the node has to allocate, in millionths.
    pub allocated_ppm: u64,
}

/// Power added up over time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    energy_mj: u64,
    power_mw: u64,
    at_ms: u64,
}

impl Sum {
    /// Energy until now, as if the last reading still held.
    const fn until(&self, now_ms: u64) -> u64 {
        self.energy_mj.saturating_add(self.power_mw.saturating_mul(now_ms.saturating_sub(self.at_ms)) / 1000)
    }

    const fn read(&mut self, power_mw: u64, now_ms: u64) {
        // The mean of two readings holds between them.
        let span_ms = now_ms.saturating_sub(self.at_ms);
        let mean_mw = if self.at_ms == 0 { 0 } else { self.power_mw.midpoint(power_mw) };
        self.energy_mj = self.energy_mj.saturating_add(mean_mw.saturating_mul(span_ms) / 1000);
        self.power_mw = power_mw;
        self.at_ms = now_ms;
    }
}

/// A counter of energy of a processor or its memory.
#[derive(Clone, Debug)]
struct Zone {
    file: PathBuf,
    /// Where the counter begins anew, in microjoules.
    range_uj: u64,
    last_uj: u64,
    total_uj: u64,
    /// Of the last span between two samples.
    power_mw: u64,
    sampled_ms: u64,
    sampled_total_uj: u64,
}

impl Zone {
    fn open(folder: &Path) -> Option<Self> {
        let name = word(&folder.join("name"))?;
        // The zones inside a package are part of it, but for the memory. `psys` holds all of them.
        if !name.starts_with("package") && name != "dram" {
            return None;
        }
        let file = folder.join("energy_uj");
        let last_uj = read_number(&file)?;
        let range_uj = read_number(&folder.join("max_energy_range_uj"))?;
        Some(Self { file, range_uj, last_uj, total_uj: 0, power_mw: 0, sampled_ms: 0, sampled_total_uj: 0 })
    }

    fn read(&mut self) {
        let Some(now_uj) = read_number(&self.file) else { return };
        let gone_by =
            now_uj.checked_sub(self.last_uj).unwrap_or_else(|| (self.range_uj + now_uj).saturating_sub(self.last_uj));
        self.total_uj = self.total_uj.saturating_add(gone_by);
        self.last_uj = now_uj;
    }

    fn sample(&mut self, now_ms: u64) {
        self.read();
        let span_ms = now_ms.saturating_sub(self.sampled_ms);
        if self.sampled_ms > 0 && span_ms > 0 {
            // Microjoules in milliseconds are milliwatts.
            self.power_mw = (self.total_uj - self.sampled_total_uj) / span_ms;
        }
        self.sampled_ms = now_ms;
        self.sampled_total_uj = self.total_uj;
    }
}

impl Meters {
    /// Finds the meters of a node. `chips` is how many NVIDIA chips it has.
    pub fn find(sys: &Path, proc: &Path, nvml: Option<Arc<Nvml>>, chips: u16) -> Self {
        let zones = entries(&sys.join("class/powercap")).iter().filter_map(|folder| Zone::open(folder)).collect();
        let mut meters = Self {
            nvml,
            chips,
            sampled_chips: BTreeMap::new(),
            zones,
            sensors: node_sensors(sys),
            node: None,
            proc: proc.to_owned(),
        };
        for chip in 0..u32::from(chips) {
            if meters.chip_energy_mj(chip).is_none() && meters.chip_power_mw(chip).is_some() {
                meters.sampled_chips.insert(chip, Sum::default());
            }
        }
        meters
    }

    /// Where power is measured, the best first.
    pub fn sources(&self) -> Vec<EnergySource> {
        let mut sources = Vec::new();
        if self.nvml.is_some() && usize::from(self.chips) > self.sampled_chips.len() {
            sources.push(EnergySource::ChipCounter);
        }
        if !self.sampled_chips.is_empty() {
            sources.push(EnergySource::ChipPower);
        }
        if !self.zones.is_empty() {
            sources.push(EnergySource::Processor);
        }
        if self.node.is_some() || !self.sensors.is_empty() {
            sources.push(EnergySource::Node);
        }
        sources
    }

    /// Whether the node's own power is told by a sensor of the kernel, so that IPMI need not be asked.
    pub const fn has_node_sensor(&self) -> bool {
        !self.sensors.is_empty()
    }

    /// Reads all meters. `node_mw` is the node's power where somebody else has asked for it ([`ipmi_power_mw`]).
    pub fn sample(&mut self, node_mw: Option<u64>, now_ms: u64) {
        let sampled: Vec<u32> = self.sampled_chips.keys().copied().collect();
        for chip in sampled {
            if let (Some(power_mw), Some(sum)) = (self.chip_power_mw(chip), self.sampled_chips.get_mut(&chip)) {
                sum.read(power_mw, now_ms);
            }
        }
        for zone in &mut self.zones {
            zone.sample(now_ms);
        }
        let own: Vec<u64> = self.sensors.iter().filter_map(|file| read_number(file)).collect();
        // hwmon tells microwatts.
        let power_mw = if own.is_empty() { node_mw } else { Some(own.iter().sum::<u64>() / 1000) };
        if let Some(power_mw) = power_mw {
            self.node.get_or_insert_default().read(power_mw, now_ms);
        }
    }

    /// Draw of the node now, in milliwatts, and how that is known.
    pub fn power(&self) -> Option<(u64, EnergySource)> {
        if let Some(node) = self.node {
            return Some((node.power_mw, EnergySource::Node));
        }
        let chips: Vec<u64> = (0..u32::from(self.chips)).filter_map(|chip| self.chip_power_mw(chip)).collect();
        let processors: u64 = self.zones.iter().map(|zone| zone.power_mw).sum();
        match (chips.is_empty(), self.zones.is_empty()) {
            (false, _) => Some((chips.iter().sum::<u64>() + processors, EnergySource::ChipPower)),
            (true, false) => Some((processors, EnergySource::Processor)),
            (true, true) => None,
        }
    }

    /// What the meters show for a task with these chips.
    pub fn start(&mut self, chips: u64, now_ms: u64) -> Start {
        if chips != 0 {
            let chips =
                chip_indices(chips).filter_map(|chip| Some((chip, self.chip_total_mj(chip, now_ms)?))).collect();
            return Start { chips, ..Start::default() };
        }
        let processors_mj = self.processors_mj();
        Start {
            chips: BTreeMap::new(),
            processors_mj,
            busy_ms: processors_mj.and_then(|_| busy_ms(&self.proc)),
            node_mj: self.node.map(|node| node.until(now_ms)),
        }
    }

    /// Energy that a task took since `start`, in millijoules, and how that is known.
    pub fn energy(&mut self, start: &Start, part: Part, now_ms: u64) -> (u64, EnergySource) {
        if !start.chips.is_empty() {
            let mut all = (0_u64, EnergySource::ChipCounter);
            for (chip, (before_mj, source)) in &start.chips {
                let after_mj = self.chip_total_mj(*chip, now_ms).map_or(*before_mj, |(total_mj, _)| total_mj);
                all.0 = all.0.saturating_add(after_mj.saturating_sub(*before_mj));
                // One chip without a counter makes the sum a sampled one.
                all.1 = all.1.max(*source);
            }
            return all;
        }
        if let (Some(before_mj), Some(busy_before_ms), Some(cpu_ms)) = (start.processors_mj, start.busy_ms, part.cpu_ms)
            && let (Some(after_mj), Some(busy_ms)) = (self.processors_mj(), busy_ms(&self.proc))
        {
            // The kernel counts in hundredths of a second, so a short task may seem to be more than all.
            let all_ms = busy_ms.saturating_sub(busy_before_ms).max(cpu_ms).max(1);
            return (share(after_mj.saturating_sub(before_mj), cpu_ms, all_ms), EnergySource::Processor);
        }
        if let (Some(before_mj), Some(node)) = (start.node_mj, self.node) {
            let taken_mj = node.until(now_ms).saturating_sub(before_mj);
            return (share(taken_mj, part.allocated_ppm.min(1_000_000), 1_000_000), EnergySource::Node);
        }
        (0, EnergySource::Model)
    }

    fn processors_mj(&mut self) -> Option<u64> {
        for zone in &mut self.zones {
            zone.read();
        }
        (!self.zones.is_empty()).then(|| self.zones.iter().map(|zone| zone.total_uj).sum::<u64>() / 1000)
    }

    fn chip_total_mj(&self, chip: u32, now_ms: u64) -> Option<(u64, EnergySource)> {
        match self.sampled_chips.get(&chip) {
            Some(sum) => Some((sum.until(now_ms), EnergySource::ChipPower)),
            None => Some((self.chip_energy_mj(chip)?, EnergySource::ChipCounter)),
        }
    }

    fn chip_energy_mj(&self, chip: u32) -> Option<u64> {
        self.nvml.as_ref()?.device_by_index(chip).ok()?.total_energy_consumption().ok()
    }

    fn chip_power_mw(&self, chip: u32) -> Option<u64> {
        self.nvml.as_ref()?.device_by_index(chip).ok()?.power_usage().ok().map(u64::from)
    }
}

/// `amount` times `part` over `whole`, without overflow.
fn share(amount: u64, part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(amount) * u128::from(part) / u128::from(whole.max(1))).unwrap_or(u64::MAX)
}

fn read_number(path: &Path) -> Option<u64> {
    word(path)?.parse().ok()
}

/// Sensors of hwmon for the power of the whole node, in microwatts: those of ACPI's power meter. A board with several
/// (NVIDIA's Grace) names the one that holds the others `Module Power`.
fn node_sensors(sys: &Path) -> Vec<PathBuf> {
    let meters: Vec<PathBuf> = entries(&sys.join("class/hwmon"))
        .into_iter()
        .filter(|folder| {
            word(&folder.join("name")).is_some_and(|name| name == "power_meter" || name == "acpi_power_meter")
        })
        .collect();
    let is_whole = |folder: &Path| {
        word(&folder.join("power1_oem_info"))
            .or_else(|| word(&folder.join("device/power1_oem_info")))
            .is_some_and(|text| text.starts_with("Module Power"))
    };
    let whole: Vec<PathBuf> = meters.iter().filter(|folder| is_whole(folder)).cloned().collect();
    let counted = if whole.is_empty() { meters } else { whole };
    let sensor = |folder: &PathBuf| {
        let files = ["power1_average", "power1_input", "device/power1_average"].map(|name| folder.join(name));
        files.into_iter().find(|file| read_number(file).is_some())
    };
    counted.iter().filter_map(sensor).collect()
}

/// Time that the processors of the node were busy since it started, in milliseconds.
fn busy_ms(proc: &Path) -> Option<u64> {
    let text = fs::read_to_string(proc.join("stat")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; in hundredths of a second on Linux.
    let busy: u64 = ticks.iter().take(3).sum::<u64>() + ticks.iter().skip(5).take(2).sum::<u64>();
    (ticks.len() >= 7).then_some(busy.saturating_mul(10))
}

/// Asks the board's controller for the node's power, in milliwatts; none where it does not tell, or not in time.
pub async fn ipmi_power_mw(program: &Path) -> Option<u64> {
    let mut command = tokio::process::Command::new(program);
    command.args(["dcmi", "power", "reading"]).env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = tokio::time::timeout(IPMI_LIMIT, command.output()).await.ok()?.ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.trim_start().starts_with("Instantaneous power reading"))?;
    let watts: u64 = line.split_once(':')?.1.split_whitespace().next()?.parse().ok()?;
    // A controller without a meter tells nought.
    (watts > 0).then(|| watts.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Folder;

    fn meters(folder: &Folder) -> Meters {
        Meters::find(&folder.path().join("sys"), &folder.path().join("proc"), None, 0)
    }

    fn rapl(folder: &Folder, zone: &str, name: &str, energy_uj: u64) {
        let zone = format!("sys/class/powercap/{zone}");
        folder.write(&format!("{zone}/name"), name);
        folder.write(&format!("{zone}/energy_uj"), &energy_uj.to_string());
        folder.write(&format!("{zone}/max_energy_range_uj"), "1000000000");
    }

    /// Busy for so many hundredths of a second.
    fn stat(folder: &Folder, ticks: u64) {
        folder.write("proc/stat", &format!("cpu  {ticks} 0 0 99999 5 0 0 0 0 0\ncpu0 1 2 3\n"));
    }

    #[test]
    fn the_model_where_nothing_is_measured() {
        let folder = Folder::new("no-meters");
        let mut meters = meters(&folder);
        meters.sample(None, 1);
        let start = meters.start(0, 1);
        assert_eq!(meters.energy(&start, Part { cpu_ms: Some(5), allocated_ppm: 1 }, 9), (0, EnergySource::Model));
        assert_eq!((meters.sources(), meters.power()), (Vec::new(), None));
    }

    #[test]
    fn processors_are_shared_by_processor_time() {
        let folder = Folder::new("rapl");
        rapl(&folder, "intel-rapl:0", "package-0\n", 999_000_000);
        rapl(&folder, "intel-rapl:0:0", "core\n", 1);
        rapl(&folder, "intel-rapl:0:1", "dram\n", 0);
        rapl(&folder, "intel-rapl:1", "psys\n", 1);
        stat(&folder, 100);
        let mut meters = meters(&folder);
        assert_eq!(meters.sources(), [EnergySource::Processor]);
        meters.sample(None, 1_000);
        let start = meters.start(0, 1_000);
        // The package's counter wraps meanwhile: 1 J to the end, 7 J after it; the memory takes 2 J.
        rapl(&folder, "intel-rapl:0", "package-0\n", 7_000_000);
        rapl(&folder, "intel-rapl:0:0", "core\n", 5_000_000);
        rapl(&folder, "intel-rapl:0:1", "dram\n", 2_000_000);
        stat(&folder, 200);
        let part = Part { cpu_ms: Some(250), allocated_ppm: 0 };
        assert_eq!(meters.energy(&start, part, 2_000), (2_500, EnergySource::Processor), "a quarter of 10 J");
        meters.sample(None, 2_000);
        assert_eq!(meters.power(), Some((10_000, EnergySource::Processor)), "10 J in a second");
    }

    #[test]
    fn the_nodes_own_sensor_is_shared_by_what_was_allocated() {
        let folder = Folder::new("hwmon");
        folder.write("sys/class/hwmon/hwmon0/name", "nvme\n");
        folder.write("sys/class/hwmon/hwmon0/power1_input", "9000000\n");
        folder.write("sys/class/hwmon/hwmon1/name", "power_meter\n");
        folder.write("sys/class/hwmon/hwmon1/power1_average", "400000000\n");
        let mut meters = meters(&folder);
        meters.sample(None, 1_000);
        assert_eq!(meters.power(), Some((400_000, EnergySource::Node)));
        let start = meters.start(0, 1_000);
        folder.write("sys/class/hwmon/hwmon1/power1_average", "600000000\n");
        meters.sample(None, 11_000);
        let part = Part { cpu_ms: Some(1), allocated_ppm: 250_000 };
        // 10 s at 500 W on average and 2 s at 600 W.
        assert_eq!(meters.energy(&start, part, 13_000), (6_200_000 / 4, EnergySource::Node));
    }

    #[test]
    fn a_board_with_several_sensors_counts_the_one_that_holds_the_others() {
        let folder = Folder::new("grace");
        for (number, info, watts) in [(0, "CPU Power Socket 0", 100), (1, "Module Power Socket 0", 700)] {
            let at = format!("sys/class/hwmon/hwmon{number}");
            folder.write(&format!("{at}/name"), "power_meter\n");
            folder.write(&format!("{at}/power1_oem_info"), info);
            folder.write(&format!("{at}/power1_average"), &format!("{watts}000000\n"));
        }
        let mut meters = meters(&folder);
        meters.sample(None, 1);
        assert_eq!(meters.power(), Some((700_000, EnergySource::Node)));
    }

    #[tokio::test]
    async fn the_boards_controller_is_asked() {
        let folder = Folder::new("ipmi");
        let answer = "\n    Instantaneous power reading:                   220 Watts\n    Minimum during sampling period: 9 Watts\n";
        folder.write(
            "ipmitool",
            &format!("#!/bin/sh\necho \"$*\" | grep -qx 'dcmi power reading' && printf '{answer}'\n"),
        );
        let program = folder.path().join("ipmitool");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        assert_eq!(ipmi_power_mw(&program).await, Some(220_000));
        assert_eq!(ipmi_power_mw(Path::new("/nowhere/ipmitool")).await, None);
    }
}
