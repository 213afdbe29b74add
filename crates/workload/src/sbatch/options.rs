//! Options as words: of a command line, and of the `#SBATCH` lines of a script.

use super::error::{Error, Note, Problem, shown};
use super::table::{Key, Known, Meaning, OPTIONS, Takes};
use crate::input::excerpt;
use crate::suggest::did_you_mean;

/// Options of `sbatch`, each known and with its value where it needs one. What the values mean is read with the job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub(super) given: Vec<Given>,
    pub(super) notes: Vec<Note>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub key: Key,
    pub option: &'static str,
    pub value: Option<String>,
    pub line: Option<u64>,
}

/// Options that say the same in different words: where the command line gives one, it replaces all of the script's.
const GROUPS: [&[Key]; 3] = [
    &[Key::Mem, Key::MemPerCpu, Key::MemPerGpu],
    &[Key::Gpus, Key::GpusPerNode, Key::GpusPerTask, Key::Gres],
    &[Key::Requeue, Key::NoRequeue],
];

impl Options {
    /// The options at the beginning of a command line, and how many words they are: what follows is the script and its
    /// arguments. `--` ends them.
    ///
    /// # Errors
    /// When an option is unknown, refused, or lacks its value.
    pub fn parse(words: &[String]) -> Result<(Self, usize), Error> {
        let mut options = Self::default();
        let used = options.take(words, None)?;
        Ok((options, used))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty() && self.notes.is_empty()
    }

    /// Takes the options at the beginning of some words; how many words they are.
    pub(super) fn take(&mut self, words: &[String], line: Option<u64>) -> Result<usize, Error> {
        let at_line = |problem| Error { line, problem };
        let mut used = 0;
        while let Some(word) = words.get(used) {
            if word == "--" {
                return Ok(used + 1);
            }
            let next = words.get(used + 1);
            let took_next = if let Some(long) = word.strip_prefix("--") {
                self.take_long(long, next, line).map_err(at_line)?
            } else if let Some(short) = word.strip_prefix('-').filter(|short| !short.is_empty()) {
                self.take_short(short, next, line).map_err(at_line)?
            } else {
                return Ok(used);
            };
            used += 1 + usize::from(took_next);
        }
        Ok(used)
    }

    fn take_long(&mut self, word: &str, next: Option<&String>, line: Option<u64>) -> Result<bool, Problem> {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        let known = find(name)?;
        match (known.takes, value, next) {
            (Takes::Nothing, Some(given), _) => {
                return Err(Problem::HasNoValue { option: known.long, given: excerpt(given) });
            }
            (Takes::Value, None, None) => return Err(Problem::NeedsValue { option: known.long }),
            (Takes::Value, None, Some(next)) => {
                self.add(known, Some(next), line)?;
                return Ok(true);
            }
            _ => self.add(known, value, line)?,
        }
        Ok(false)
    }

