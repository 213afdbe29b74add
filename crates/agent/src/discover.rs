//! What a node has: cores, memory and chips, and what is installed on it.
//!
//! Chips are found by what the kernel shows of them, NVIDIA's by NVML, which is loaded at run time: a node without its
//! driver has none. The folders of the system are parameters, so that a test can show other machines.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use offtake_units::Mebibytes;

use crate::environment::Vendor;

/// The most chips of one node: tasks name them by 64 bits.
const MOST_CHIPS: usize = 64;

/// Where the system shows itself.
#[derive(Clone, Debug)]
pub struct Roots {
    /// `/dev`.
    pub dev: PathBuf,
    /// `/etc`.
    pub etc: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { dev: "/dev".into(), etc: "/etc".into(), proc: "/proc".into(), sys: "/sys".into() }
    }
}

/// What was found on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The host's name.
    pub host: String,
    /// The cores that the agent itself may use, by the kernel's numbers.
    pub cores: Vec<u32>,
    /// Memory that the agent itself may use.
    pub memory: Mebibytes,
    /// Its chips.
    pub chips: Option<Chips>,
    /// Kernel, system, drivers.
    pub attributes: BTreeMap<String, String>,
}

/// The chips of a node, which are all of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chips {
    /// Who makes them.
    pub vendor: Vendor,
    /// The kind, as fleet files name it.
    pub kind: String,
    /// How many.
    pub count: u16,
    /// Memory of one.
    pub memory: Option<Mebibytes>,
    /// The most that one may draw, in watts.
    pub watts: Option<u32>,
    /// The device file of each, where it has one of its own.
    pub devices: Vec<PathBuf>,
}

/// NVIDIA's library, if it is installed.
pub fn nvml() -> Option<Nvml> {
    // The name without a version belongs to development packages.
    Nvml::builder().lib_path("libnvidia-ml.so.1".as_ref()).init().ok()
}

/// Looks at the node.
pub fn discover(roots: &Roots, nvml: Option<&Nvml>) -> Found {
    let mut attributes = BTreeMap::new();
    attributes.insert("arch".to_owned(), std::env::consts::ARCH.to_owned());
    if let Some(kernel) = word(&roots.proc.join("sys/kernel/osrelease")) {
        attributes.insert("kernel".to_owned(), kernel);
    }
    if let Some(os) = operating_system(&roots.etc) {
        attributes.insert("os".to_owned(), os);
    }
    let chips = nvml
        .and_then(|nvml| nvidia(nvml, &mut attributes).ok().flatten())
        .or_else(|| neuron(roots))
        .or_else(|| amd(roots))
        .or_else(|| tpu(roots));
    Found {
        host: word(&roots.proc.join("sys/kernel/hostname")).unwrap_or_else(|| "localhost".to_owned()),
        cores: own_cores(),
        memory: own_memory(roots),
        chips,
        attributes,
    }
}

/// The address by which this host reaches a server; the loopback address where they share a host.
pub fn local_address(server: &str) -> IpAddr {
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let Some((scheme, rest)) = server.split_once("://") else { return LOOPBACK };
    let authority = rest.split('/').next().unwrap_or_default();
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let default_port = if scheme == "https" { 443 } else { 80 };
    let authority = if has_port { authority.to_owned() } else { format!("{authority}:{default_port}") };
    // Nothing is sent: connecting a datagram socket only chooses the way.
    let way = |to: std::net::SocketAddr| -> io::Result<IpAddr> {
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    authority.to_socket_addrs().ok().and_then(|mut all| all.find_map(|to| way(to).ok())).unwrap_or(LOOPBACK)
}

/// The first line of a small file, if there is anything in it.
pub(crate) fn word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn number(path: &Path) -> Option<u64> {
    let word = word(path)?;
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

fn operating_system(etc: &Path) -> Option<String> {
    let text = fs::read_to_string(etc.join("os-release")).ok()?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    match (value("ID")?, value("VERSION_ID")) {
        (id, Some(version)) => Some(format!("{id}-{version}")),
        (id, None) => Some(id),
    }
}

fn own_cores() -> Vec<u32> {
    match sched_getaffinity(Pid::from_raw(0)) {
        Ok(set) => (0..CpuSet::count())
            .filter(|core| set.is_set(*core).unwrap_or(false))
            .filter_map(|core| u32::try_from(core).ok())
            .collect(),
        Err(_) => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            (0..u32::try_from(cores).unwrap_or(1)).collect()
        }
    }
}

fn own_memory(roots: &Roots) -> Mebibytes {
    let total = meminfo_kib(&roots.proc, "MemTotal").unwrap_or(0) / 1024;
    let limit = control_group_memory(roots).map_or(u64::MAX, |bytes| bytes >> 20);
    Mebibytes::new(total.min(limit))
}

/// An entry of `/proc/meminfo`, in KiB.
pub(crate) fn meminfo_kib(proc: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(proc.join("meminfo")).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The limit of the control group that the agent is in, in bytes.
fn control_group_memory(roots: &Roots) -> Option<u64> {
    let text = fs::read_to_string(roots.proc.join("self/cgroup")).ok()?;
    let mounts = roots.sys.join("fs/cgroup");
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            if controllers.is_empty() {
                return number(&mounts.join(path).join("memory.max"));
            }
            let of_memory = controllers.split(',').any(|controller| controller == "memory");
            of_memory.then(|| number(&mounts.join("memory").join(path).join("memory.limit_in_bytes"))).flatten()
        })
        .min()
}

