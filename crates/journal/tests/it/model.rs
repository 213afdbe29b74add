//! Whatever is done to a journal, it has what was appended.

use offtake_journal::{Check, Error, Position, Reader, verify};
use proptest::prelude::*;

use crate::support::{chain_of, folder, open, read_all, read_from};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Vec<u8>>),
    Stale(u64),
    Reopen,
    Compact(u64),
    Read(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let record = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 3_000..9_000),
        2 => "[{]\"[a-z]{1,5}\":[0-9]{1,4}[}]".prop_map(String::into_bytes),
    ];
    prop_oneof![
        6 => prop::collection::vec(record, 0..12).prop_map(Step::Append),
        1 => (1..5u64).prop_map(Step::Stale),
        2 => Just(Step::Reopen),
        1 => (0..60u64).prop_map(Step::Compact),
        2 => (0..60u64).prop_map(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_journal_is_what_was_appended(steps in prop::collection::vec(step(), 1..24)) {
        let folder = folder();
        let mut journal = open(folder.path());
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut epoch = 1;
        for step in steps {
            match step {
                Step::Append(records) => {
                    let head = journal.append(model.len() as u64, epoch, &records).expect("appends");
                    model.extend(records);
                    prop_assert_eq!(head, chain_of(&model));
                }
                Step::Stale(by) => {
                    let stale = journal.append(model.len() as u64 + by, epoch, [b"x"]);
                    prop_assert!(matches!(stale, Err(Error::StaleSequence { .. })), "{:?}", stale);
                    let stale = journal.append(model.len() as u64, epoch - 1, [b"x"]);
                    prop_assert!(matches!(stale, Err(Error::StaleEpoch { .. })), "{:?}", stale);
                }
                Step::Reopen => {
                    drop(journal);
                    journal = open(folder.path());
                    epoch += 1;
                }
                Step::Compact(up_to) => {
                    for segment in journal.compact(up_to).expect("compacts") {
                        prop_assert!(segment.last <= up_to);
                    }
                }
                Step::Read(from) => {
                    let from = from.clamp(1, model.len() as u64 + 1);
                    let reader = Reader::open(folder.path()).expect("opens");
                    for check in [Check::Checksum, Check::Chain] {
                        let read = read_from(&reader, from, check).expect("reads");
                        prop_assert_eq!(&read, &model[from as usize - 1..]);
                    }
                    let chain = reader.chain_at(from - 1).expect("reads");
                    prop_assert_eq!(chain, Some(chain_of(&model[..from as usize - 1]).chain));
                    prop_assert_eq!(reader.chain_at(model.len() as u64 + 1).expect("reads"), None);
                }
            }
            prop_assert_eq!((journal.head(), journal.epoch()), (chain_of(&model), epoch));
        }
        prop_assert_eq!(&read_all(folder.path()).expect("reads"), &model);
        let report = verify(folder.path(), Some(Position::START.chain)).expect("reads");
        prop_assert!(report.is_good(), "{:?}", report);
        prop_assert_eq!(report.sound, chain_of(&model));
    }
}
