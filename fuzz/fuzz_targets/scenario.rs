//! Any text is a scenario or an error. A fleet of two nodes and a trace of one job lie beside it.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use offtake_sim::Overrides;

const FLEET: &str = "name = \"pair\"\n[accelerators.c]\nidle_watts = 1\noperating_watts = 2\npeak_watts = 3\n\
    [node_kinds.n]\naccelerator = \"c\"\nchips = 8\ncpu_cores = 8\nmemory_gib = 8\nbase_watts = 1\n\
    [sites.s]\npue = 1\nnodes = { n = 2 }\n";
const JOBS: &str = "name,tenant,submitted,duration,chips\na,t,2022-01-01T00:00:00Z,1h,1\n";

/// A folder of this process's own.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("offtake-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
        std::fs::write(folder.join("fleet.toml"), FLEET).expect("the folder can be written");
        std::fs::write(folder.join("jobs.csv"), JOBS).expect("the folder can be written");
        folder
    })
}

fuzz_target!(|text: &str| {
    let file = folder().join("scenario.toml");
    std::fs::write(&file, text).expect("the folder can be written");
    let _ = offtake_sim::read(&file, &Overrides::default());
});
