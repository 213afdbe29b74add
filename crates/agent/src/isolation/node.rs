//! What this node can hold, and the making of groups.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::sys::stat::{major, minor};
use offtake_protocol::agent::Isolation;

use super::group::Group;
use super::mounts::{Hierarchy, hierarchies};

/// The group below its own in which an agent sits under version 2, where only leaves may have processes.
const AGENT_LEAF: &str = "offtake-agent";
/// The controllers that are used, by their names in version 1.
const CONTROLLERS: [&str; 5] = ["memory", "pids", "cpuset", "devices", "freezer"];

/// What one worker may have. What the node cannot hold is left out: [`Node::isolation`] says which that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Processor cores; empty for all.
    pub cpus: Vec<u32>,
    /// Memory, in bytes; none for no limit.
    pub memory_bytes: Option<u64>,
    /// Processes and threads; none for no limit.
    pub pids: Option<u64>,
    /// Device files that it must not open, such as those of chips that it was not given.
    pub denied_devices: Vec<PathBuf>,
}

/// The groups of a worker could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make or set {}: {source}", path.display())]
pub struct GroupError {
    path: PathBuf,
    source: io::Error,
}

/// This node, as one agent on it may divide it.
#[derive(Clone, Debug)]
pub struct Node {
    places: Vec<Place>,
    affinity: bool,
}

/// The agent's own folder in one hierarchy.
#[derive(Clone, Debug)]
struct Place {
    unified: bool,
    /// The controllers that groups in it have.
    controllers: Vec<String>,
    folder: PathBuf,
}

impl Node {
    /// Finds out what this node can hold. Makes the agent's own folder of groups in each hierarchy where it may; `state`
    /// is the agent's folder of state, by which several agents on one machine are told apart.
    ///
    /// Under version 2 only leaves may have processes. So if the agent is alone in its group, it moves itself into the
    /// leaf `offtake-agent` below; a systemd unit does that for it by `Delegate=yes` and
    /// `DelegateSubgroup=offtake-agent`.
    pub fn detect(state: &Path) -> Self {
        let name = folder_name(state);
        let places: Vec<Place> = hierarchies().iter().filter_map(|hierarchy| place(hierarchy, &name)).collect();
        Self { places, affinity: nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).is_ok() }
    }

    /// What holds workers apart here, for the node's report.
    pub fn isolation(&self) -> Isolation {
        let has = |controller: &str| self.place_of(controller).is_some();
        let mut by = Vec::new();
        let limits = |place: &&Place| place.controllers.iter().any(|controller| controller != "freezer");
        if self.places.iter().filter(limits).any(|place| place.unified) {
            by.push("cgroup v2".to_owned());
        }
        if self.places.iter().filter(limits).any(|place| !place.unified) {
            by.push("cgroup v1".to_owned());
        }
        if !has("cpuset") && self.affinity {
            by.push("affinity".to_owned());
        }
        Isolation {
            cpus: has("cpuset") || self.affinity,
            memory: has("memory"),
            pids: has("pids"),
            devices: has("devices"),
            by,
        }
    }

    /// Makes the groups of one worker and sets its limits; none where there is nothing to make. `worker` is a name of its
    /// own, such as `17.1.0.3`; a group of that name that is left over from before is swept away.
    ///
    /// # Errors
    /// If a limit cannot be set. Nothing is left behind then.
    pub fn create(&self, worker: &str, limits: &Limits) -> Result<Option<Group>, GroupError> {
        // One hierarchy at least keeps the worker's processes together, so that all of them can be killed.
        let unified = self.places.iter().any(|place| place.unified);
        let keeps =
            |place: &Place| place.unified || (!unified && place.controllers.iter().any(|name| name == "freezer"));
        let wanted = |place: &&Place| keeps(place) || place.controllers.iter().any(|name| limits.want(name));
        let places: Vec<&Place> = self.places.iter().filter(wanted).collect();
        if places.is_empty() {
            return Ok(None);
        }
        let group = Group { folders: places.iter().map(|place| place.folder.join(worker)).collect() };
        if group.folders.iter().any(|folder| folder.exists()) {
            group.kill();
            let path = places[0].folder.join(worker);
            group.remove().map_err(|source| GroupError { path, source })?;
        }
        for (place, folder) in places.iter().zip(&group.folders) {
            if let Err(error) = place.make(folder, limits) {
                // It is empty, so this cannot take long; the error that is told is the first.
                let _ = group.remove();
                return Err(error);
            }
        }
        Ok(Some(group))
    }

    /// Kills and removes groups that an earlier run of the agent has left: all of its own but those that `keep` names.
    pub fn sweep(&self, keep: &dyn Fn(&str) -> bool) {
        let mut stale = std::collections::BTreeMap::<String, Vec<PathBuf>>::new();
        for place in &self.places {
            for entry in fs::read_dir(&place.folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if entry.path().is_dir() && !keep(&name) {
                    stale.entry(name).or_default().push(entry.path());
                }
            }
        }
        for (_, folders) in stale {
            let group = Group { folders };
            group.kill();
            // What does not go away now is tried again at the next start.
            let _ = group.remove();
        }
    }

    /// Removes the agent's own folders, for an agent that leaves the node for good. Fails silently where workers live.
    pub fn withdraw(&self) {
        for place in &self.places {
            let _ = fs::remove_dir(&place.folder);
        }
    }

    fn place_of(&self, controller: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.controllers.iter().any(|name| name == controller))
    }
}

