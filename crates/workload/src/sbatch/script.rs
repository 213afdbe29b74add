//! The `#SBATCH` lines of a script.

use super::error::{Error, Problem};
use super::options::Options;
use super::table::Key;
use crate::input::excerpt;

const MAGIC: &str = "#SBATCH";

/// The options of all directives before the first command.
pub(super) fn directives(text: &str) -> Result<Options, Error> {
    let mut options = Options::default();
    let mut other_system = None;
    for (number, line) in (1..).zip(text.lines()) {
        if !line.trim_start().is_empty() && !line.trim_start().starts_with('#') {
            break;
        }
        let at = |problem| Error { line: Some(number), problem };
        if other_system.is_none() && ["#PBS ", "#BSUB "].iter().any(|magic| line.starts_with(magic)) {
            other_system = Some((number, line));
        }
        // `#SBATCHES` is a comment, and `#SBATCH--nodes=2` is none.
        let Some(rest) = line.strip_prefix(MAGIC).filter(|rest| !rest.starts_with(char::is_alphanumeric)) else {
            continue;
        };
        let words = split(rest).map_err(at)?;
        if words.iter().any(|word| word == ":" || word == "hetjob" || word == "packjob") {
            return Err(at(Problem::Heterogeneous));
        }
        let used = options.take(&words, Some(number))?;
        if let Some(word) = words.get(used) {
            return Err(at(Problem::Word { given: excerpt(word) }));
        }
    }
    if let Some((number, line)) = other_system
        && options.last(Key::IgnorePbs).is_none()
    {
        return Err(Error { line: Some(number), problem: Problem::OtherSystem(excerpt(line)) });
    }
    Ok(options)
}

/// The words of a directive as Slurm tells them apart: white space separates, quotation marks and backslashes protect,
/// and what follows a bare `#` is a comment.
fn split(line: &str) -> Result<Vec<String>, Problem> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\\', _) => word.get_or_insert_default().extend(letters.next()),
            (_, Some(mark)) if letter == mark => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(letter),
            ('"' | '\'', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            ('#', None) => break,
            (_, None) if letter.is_whitespace() => words.extend(word.take()),
            (_, None) => word.get_or_insert_default().push(letter),
        }
    }
    if let Some(mark) = quote {
        return Err(Problem::Quote(mark));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Vec<String> {
        let options = directives(text).expect(text);
        options
            .given
            .iter()
            .map(|given| {
                format!("{}:{}={}", given.line.unwrap_or(0), given.option, given.value.as_deref().unwrap_or("-"))
            })
            .collect()
    }

    #[test]
    fn words_are_told_apart_as_in_slurm() {
        for (line, words) in [
            (" --nodes=2 -t 10", vec!["--nodes=2", "-t", "10"]),
            ("  --comment=\"a b\"  ", vec!["--comment=a b"]),
            (" --comment='a \"b\" #c'", vec!["--comment=a \"b\" #c"]),
            (" -J a\\ b\\#c", vec!["-J", "a b#c"]),
            (" -n 4 # four of them", vec!["-n", "4"]),
            (" -n 4#four", vec!["-n", "4"]),
            ("\t-J ''", vec!["-J", ""]),
            ("", vec![]),
        ] {
            assert_eq!(split(line).expect(line), words, "{line}");
        }
        assert_eq!(split(" -J 'a"), Err(Problem::Quote('\'')));
    }

    #[test]
    fn directives_stand_before_the_first_command() {
        let text = "#!/bin/bash\n# a comment\n\n#SBATCH -N 2 --hold\n##SBATCH -N 3\n #SBATCH -N 4\n#SBATCHES\n  # more\n\
                    #SBATCH--time=5\nset -e\n#SBATCH -N 9\n";
        assert_eq!(options(text), ["4:nodes=2", "4:hold=-", "9:time=5"]);
        assert!(options("").is_empty());
        assert_eq!(options("#!/bin/sh\n#PBS -l nodes=1\n#SBATCH --ignore-pbs\n"), ["3:ignore-pbs=-"]);
    }

    #[test]
    fn what_is_wrong_names_its_line() {
        for (text, message) in [
            ("#!/bin/sh\n#SBATCH -N 2\n#SBATCH hetjob\n", "line 3: heterogeneous jobs are not supported"),
            ("#!/bin/sh\n#SBATCH -N 2 : -N 1\n", "line 2: heterogeneous"),
            ("#!/bin/sh\n#SBATCH --nodes\n", "line 2: `--nodes` needs a value"),
            ("#!/bin/sh\n#SBATCH -N 2 four\n", "line 2: `four` is no option: allowed are options"),
            ("#!/bin/sh\n#SBATCH -J \"a\n", "line 2: the quotation mark \" is not closed"),
            ("#!/bin/sh\n#PBS -l nodes=1\n", "line 2: `#PBS -l nodes=1` is a directive of another batch system"),
            ("#!/bin/sh\n\n#SBATCH --reboot\n", "line 3: `--reboot` is not supported"),
        ] {
            let given = directives(text).expect_err(text).to_string();
            assert!(given.starts_with(message), "{text}\n  gives: {given}\n  and not: {message}");
        }
    }
}