fn nvidia(nvml: &Nvml, attributes: &mut BTreeMap<String, String>) -> Result<Option<Chips>, NvmlError> {
    let count = nvml.device_count()?;
    if count == 0 {
        return Ok(None);
    }
    if let Ok(driver) = nvml.sys_driver_version() {
        attributes.insert("driver".to_owned(), driver);
    }
    if let Ok(cuda) = nvml.sys_cuda_driver_version() {
        attributes.insert("cuda".to_owned(), format!("{}.{}", cuda / 1000, cuda % 1000 / 10));
    }
    let first = nvml.device_by_index(0)?;
    Ok(Some(Chips {
        vendor: Vendor::Nvidia,
        kind: nvidia_kind(&first.name()?),
        count: bounded(count as usize),
        memory: first.memory_info().ok().map(|memory| Mebibytes::new(memory.total >> 20)),
        watts: first.enforced_power_limit().ok().map(|milliwatts| milliwatts / 1000),
        devices: (0..count)
            .filter_map(|chip| nvml.device_by_index(chip).ok()?.minor_number().ok())
            .map(|minor| PathBuf::from(format!("/dev/nvidia{minor}")))
            .collect(),
    }))
}

fn bounded(count: usize) -> u16 {
    u16::try_from(count.min(MOST_CHIPS)).unwrap_or(u16::MAX)
}

/// The kind by NVML's name of the product: the model's own word in it where there is one that fleet files know,
/// otherwise the whole name, made plain.
fn nvidia_kind(product: &str) -> String {
    const MODELS: [&str; 26] = [
        "a10", "a100", "a10g", "a16", "a2", "a30", "a40", "a800", "b100", "b200", "b300", "gb200", "gb300", "gh200",
        "h100", "h20", "h200", "h800", "l4", "l40", "l40s", "p100", "p4", "p40", "t4", "v100",
    ];
    let plain = product.to_ascii_lowercase();
    let words: Vec<&str> = plain
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && !["nvidia", "tesla", "geforce"].contains(word))
        .collect();
    match words.iter().find(|word| MODELS.contains(word)) {
        Some(model) => (*model).to_owned(),
        None => words.join("-"),
    }
}

/// Entries of a folder, in the order of their names; none where it cannot be read.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    all.sort();
    all
}

/// The files of a folder that are named by this word and a number, by number.
fn numbered(folder: &Path, name: &str) -> Vec<PathBuf> {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(name)?.parse::<u32>().ok();
    let mut all: Vec<(u32, PathBuf)> =
        entries(folder).into_iter().filter_map(|path| Some((number(&path)?, path))).collect();
    all.sort();
    all.into_iter().map(|(_, path)| path).collect()
}

/// Devices on the PCI bus of a vendor, by device number.
fn pci_devices(sys: &Path, vendor: u64) -> Vec<u64> {
    entries(&sys.join("bus/pci/devices"))
        .iter()
        .filter(|device| number(&device.join("vendor")) == Some(vendor))
        .filter_map(|device| number(&device.join("device")))
        .collect()
}

fn neuron(roots: &Roots) -> Option<Chips> {
    const AMAZON: u64 = 0x1d0f;
    /// As the Neuron driver's source has them, with the cores and the memory of one chip.
    const MODELS: [(u64, &str, u32, u64); 4] = [
        (0x7064, "inf1", 4, 8 << 10),
        (0x7164, "trn1", 2, 32 << 10),
        (0x7264, "inf2", 2, 32 << 10),
        (0x7364, "trn2", 8, 96 << 10),
    ];
    let devices = numbered(&roots.dev, "neuron");
    if devices.is_empty() {
        return None;
    }
    let on_bus = pci_devices(&roots.sys, AMAZON);
    let model = MODELS.iter().find(|(device, ..)| on_bus.contains(device));
    let told = number(&roots.sys.join("devices/virtual/neuron_device/neuron0/core_count"));
    let cores_per_chip = told.and_then(|cores| u32::try_from(cores).ok()).or(model.map(|(_, _, cores, _)| *cores));
    Some(Chips {
        vendor: Vendor::Neuron { cores_per_chip: cores_per_chip.unwrap_or(2) },
        kind: model.map_or("neuron", |(_, kind, ..)| kind).to_owned(),
        count: bounded(devices.len()),
        memory: model.map(|(.., memory)| Mebibytes::new(*memory)),
        watts: None,
        devices,
    })
}

