//! Where the hierarchies of control groups are mounted, and which group of each this process is in.

use std::fs;
use std::path::{Path, PathBuf};

/// A hierarchy of control groups, as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Its controllers; empty for version 2, where each group says which it has.
    pub controllers: Vec<String>,
    /// Whether it is version 2.
    pub unified: bool,
    /// The folder of the group that this process is in.
    pub own: PathBuf,
    /// The folder of its topmost group that can be seen.
    pub top: PathBuf,
}

/// The hierarchies that are mounted; none where the kernel has none or they cannot be seen.
pub(super) fn hierarchies() -> Vec<Hierarchy> {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

fn parse(mountinfo: &str, membership: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = mountinfo.lines().filter_map(|line| hierarchy(line, membership)).collect();
    // A hierarchy may be mounted twice: the first is as good.
    let mut seen: Vec<(bool, Vec<String>)> = Vec::new();
    found.retain(|hierarchy| {
        let key = (hierarchy.unified, hierarchy.controllers.clone());
        let new = !seen.contains(&key);
        seen.push(key);
        new
    });
    found
}

/// A line of `mountinfo` has the root within the file system fourth, the mount point fifth, and after a lone dash the
/// type, the source and the options of the file system.
fn hierarchy(line: &str, membership: &str) -> Option<Hierarchy> {
    let (mount, system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, top) = (unescape(mount.next()?), unescape(mount.next()?));
    let mut system = system.split(' ');
    let kind = system.next()?;
    let options = system.nth(1)?;

    let (unified, controllers) = match kind {
        "cgroup2" => (true, Vec::new()),
        "cgroup" => {
            let flags = ["rw", "ro", "none", "xattr", "clone_children", "noprefix", "all", "nsdelegate"];
            let names = options.split(',').filter(|word| !flags.contains(word) && !word.contains('='));
            (false, names.map(str::to_owned).collect::<Vec<_>>())
        }
        _ => return None,
    };
    // A named hierarchy (`name=systemd`) controls nothing.
    if !unified && controllers.is_empty() {
        return None;
    }
    let group = membership.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, names, group) = (fields.next()?, fields.next()?, fields.next()?);
        let this = if unified { names.is_empty() } else { names.split(',').any(|name| name == controllers[0]) };
        this.then_some(group)
    })?;
    // Where only a part of the hierarchy is mounted, as in some containers, the group may lie outside of it.
    let below = Path::new(group).strip_prefix(&root).ok()?;
    let top = PathBuf::from(top);
    let own = if below.as_os_str().is_empty() { top.clone() } else { top.join(below) };
    Some(Hierarchy { controllers, unified, own, top })
}

/// `mountinfo` writes space, tab, line feed and backslash as octal numbers.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_and_2_side_by_side() {
        let mountinfo = "\
29 28 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 29 0:27 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
32 29 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
33 29 0:26 / /mnt/again rw,relatime - cgroup cgroup rw,cpu,cpuacct
";
        let membership = "2:cpu,cpuacct:/batch\n1:name=systemd:/x\n0::/system.slice/offtake.service\n";
        let found = parse(mountinfo, membership);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/cpu,cpuacct/batch"));
        assert!(found[1].unified);
        assert_eq!(found[1].own, Path::new("/sys/fs/cgroup/unified/system.slice/offtake.service"));
        assert_eq!(found[1].top, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let mountinfo = "30 29 0:26 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                         31 29 0:27 /elsewhere /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n";
        let found = parse(mountinfo, "3:memory:/docker/abc\n4:pids:/docker/abc\n");
        assert_eq!(found.len(), 1, "the group of the second lies outside of what is mounted");
        assert_eq!(found[0].own, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
    }
}