impl Limits {
    fn want(&self, controller: &str) -> bool {
        match controller {
            "memory" => self.memory_bytes.is_some(),
            "pids" => self.pids.is_some(),
            "cpuset" => !self.cpus.is_empty(),
            "devices" => !self.denied_devices.is_empty(),
            _ => false,
        }
    }
}

impl Place {
    fn make(&self, folder: &Path, limits: &Limits) -> Result<(), GroupError> {
        fs::create_dir(folder).map_err(|source| GroupError { path: folder.to_path_buf(), source })?;
        for controller in self.controllers.iter().filter(|name| limits.want(name)) {
            match (controller.as_str(), self.unified) {
                ("memory", unified) => set_memory(folder, unified, limits.memory_bytes)?,
                ("pids", _) => set(folder, "pids.max", &limits.pids.map_or("max".to_owned(), |max| max.to_string()))?,
                ("cpuset", unified) => {
                    if !unified {
                        copy_memory_nodes(&self.folder, folder)?;
                        // The groups above balance load. If this one says that it does too, the kernel works out all its
                        // scheduling domains anew when its cores are set, and when it goes.
                        let _ = fs::write(folder.join("cpuset.sched_load_balance"), "0");
                    }
                    set(folder, "cpuset.cpus", &list(&limits.cpus))?;
                }
                ("devices", false) => {
                    for path in &limits.denied_devices {
                        deny(folder, path)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn set(folder: &Path, file: &str, value: &str) -> Result<(), GroupError> {
    let path = folder.join(file);
    fs::write(&path, value).map_err(|source| GroupError { path, source })
}

/// Memory with swap: what is swapped out was given to nobody.
fn set_memory(folder: &Path, unified: bool, bytes: Option<u64>) -> Result<(), GroupError> {
    let value = bytes.map_or(if unified { "max" } else { "-1" }.to_owned(), |bytes| bytes.to_string());
    if unified {
        set(folder, "memory.max", &value)?;
        // These two are missing where the kernel has no swap, or is old.
        let _ = fs::write(folder.join("memory.swap.max"), "0");
        // A worker that lost one of its processes is of no use.
        let _ = fs::write(folder.join("memory.oom.group"), "1");
        return Ok(());
    }
    set(folder, "memory.limit_in_bytes", &value)?;
    let _ = fs::write(folder.join("memory.memsw.limit_in_bytes"), &value);
    Ok(())
}

/// Under version 1 a group has no memory nodes at first, and cannot be joined without.
fn copy_memory_nodes(from: &Path, to: &Path) -> Result<(), GroupError> {
    let path = from.join("cpuset.mems");
    let nodes = fs::read_to_string(&path).map_err(|source| GroupError { path, source })?;
    set(to, "cpuset.mems", nodes.trim())
}

/// Denies one device file. One that is not there cannot be opened either.
fn deny(folder: &Path, device: &Path) -> Result<(), GroupError> {
    let Ok(metadata) = fs::metadata(device) else { return Ok(()) };
    let kind = if metadata.file_type().is_char_device() {
        'c'
    } else if metadata.file_type().is_block_device() {
        'b'
    } else {
        return Ok(());
    };
    let number = metadata.rdev();
    set(folder, "devices.deny", &format!("{kind} {}:{} rwm", major(number), minor(number)))
}

fn list(cpus: &[u32]) -> String {
    cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The agent's folder in a hierarchy, made if need be; none where it may not, or where the hierarchy has nothing to give.
fn place(hierarchy: &Hierarchy, name: &str) -> Option<Place> {
    if hierarchy.unified {
        return unified_place(hierarchy, name);
    }
    let controllers: Vec<String> =
        hierarchy.controllers.iter().filter(|name| CONTROLLERS.contains(&name.as_str())).cloned().collect();
    if controllers.is_empty() {
        return None;
    }
    let folder = hierarchy.own.join(name);
    make_folder(&folder)?;
    if controllers.iter().any(|controller| controller == "cpuset") {
        // Below an empty one nothing can be set.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let all = fs::read_to_string(hierarchy.own.join(file)).ok()?;
            fs::write(folder.join(file), all.trim()).ok()?;
        }
    }
    Some(Place { unified: false, controllers, folder })
}

fn unified_place(hierarchy: &Hierarchy, name: &str) -> Option<Place> {
    let own =
        if hierarchy.own.ends_with(AGENT_LEAF) { hierarchy.own.parent()?.to_path_buf() } else { hierarchy.own.clone() };
    let available = words(&own.join("cgroup.controllers"));
    let wanted: Vec<&str> = ["memory", "pids", "cpuset"]
        .into_iter()
        .filter(|wanted| available.iter().any(|controller| controller == wanted))
        .collect();
    let folder = own.join(name);
    if !wanted.is_empty() {
        leave(&own);
        enable(&own, &wanted);
    }
    make_folder(&folder)?;
    enable(&folder, &wanted);
    // A group's own children have what it passes on. Without any it still kills, and measures processor time.
    let mut controllers = words(&folder.join("cgroup.subtree_control"));
    controllers.retain(|controller| CONTROLLERS.contains(&controller.as_str()));
    if fs::metadata(folder.join("cgroup.kill")).is_ok() {
        controllers.push("freezer".to_owned());
    }
    Some(Place { unified: true, controllers, folder })
}

/// Moves the agent out of its group into a leaf below, if it is alone there. The topmost group of all need not be empty.
fn leave(own: &Path) {
    let processes = words(&own.join("cgroup.procs"));
    if processes != [process::id().to_string()] {
        return;
    }
    let leaf = own.join(AGENT_LEAF);
    if make_folder(&leaf).is_some() {
        // If it fails, controllers cannot be passed on, and the report says so.
        let _ = fs::write(leaf.join("cgroup.procs"), "0");
    }
}

/// Passes controllers on to the children of a group, each by itself: one that fails leaves the others.
fn enable(folder: &Path, controllers: &[&str]) {
    for controller in controllers {
        let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

fn make_folder(folder: &Path) -> Option<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => None,
        _ => Some(()),
    }
}

/// `offtake-` and the FNV-1a hash of the state folder's path.
fn folder_name(state: &Path) -> String {
    let path = fs::canonicalize(state).unwrap_or_else(|_| state.to_path_buf());
    let hash =
        path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    format!("offtake-{hash:016x}")
}