fn amd(roots: &Roots) -> Option<Chips> {
    /// By the number on the PCI bus.
    const MODELS: [(u64, &str); 9] = [
        (0x738c, "mi100"),
        (0x7408, "mi250x"),
        (0x740c, "mi250x"),
        (0x740f, "mi210"),
        (0x74a0, "mi300a"),
        (0x74a1, "mi300x"),
        (0x74a5, "mi325x"),
        (0x75a0, "mi350x"),
        (0x75a3, "mi355x"),
    ];
    if !roots.dev.join("kfd").exists() {
        return None;
    }
    // The processors of the host are nodes of this topology too; they have no SIMD units.
    let gpus: Vec<(PathBuf, u64)> = numbered(&roots.sys.join("class/kfd/kfd/topology/nodes"), "")
        .into_iter()
        .filter(|node| property(&node.join("properties"), "simd_count").is_some_and(|units| units > 0))
        .map(|node| (node.clone(), property(&node.join("properties"), "device_id").unwrap_or(0)))
        .collect();
    let (node, device) = gpus.first()?;
    let memory = entries(&node.join("mem_banks"))
        .iter()
        .filter_map(|bank| property(&bank.join("properties"), "size_in_bytes"))
        .max()
        .map(|bytes| Mebibytes::new(bytes >> 20));
    let kind = MODELS.iter().find(|(number, _)| number == device).map_or("amd-gpu", |(_, kind)| kind);
    let minor = |(node, _): &(PathBuf, u64)| property(&node.join("properties"), "drm_render_minor");
    let devices = gpus.iter().filter_map(minor).map(|minor| roots.dev.join(format!("dri/renderD{minor}"))).collect();
    Some(Chips { vendor: Vendor::Amd, kind: kind.to_owned(), count: bounded(gpus.len()), memory, watts: None, devices })
}