    /// One word of short options: the first with a value takes what remains of it, or the next word.
    fn take_short(&mut self, word: &str, next: Option<&String>, line: Option<u64>) -> Result<bool, Problem> {
        let mut letters = word.chars();
        while let Some(letter) = letters.next() {
            let known = OPTIONS.iter().find(|known| known.short == Some(letter));
            let known =
                known.ok_or_else(|| Problem::Unknown { given: excerpt(&format!("-{letter}")), hint: String::new() })?;
            if known.takes != Takes::Value {
                self.add(known, None, line)?;
                continue;
            }
            let rest = letters.as_str();
            if !rest.is_empty() {
                self.add(known, Some(rest.strip_prefix('=').unwrap_or(rest)), line)?;
                return Ok(false);
            }
            let next = next.ok_or(Problem::NeedsValue { option: known.long })?;
            self.add(known, Some(next), line)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn add(&mut self, known: &'static Known, value: Option<&str>, line: Option<u64>) -> Result<(), Problem> {
        match known.meaning {
            Meaning::Honoured(key) => {
                self.given.push(Given { key, option: known.long, value: value.map(str::to_owned), line });
            }
            Meaning::Ignored(reason) => {
                let text = format!("`{}` is ignored: {reason}", shown(known.long, value));
                self.notes.push(Note { line, text });
            }
            Meaning::Refused(way_out) => {
                return Err(Problem::Refused { option: known.long, way_out: way_out.to_owned() });
            }
        }
        Ok(())
    }

    /// These and those of the script, of which these replace what says the same.
    pub(super) fn over(&self, mut script: Self) -> Self {
        script.given.retain(|theirs| {
            let group = GROUPS.iter().find(|group| group.contains(&theirs.key));
            !self.given.iter().any(|ours| group.is_some_and(|group| group.contains(&ours.key)))
        });
        script.given.extend(self.given.iter().cloned());
        script.notes.extend(self.notes.iter().cloned());
        script
    }

    /// The last one given, which counts.
    pub(super) fn last(&self, key: Key) -> Option<&Given> {
        self.given.iter().rev().find(|given| given.key == key)
    }
}

/// An option by its name or an unmistakable beginning of it.
fn find(name: &str) -> Result<&'static Known, Problem> {
    if let Some(known) = OPTIONS.iter().find(|known| known.long == name) {
        return Ok(known);
    }
    let near: Vec<&Known> = OPTIONS.iter().filter(|known| !name.is_empty() && known.long.starts_with(name)).collect();
    match near.as_slice() {
        [] => {
            let hint = did_you_mean(name, OPTIONS.iter().map(|known| known.long)).replacen('`', "`--", 1);
            Err(Problem::Unknown { given: excerpt(&format!("--{name}")), hint })
        }
        [only] => Ok(only),
        several if several.iter().all(|known| known.meaning == several[0].meaning) => Ok(several[0]),
        several => {
            let names: Vec<String> = several.iter().map(|known| format!("`--{}`", known.long)).collect();
            Err(Problem::Ambiguous { given: excerpt(&format!("--{name}")), candidates: names.join(" or ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn parsed(line: &str) -> (Vec<(&'static str, Option<String>)>, usize) {
        let (options, used) = Options::parse(&words(line)).expect(line);
        (options.given.into_iter().map(|given| (given.option, given.value)).collect(), used)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn all_forms_of_an_option() {
        for line in ["--nodes=4", "--nodes 4", "-N4", "-N 4", "-N=4", "--node=4 --nodes=4"] {
            let parse = Options::parse(&words(line));
            if line.starts_with("--node=") {
                assert!(parse.is_err(), "nodes, nodefile and nodelist begin alike");
                continue;
            }
            assert_eq!(parsed(line).0, [("nodes", some("4"))], "{line}");
        }
        assert_eq!(parsed("--depend=afterok:1").0, [("dependency", some("afterok:1"))]);
        assert_eq!(parsed("-HJ name").0, [("hold", None), ("job-name", some("name"))]);
        assert_eq!(parsed("--exclusive script"), (vec![("exclusive", None)], 1));
        assert_eq!(parsed("--exclusive=user -n1 a -N2"), (vec![("exclusive", some("user")), ("ntasks", some("1"))], 2));
        assert_eq!(parsed("--hold -- -N2"), (vec![("hold", None)], 2));
        assert_eq!(parsed("--wrap=a=b").0, [("wrap", some("a=b"))]);
        assert_eq!(parsed("-"), (vec![], 0), "standard input is no option");
        assert_eq!(parsed("").1, 0);
    }

    #[test]
    fn wrong_words_are_told() {
        for (line, part) in [
            ("--nodess=4", "did you mean `--nodes`"),
            ("--walltime=4", "`--walltime` is no option of sbatch"),
            ("--ntasks-per=1", "may be `--ntasks-per-core` or"),
            ("--nodes", "`--nodes` needs a value"),
            ("-N", "`--nodes` needs a value"),
            ("--hold=yes", "`--hold` has no value"),
            ("-Z1", "`-Z` is no option"),
            ("--=3", "`--` is no option"),
            ("-é", "`-é` is no option"),
            ("--nodelist=n1", "use --constraint"),
            ("--container=x", "start it in the script"),
        ] {
            let message = Options::parse(&words(line)).expect_err(line).to_string();
            assert!(message.contains(part), "{line}\n  gives: {message}\n  and not: {part}");
        }
    }
}
