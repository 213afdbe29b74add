//! What `--help` says, checked in: a change of the command line shows in a diff.

use std::fmt::Write;

use crate::support::Folder;

#[test]
fn help_of_every_command() {
    let folder = Folder::new("help");
    let mut text = String::new();
    let mut commands = vec![String::new()];
    while let Some(command) = commands.pop() {
        let help = folder.offtake(&format!("{command} --help")).succeeds().stdout;
        writeln!(text, "$ offtake {command} --help\n{help}").expect("a text takes all");
        let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
        let listed = listed.lines().map_while(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        let mut below: Vec<String> = listed.map(|name| format!("{command} {name}").trim().to_owned()).collect();
        below.reverse();
        commands.extend(below);
    }
    insta::assert_snapshot!(text.replace("offtake  --help", "offtake --help"));
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
