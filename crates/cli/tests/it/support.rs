//! Folders, files and runs of the command that tests read as a story.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use serde_json::Value;

/// All policies.
pub const POLICIES: &str = "fifo,backfill,random,dotprod,clustering,packing,bestfit,fgd,offtake";

/// The root of the repository, where the examples are.
pub fn repository() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("the crate lies two folders below the root")
}

/// A folder of a test's own, empty at first.
pub struct Folder(PathBuf);

impl Folder {
    /// The folder of a name; each test has its own.
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the build folder can be written");
        Self(path)
    }

    /// The folder with the small scenario of [`SCENARIO`] and all that it names.
    pub fn with_scenario(name: &str) -> Self {
        let folder = Self::new(name);
        for (file, text) in files() {
            folder.write(file, text);
        }
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder can be made");
        std::fs::write(path, content).expect("the folder can be written");
    }

    /// Runs `offtake` in this folder.
    pub fn offtake(&self, arguments: &str) -> Ran {
        self.run(Command::new(BINARY).args(arguments.split_whitespace()))
    }

    /// Runs any command in this folder.
    pub fn run(&self, command: &mut Command) -> Ran {
        Ran::of(command.current_dir(&self.0).output().expect("the command can be started"))
    }

    /// Every file below, by name, with what is in it.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("the folder can be read").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&self.0).unwrap_or(&path).display().to_string();
                    found.insert(name, std::fs::read(&path).expect("the file can be read"));
                }
            }
        }
        found
    }

    /// The names below a folder.
    pub fn names(&self, below: &str) -> Vec<String> {
        let prefix = format!("{below}/");
        self.contents().keys().filter_map(|name| name.strip_prefix(&prefix).map(str::to_owned)).collect()
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("the file is there and is text")
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).expect("the file is JSON")
    }

    /// A table whose first line names its columns, gzip or plain.
    pub fn table(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let bytes = std::fs::read(self.path(name)).expect("the table is there");
        let mut text = String::new();
        match name.ends_with(".gz") {
            true => GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("the table is gzip"),
            false => bytes.as_slice().read_to_string(&mut text).expect("the table is text"),
        };
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let header = lines.next().expect("the table has a header");
        lines.map(|row| header.iter().cloned().zip(row).collect()).collect()
    }
}

/// The command under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_offtake");

/// What a run of the command left.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the command writes UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The run, which must have gone well.
    #[track_caller]
    pub fn succeeds(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// What it says, refused as bad input.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{}", self.stderr);
        self.stderr
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("the command prints JSON and nothing else")
    }
}

/// A summary without what was measured.
pub fn untimed(mut summary: Value) -> Value {
    for policy in summary["policies"].as_object_mut().expect("a summary has policies").values_mut() {
        policy.as_object_mut().expect("a policy has figures").remove("timing");
    }
    summary
}

/// Two nodes of eight chips: 360 kW IT at rest, and 320 kW more for each node at work; half as much again at the grid.
pub const FLEET: &str = r#"name = "pair"

[accelerators.chip]
idle_watts = 10_000
operating_watts = 50_000
peak_watts = 70_000

[node_kinds.node]
accelerator = "chip"
chips = 8
cpu_cores = 64
memory_gib = 512
base_watts = 100_000

[sites.hall]
price_zone = "Z1"
carbon_zone = "Z1"
pue = 1.5
nodes = { node = 2 }
"#;

/// Five hours of three jobs on two nodes.
pub const SCENARIO: &str = r#"name = "small"
fleet = "fleet.toml"
start = "2022-01-01T00:00:00Z"
horizon = "5h"
seed = 7
policies = ["fifo", "backfill"]

[workload]
trace = "jobs.csv"

[signals]
prices = "prices.csv"
price_zones = "price-zones.csv"
carbon = "carbon.csv"
carbon_zones = "carbon-zones.csv"
"#;

/// `long` takes a node for two hours, `wide` needs both for one, `late` comes after half an hour and takes one for one.
pub const JOBS: &str = "\
name,tenant,submitted,duration,workers,chips
long,lab,2022-01-01T00:00:00Z,2h,1,8
wide,lab,2022-01-01T00:00:00Z,1h,2,8
late,lab,2022-01-01T00:30:00Z,1h,1,8
";

/// The small scenario's files.
pub fn files() -> [(&'static str, &'static str); 7] {
    [
        ("scenario.toml", SCENARIO),
        ("fleet.toml", FLEET),
        ("jobs.csv", JOBS),
        (
            "prices.csv",
            "utc,Z1\n2022-01-01T00:00Z,100\n2022-01-01T01:00Z,200\n2022-01-01T02:00Z,0\n2022-01-01T03:00Z,-50\n\
             2022-01-01T04:00Z,100\n",
        ),
        ("price-zones.csv", "zone,market,product,currency,usd_per_unit,rate_date\nZ1,test,hourly,USD,1,2022-01-01\n"),
        (
            "carbon.csv",
            "utc,Z1\n2022-01-01T00:00Z,400\n2022-01-01T01:00Z,300\n2022-01-01T02:00Z,200\n2022-01-01T03:00Z,100\n\
             2022-01-01T04:00Z,500\n",
        ),
        ("carbon-zones.csv", "zone,zone_name,country,estimated_share\nZ1,Nowhere,XX,0\n"),
    ]
}
