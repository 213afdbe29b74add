//! The commands in README.md and docs/*.md do what they say.
//!
//! In fenced blocks of `sh` and `console`, each line that begins with `offtake` or `cargo run --release --`, after a
//! prompt or not, is run in a folder that has the repository's examples. Long simulations are cut to their first hours.
//! A line that ends in the comment `# not run` is left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{BINARY, Folder, repository};

#[test]
fn commands_in_the_documents_run() {
    let folder = Folder::new("documents");
    for name in ["data", "docs", "examples", "fleets"] {
        std::os::unix::fs::symlink(repository().join(name), folder.path(name)).expect("a link can be made");
    }
    std::fs::create_dir(folder.path("bin")).expect("a folder can be made");
    std::os::unix::fs::symlink(BINARY, folder.path("bin/offtake")).expect("a link can be made");
    let path = format!("{}:{}", folder.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut done = BTreeSet::new();
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("a document is text");
        for (line, command) in commands(&text) {
            let command = cut(&command);
            if !done.insert(command.clone()) {
                continue;
            }
            let ran = folder.run(Command::new("sh").arg("-c").arg(&command).env("PATH", &path));
            assert_eq!(ran.code, Some(0), "{}:{line}: {command}\n{}", document.display(), ran.stderr);
        }
    }
}

#[test]
fn commands_are_found_in_blocks_of_shell() {
    let text = "offtake prose\n```sh\nofftake a  # as it is\ncurl x\n```\n\n  ```console\n  $ cargo run --release -- b \\\n      --c\n  said\n  ```\n\
                ```sh\nofftake d # not run\n```\n```toml\nofftake = 1\n```\n";
    let expected = [(3, "offtake a  # as it is".to_owned()), (8, "offtake b --c".to_owned())];
    assert_eq!(commands(text), expected);
    assert_eq!(cut("offtake simulate x.toml"), "offtake simulate x.toml --set horizon=6h");
    assert_eq!(
        cut("offtake bench engine --steps 9000 --json"),
        "offtake bench engine --steps 2000 --json --accelerators 65536 --pending 1000"
    );
}

fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(repository().join("docs")).expect("the documents are there").flatten();
    let mut documents: Vec<PathBuf> = docs.map(|entry| entry.path()).collect();
    documents.push(repository().join("README.md"));
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "md") && Path::exists(path));
    documents.sort();
    documents
}

/// The commands of a document with the line of each.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_shell = false;
    let mut in_block = false;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            in_block = !in_block;
            in_shell = in_block && ["sh", "console"].contains(&language.trim());
            continue;
        }
        let mut command = line.trim().trim_start_matches("$ ").to_owned();
        while command.ends_with('\\') {
            let next = lines.next().map_or("", |(_, line)| line.trim());
            command = format!("{} {next}", command.trim_end_matches('\\').trim_end());
        }
        if let Some(rest) = command.strip_prefix("cargo run --release -- ") {
            command = format!("offtake {rest}");
        }
        if in_shell && command.starts_with("offtake ") && !command.ends_with("# not run") {
            found.push((index + 1, command));
        }
    }
    found
}

/// The same command over a shorter time and at a smaller size.
fn cut(command: &str) -> String {
    if command.contains(['|', '>', '&', ';', '#']) {
        return command.to_owned();
    }
    let options: &[(&str, &str)] = match command.split_whitespace().collect::<Vec<_>>().as_slice() {
        [_, "simulate", ..] if command.contains("neocloud") => {
            &[("--set horizon", "=6h"), ("--set workload.jobs", "=2000")]
        }
        // Its events take so long, one after the other.
        [_, "simulate", ..] if command.contains("grid-events") => {
            &[("--set horizon", "=20d"), ("--set workload.jobs", "=2000")]
        }
        [_, "simulate", ..] => &[("--set horizon", "=6h")],
        [_, "bench", "engine", ..] => &[("--accelerators", " 65536"), ("--steps", " 2000"), ("--pending", " 1000")],
        [_, "bench", "packing", ..] => &[("--seeds", " 42..42")],
        [_, "bench", "obey", ..] => &[("--count", " 200"), ("--rounds", " 2")],
        _ => &[],
    };
    options.iter().fold(command.to_owned(), |command, (option, value)| match command.split_once(option) {
        None => format!("{command} {option}{value}"),
        Some((before, after)) => {
            let rest = after.trim_start_matches([' ', '=']).split_once(' ').map_or("", |(_, rest)| rest);
            format!("{before}{option}{value} {rest}").trim_end().to_owned()
        }
    })
}
