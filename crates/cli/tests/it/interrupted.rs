//! A run that is killed leaves an earlier result as it was.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{BINARY, Folder, repository};

#[test]
fn a_killed_run_leaves_the_earlier_result() {
    let folder = Folder::with_scenario("killed");
    folder.offtake("simulate scenario.toml --out result").succeeds();
    let earlier = folder.contents();
    let long = repository().join("examples/openb.toml");
    for after_ms in [0, 100, 700] {
        let mut child = Command::new(BINARY)
            .current_dir(folder.path(""))
            .args(["simulate", "--out", "result", "--policy", "fifo,offtake", "--set", "horizon=60d"])
            .arg(&long)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the command can be started");
        std::thread::sleep(Duration::from_millis(after_ms));
        assert!(child.try_wait().expect("the child can be asked").is_none(), "it ended before it was killed");
        child.kill().expect("the child can be killed");
        child.wait().expect("the child can be waited for");
        let mut now = folder.contents();
        now.retain(|name, _| !name.ends_with(".partial"));
        assert!(now == earlier, "the earlier result changed");
    }
    folder.offtake("simulate scenario.toml --out result").succeeds();
    assert!(folder.names("result").iter().all(|name| !name.ends_with(".partial")));
}