/// A line `name value` of a file.
fn property(path: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn tpu(roots: &Roots) -> Option<Chips> {
    const GOOGLE: u64 = 0x1ae0;
    /// By the number on the PCI bus, with the memory of one chip; the bus has network cards of the same vendor.
    const MODELS: [(u64, &str, u64); 6] = [
        (0x0027, "tpu-v3", 32 << 10),
        (0x005e, "tpu-v4", 32 << 10),
        (0x0062, "tpu-v5p", 95 << 10),
        (0x0063, "tpu-v5e", 16 << 10),
        (0x006f, "tpu-v6e", 32 << 10),
        (0x0076, "tpu-v7x", 192 << 10),
    ];
    // Older ones are /dev/accel0 and so on, newer ones go through VFIO.
    let mut devices = numbered(&roots.dev, "accel");
    if devices.is_empty() {
        devices = numbered(&roots.dev.join("vfio"), "");
    }
    if devices.is_empty() {
        return None;
    }
    let on_bus = pci_devices(&roots.sys, GOOGLE);
    let (device, kind, memory) = MODELS.iter().find(|(device, ..)| on_bus.contains(device))?;
    let count = on_bus.iter().filter(|found| *found == device).count();
    let memory = Some(Mebibytes::new(*memory));
    // Where VFIO has others too, nobody knows which are which.
    devices.retain({
        let known = devices.len() == count;
        move |_| known
    });
    Some(Chips { vendor: Vendor::Tpu, kind: (*kind).to_owned(), count: bounded(count), memory, watts: None, devices })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn roots(folder: &Folder) -> Roots {
        let at = |name: &str| folder.path().join(name);
        Roots { dev: at("dev"), etc: at("etc"), proc: at("proc"), sys: at("sys") }
    }

    #[test]
    fn a_host_without_chips() {
        let folder = Folder::new("plain-host");
        folder.write("proc/meminfo", "MemTotal:       16314840 kB\nMemFree:          100 kB\n");
        folder.write("proc/sys/kernel/hostname", "node-7\n");
        folder.write("proc/sys/kernel/osrelease", "6.8.0-40-generic\n");
        folder.write("etc/os-release", "NAME=\"Ubuntu\"\nID=ubuntu\nVERSION_ID=\"24.04\"\n");
        let found = discover(&roots(&folder), None);
        assert_eq!(found.host, "node-7");
        assert_eq!(found.memory, Mebibytes::new(16_314_840 / 1024));
        assert_eq!(found.attributes["kernel"], "6.8.0-40-generic");
        assert_eq!(found.attributes["os"], "ubuntu-24.04");
        assert_eq!(found.chips, None);
        assert!(!found.cores.is_empty());
    }

    #[test]
    fn memory_is_what_the_control_group_leaves() {
        let folder = Folder::new("memory");
        folder.write("proc/meminfo", "MemTotal:       16314840 kB\n");
        folder.write("proc/self/cgroup", "0::/agent.service\n");
        folder.write("sys/fs/cgroup/agent.service/memory.max", "max\n");
        assert_eq!(own_memory(&roots(&folder)), Mebibytes::new(15_932));
        folder.write("sys/fs/cgroup/agent.service/memory.max", "1073741824\n");
        assert_eq!(own_memory(&roots(&folder)), Mebibytes::new(1024));
        folder.write("proc/self/cgroup", "4:memory:/jobs\n0::/\n");
        folder.write("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "536870912\n");
        assert_eq!(own_memory(&roots(&folder)), Mebibytes::new(512));
    }

    fn pci(folder: &Folder, slot: u32, vendor: &str, device: &str) {
        folder.write(&format!("sys/bus/pci/devices/0000:00:{slot:02x}.0/vendor"), vendor);
        folder.write(&format!("sys/bus/pci/devices/0000:00:{slot:02x}.0/device"), device);
    }

    #[test]
    fn trainium_by_its_device_files() {
        let folder = Folder::new("neuron");
        for chip in 0..16 {
            folder.write(&format!("dev/neuron{chip}"), "");
            pci(&folder, chip, "0x1d0f\n", "0x7364\n");
        }
        folder.write("dev/neuron_something", "");
        folder.write("sys/devices/virtual/neuron_device/neuron0/core_count", "8\n");
        let chips = discover(&roots(&folder), None).chips.expect("found");
        assert_eq!((chips.kind.as_str(), chips.count), ("trn2", 16));
        assert_eq!(chips.vendor, Vendor::Neuron { cores_per_chip: 8 });
    }

    #[test]
    fn rocm_by_its_topology() {
        let folder = Folder::new("rocm");
        folder.write("dev/kfd", "");
        let nodes = "sys/class/kfd/kfd/topology/nodes";
        folder.write(&format!("{nodes}/0/properties"), "cpu_cores_count 96\nsimd_count 0\n");
        for gpu in 1..=8 {
            folder.write(&format!("{nodes}/{gpu}/properties"), "simd_count 1216\ndevice_id 29857\n");
            folder.write(&format!("{nodes}/{gpu}/mem_banks/0/properties"), "heap_type 1\nsize_in_bytes 206141652992\n");
        }
        let chips = discover(&roots(&folder), None).chips.expect("found");
        assert_eq!((chips.kind.as_str(), chips.count, chips.vendor), ("mi300x", 8, Vendor::Amd));
        assert_eq!(chips.memory, Some(Mebibytes::new(196_592)));
    }

    #[test]
    fn tpus_beside_network_cards_of_the_same_vendor() {
        let folder = Folder::new("tpu");
        pci(&folder, 0, "0x1ae0\n", "0x0042\n");
        for chip in 1..=4 {
            folder.write(&format!("dev/vfio/{chip}"), "");
            pci(&folder, chip, "0x1ae0\n", "0x0062\n");
        }
        let chips = discover(&roots(&folder), None).chips.expect("found");
        assert_eq!((chips.kind.as_str(), chips.count, chips.vendor), ("tpu-v5p", 4, Vendor::Tpu));
    }

    #[test]
    fn products_by_the_names_of_fleet_files() {
        for (product, kind) in [
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("NVIDIA A100-SXM4-80GB", "a100"),
            ("Tesla V100-SXM2-32GB", "v100"),
            ("NVIDIA GH200 480GB", "gh200"),
            ("NVIDIA L40S", "l40s"),
            ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ] {
            assert_eq!(nvidia_kind(product), kind, "{product}");
        }
    }

    #[test]
    fn the_address_is_the_one_that_reaches_the_server() {
        assert_eq!(local_address("unix:/run/offtake.sock"), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(local_address("http://127.0.0.1:1"), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(local_address("http://nowhere.invalid"), IpAddr::from([127, 0, 0, 1]));
    }
}
