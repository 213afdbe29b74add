//! History: look-ups, lists, and its end as a disposable file.

use std::fs;
use std::thread;

use offtake_journal::{Filter, History, Row};
use proptest::prelude::*;

use crate::support::folder;

fn row(id: u64) -> Row {
    let pick = |of: &[&str], by: u64| of[(id / by) as usize % of.len()].to_owned();
    Row {
        id,
        tenant: pick(&["physics", "physics/atoms", "ml"], 1),
        name: pick(&["train", "it's", "eval", ""], 3),
        user: pick(&["ada", "bob"], 2),
        state: pick(&["finished", "failed", "cancelled"], 5),
        array: (id % 4 == 1).then_some(id / 20 * 20),
        ended_ms: id as i64 * 1_000 - 5_000,
        document: format!("{{\"id\":{id}}}").into_bytes(),
    }
}

fn lets_through(filter: &Filter, row: &Row) -> bool {
    let is = |wanted: &Option<String>, found: &String| wanted.as_ref().is_none_or(|wanted| wanted == found);
    is(&filter.tenant, &row.tenant)
        && is(&filter.name, &row.name)
        && is(&filter.user, &row.user)
        && (filter.states.is_empty() || filter.states.contains(&row.state))
        && filter.array.is_none_or(|array| row.array == Some(array))
        && filter.before.is_none_or(|before| row.id < before)
}

proptest! {
    #[test]
    fn a_list_is_what_the_filter_lets_through(
        tenant in prop::option::of("physics|physics/atoms|ml|nobody"),
        name in prop::option::of("train|it's|eval||other"),
        user in prop::option::of("ada|bob"),
        states in prop::collection::vec("finished|failed|cancelled|odd", 0..3),
        array in prop::option::of((0..10u64).prop_map(|tens| tens * 20)),
        before in prop::option::of(prop_oneof![0..220u64, Just(u64::MAX)]),
        limit in 0..50u32,
    ) {
        thread_local! {
            static HISTORY: (tempfile::TempDir, History) = {
                let folder = folder();
                let history = History::open(folder.path()).expect("opens");
                history.upsert(&(1..=200).map(row).collect::<Vec<_>>(), 1).expect("writes");
                (folder, history)
            };
        }
        let filter = Filter { tenant, name, user, states, array, before, limit };
        let expected: Vec<Row> =
            (1..=200).rev().map(row).filter(|row| lets_through(&filter, row)).take(limit as usize).collect();
        HISTORY.with(|(_, history)| {
            prop_assert_eq!(history.list(&filter).expect("reads"), expected);
            Ok(())
        })?;
    }
}

#[test]
fn rows_are_replaced_and_the_sequence_kept() {
    let folder = folder();
    let history = History::open(folder.path()).expect("opens");
    assert_eq!(history.applied_sequence().expect("reads"), 0);
    history.upsert(&[row(1), row(2)], 10).expect("writes");
    let newer = Row { state: "failed again".to_owned(), ..row(2) };
    history.upsert(std::slice::from_ref(&newer), 20).expect("writes");
    drop(history);
    let history = History::open(folder.path()).expect("opens");
    assert_eq!(history.applied_sequence().expect("reads"), 20);
    assert_eq!(history.get(1).expect("reads"), Some(row(1)));
    assert_eq!(history.get(2).expect("reads"), Some(newer));
    assert_eq!((history.get(3).expect("reads"), history.get(u64::MAX).expect("reads")), (None, None));
    // All or nothing: what cannot be stored takes the others with it.
    assert!(history.upsert(&[row(4), Row { id: u64::MAX, ..row(5) }], 30).is_err());
    assert_eq!((history.get(4).expect("reads"), history.applied_sequence().expect("reads")), (None, 20));
    history.clear().expect("cleared");
    assert_eq!((history.get(1).expect("reads"), history.applied_sequence().expect("reads")), (None, 0));
    history.upsert(&[row(1)], 5).expect("writes");
    drop(history);
    assert_eq!(History::open(folder.path()).expect("opens").applied_sequence().expect("reads"), 5);
}

#[test]
fn a_damaged_history_begins_anew() {
    let folder = folder();
    let path = folder.path().join("history.sqlite");
    for damage in ["no database at all, but text that is longer than the header of one would be, by some way", "", "?"]
    {
        History::open(folder.path()).and_then(|history| history.upsert(&[row(1)], 7)).expect("writes");
        let mut bytes = fs::read(&path).expect("read");
        match damage {
            // Its first page is there, what it points to is not.
            "?" => bytes[100..4_096].fill(0xee),
            text => bytes = text.as_bytes().to_vec(),
        }
        fs::write(&path, bytes).expect("written");
        let history = History::open(folder.path()).expect("opens");
        assert_eq!(history.applied_sequence().expect("reads"), 0);
        history.upsert(&[row(2)], 9).expect("writes");
    }
    rusqlite::Connection::open(&path)
        .and_then(|connection| connection.pragma_update(None, "user_version", 99))
        .expect("changed");
    assert_eq!(History::open(folder.path()).expect("opens").applied_sequence().expect("reads"), 0);
}

#[test]
fn damage_found_later_is_mended_by_clearing() {
    let folder = folder();
    let path = folder.path().join("history.sqlite");
    let rows: Vec<Row> = (1..=500).map(|id| Row { document: vec![b' '; 2_000], ..row(id) }).collect();
    History::open(folder.path()).and_then(|history| history.upsert(&rows, 7)).expect("writes");
    let mut bytes = fs::read(&path).expect("read");
    // All pages but those of the schema and of the few that are read first.
    let from = bytes.len() / 4;
    bytes[from..].fill(0xee);
    fs::write(&path, bytes).expect("written");
    let history = History::open(folder.path()).expect("opens");
    let all = Filter { limit: 1_000, ..Filter::default() };
    assert!(history.list(&all).is_err());
    history.clear().expect("cleared");
    assert_eq!(history.list(&all).expect("reads"), []);
    history.upsert(&rows, 7).expect("writes");
    assert_eq!(history.list(&all).expect("reads").len(), 500);
}

#[test]
fn many_read_while_one_writes_and_clears() {
    let folder = folder();
    let history = History::open(folder.path()).expect("opens");
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..60u64 {
                let rows: Vec<Row> = (1..=50).map(|place| row(round % 20 * 50 + place)).collect();
                history.upsert(&rows, round + 1).expect("writes");
                if round % 20 == 19 {
                    history.clear().expect("cleared");
                }
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let listed = history.list(&Filter { limit: 10_000, ..Filter::default() }).expect("reads");
                    // Each write is seen as a whole.
                    assert_eq!(listed.len() % 50, 0);
                    assert!(listed.iter().all(|found| *found == row(found.id)));
                }
            });
        }
    });
}
