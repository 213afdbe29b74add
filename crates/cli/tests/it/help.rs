//! What `--help` says, checked in as `docs/commands.md`: a change of the command line shows in a diff.

use std::fmt::Write;

use crate::support::{Folder, repository};

const HEAD: &str = "# Commands

What `offtake COMMAND --help` says of every command. This page is written by a test: after a change of the command line,
`OFFTAKE_WRITE_DOCS=1 cargo test -p offtake --test it help` writes it anew.

Commands that speak to a server find it by `--server`, `--context`, the variables `OFFTAKE_SERVER`, `OFFTAKE_TOKEN`,
`OFFTAKE_FINGERPRINT` and `OFFTAKE_CA`, the current context, or on the same machine by its socket, in this order. Every
command ends with status 0 only on success, with 2 on bad input, and with 1 otherwise; `run` ends as its work ends.
";

#[test]
fn the_reference_says_what_help_says() {
    let folder = Folder::new("help");
    let mut text = HEAD.to_owned();
    let mut commands = vec![String::new()];
    while let Some(command) = commands.pop() {
        let help = folder.offtake(&format!("{command} --help")).succeeds().stdout;
        let title = format!("offtake {command}");
        writeln!(text, "\n## {}\n\n```text\n{}\n```", title.trim(), help.trim()).expect("a text takes all");
        let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
        let listed = listed.lines().map_while(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        let mut below: Vec<String> = listed.map(|name| format!("{command} {name}").trim().to_owned()).collect();
        below.reverse();
        commands.extend(below);
    }
    for line in text.lines() {
        assert!(line.chars().count() <= 120, "too wide for a page: {line}");
    }
    let page = repository().join("docs/commands.md");
    if std::env::var_os("OFFTAKE_WRITE_DOCS").is_some() {
        std::fs::write(&page, &text).expect("the page can be written");
    }
    let kept = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(kept == text, "docs/commands.md is not what --help says: OFFTAKE_WRITE_DOCS=1 writes it anew");
}

#[test]
fn what_is_not_known_is_refused_with_help() {
    let folder = Folder::with_scenario("unknown");
    for (arguments, said) in [
        ("", "Usage: offtake <COMMAND>"),
        ("simulat scenario.toml", "a similar subcommand exists: 'simulate'"),
        ("simulate", "<SCENARIO>"),
        ("simulate scenario.toml --polcy fifo", "a similar argument exists: '--policy'"),
        ("simulate scenario.toml --seed seven", "invalid value 'seven' for '--seed <SEED>'"),
        ("simulate scenario.toml --seed -1", "-1"),
        ("simulate scenario.toml --threads 0", "invalid value '0' for '--threads <N>'"),
        ("simulate scenario.toml other.toml", "unexpected argument 'other.toml'"),
        ("fleet show fleet.toml --set", "--set <NAME=NUMBER>"),
        ("trace convert jobs.csv", "<OUTPUT>"),
        ("bench engine --steps many", "invalid value 'many' for '--steps <N>'"),
        ("run", "<PROGRAM>"),
        ("run --workers 0 -- true", "invalid value '0' for '--workers <N>'"),
        ("run --tier best -- true", "allowed is reserved, guaranteed, standard or spot"),
        ("job 17 18", "unexpected argument '18'"),
        ("cancel 17 --signal USR1 --now", "cannot be used with"),
        ("jobs --limit 0", "invalid value '0' for '--limit <N>'"),
        ("journal verify --head abc", "invalid value 'abc' for '--head <HASH>'"),
        ("up --policy best", "allowed is fifo"),
        ("up --tls-cert cert.pem", "--tls-key <PEM>"),
        ("completions tcsh", "possible values"),
    ] {
        let before = folder.contents();
        let refused = folder.offtake(arguments).refused();
        assert!(refused.contains(said), "offtake {arguments}\n{refused}");
        assert_eq!(folder.contents(), before);
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let said = Folder::new("version").offtake("--version").succeeds().stdout;
    assert_eq!(said, format!("offtake {}\n", env!("CARGO_PKG_VERSION")));
}
