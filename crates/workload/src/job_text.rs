//! What `submit` is given: a job file or a batch script, told apart by its first line.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::input::excerpt;
use crate::sbatch::{self, Options, Reading, Script, Surroundings};
use crate::suggest::did_you_mean;
use crate::{JobFile, MOST_SCRIPT_BYTES};

/// Bytes of a job file: a script of the largest size, with what stands around it and its line breaks escaped.
const MOST_BYTES: u64 = 4 * MOST_SCRIPT_BYTES as u64;

/// The text of a job file or a batch script, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobText {
    /// The file; none for standard input.
    pub file: Option<PathBuf>,
    /// What it says.
    pub text: String,
}

/// Why a job file or a batch script cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JobTextError {
    /// The file is missing, or may not be read.
    #[error("{name}: it cannot be read: {source}")]
    Read {
        /// The file.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// Larger than any job.
    #[error("{name}: it is longer than {MOST_BYTES} bytes: is this a job file or a script?")]
    TooLong {
        /// The file.
        name: String,
    },
    /// No text.
    #[error("{name}: byte {byte} is not UTF-8: allowed are TOML job files and shell scripts")]
    NotText {
        /// The file.
        name: String,
        /// The first byte that is none of a text, from 1.
        byte: usize,
    },
    /// A job file that is not TOML, or says what no job file says.
    #[error("{name}:{line}:{column}: {field}{what}")]
    Toml {
        /// The file.
        name: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// Where in the file, such as `gangs[0].chips`, with a colon; or nothing.
        field: String,
        /// What is wrong.
        what: String,
    },
    /// Options of `sbatch` beside a job file.
    #[error(
        "{name}: options of sbatch and arguments go with a script; say it in the job file, whose keys are in docs/job-file.md"
    )]
    OptionsBesideFile {
        /// The file.
        name: String,
    },
    /// Directives, and no interpreter.
    #[error(
        "{name}: it has `#SBATCH` lines, and is no script: the first line must be `#!` and an interpreter, such as `#!/bin/bash`"
    )]
    NoInterpreter {
        /// The file.
        name: String,
    },
    /// A script that cannot be read.
    #[error("{name}: {error}")]
    Script {
        /// The file.
        name: String,
        /// What is wrong.
        error: sbatch::Error,
    },
}

impl JobText {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is too long or no text.
    pub fn open(path: &Path) -> Result<Self, JobTextError> {
        let read = |source| JobTextError::Read { name: path.display().to_string(), source };
        Self::take(File::open(path).map_err(read)?, Some(path.to_owned()))
    }

    /// Reads standard input, or whatever stands for it.
    ///
    /// # Errors
    /// When it cannot be read, is too long or no text.
    pub fn from_reader(reader: impl Read) -> Result<Self, JobTextError> {
        Self::take(reader, None)
    }

    fn take(reader: impl Read, file: Option<PathBuf>) -> Result<Self, JobTextError> {
        let name = || name_of(file.as_deref());
        let mut bytes = Vec::new();
        let read = reader.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| JobTextError::Read { name: name(), source })?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(JobTextError::TooLong { name: name() });
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| JobTextError::NotText { name: name(), byte: error.utf8_error().valid_up_to() + 1 })?;
        Ok(Self { file, text })
    }

    /// Whether this is a script rather than a job file: its first line begins with `#!`.
    pub fn is_script(&self) -> bool {
        self.text.starts_with("#!")
    }

    /// The job. Options and arguments belong to scripts; a job file says all by itself.
    ///
    /// # Errors
    /// When the text is neither, or says something that is not allowed.
    pub fn read(
        &self,
        options: &Options,
        arguments: &[String],
        surroundings: &Surroundings,
    ) -> Result<Reading, JobTextError> {
        let name = || name_of(self.file.as_deref());
        if self.is_script() {
            let file = self.file.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            let script = Script { name: file, text: &self.text, arguments };
            return options
                .read(Some(script), surroundings)
                .map_err(|error| JobTextError::Script { name: name(), error });
        }
        if self.text.lines().any(|line| line.starts_with("#SBATCH")) {
            return Err(JobTextError::NoInterpreter { name: name() });
        }
        if !options.is_empty() || !arguments.is_empty() {
            return Err(JobTextError::OptionsBesideFile { name: name() });
        }
        Ok(Reading { job: self.parse(name)?, notes: Vec::new(), mode: sbatch::Mode::default() })
    }

    fn parse(&self, name: impl Fn() -> String) -> Result<JobFile, JobTextError> {
        let fault = |error: toml::de::Error, field: String| {
            let (line, column) = position(&self.text, error.span().map_or(0, |span| span.start));
            JobTextError::Toml { name: name(), line, column, field, what: with_suggestion(error.message()) }
        };
        let deserializer = toml::Deserializer::parse(&self.text).map_err(|error| fault(error, String::new()))?;
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { format!("`{path}`: ") };
            fault(error.into_inner(), field)
        })
    }
}

fn name_of(file: Option<&Path>) -> String {
    file.map_or_else(|| "standard input".to_owned(), |file| file.display().to_string())
}

/// Line and column of a byte, both from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The message of the parser; where it lists what is known, with the nearest of it.
fn with_suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let Some(given) = quoted.next().filter(|_| message.starts_with("unknown field")) else {
        return message.replace('\n', "; ");
    };
    let known: Vec<&str> = quoted.collect();
    let hint = did_you_mean(given, known.iter().copied());
    format!("the key `{}` is unknown{hint}; allowed are {}", excerpt(given), known.join(", "))
}

#[cfg(test)]
mod tests {
    use offtake_units::{Duration, Timestamp};

    use super::*;

    fn read(text: &str) -> Result<Reading, JobTextError> {
        let surroundings = Surroundings {
            now: Timestamp::from_secs(1_800_000_000),
            utc_offset: Duration::ZERO,
            directory: "/home/ada".to_owned(),
            environment: [("A".to_owned(), "1".to_owned())].into(),
        };
        JobText::from_reader(text.as_bytes())?.read(&Options::default(), &[], &surroundings)
    }

    #[test]
    fn the_first_line_tells_which_it_is() {
        let script = read("#!/bin/sh\n#SBATCH -N 2\nhostname\n").expect("a script").job;
        assert_eq!((script.name.as_deref(), script.gangs[0].workers), (Some("sbatch"), Some(2)));
        let file = read("# a job\ncommand = [\"true\"]\n").expect("a job file").job;
        assert_eq!((file.command, file.environment.len()), (vec!["true".to_owned()], 0));
    }

    #[test]
    fn what_is_wrong_names_its_place() {
        for (text, message) in [
            ("command = [\"true\"\nname = 1", "standard input:2:"),
            (
                "name = \"a\"\ncomand = [\"true\"]",
                "standard input:2:1: `comand`: the key `comand` is unknown (did you mean `command`?); allowed are name, tenant",
            ),
            (
                "command = [\"a\"]\n[[gangs]]\nchip = 1",
                "standard input:3:1: `gangs[0].chip`: the key `chip` is unknown (did you mean `chips`?)",
            ),
            (
                "[[gangs]]\nworkers = \"4\"",
                "standard input:2:11: `gangs[0].workers`: invalid type: string \"4\", expected u32",
            ),
            ("tier = \"gold\"", "standard input:1:8: `tier`: unknown variant `gold`, expected one of `reserved`"),
            ("#!/bin/sh\n#SBATCH -N x\n", "standard input: line 2: `--nodes` is `x`; allowed is a whole number"),
            ("\n#!/bin/sh\n#SBATCH -N 2\n", "standard input: it has `#SBATCH` lines, and is no script"),
            ("#!\n", "standard input: `script` is `#!`; allowed is a script whose first line"),
        ] {
            let given = read(text).expect_err(text).to_string();
            assert!(given.starts_with(message), "{text}\n  gives: {given}\n  and not: {message}");
        }
        let error = JobText::from_reader(&b"name = \"\xff\""[..]).expect_err("no text");
        assert_eq!(
            error.to_string(),
            "standard input: byte 9 is not UTF-8: allowed are TOML job files and shell scripts"
        );
        assert!(matches!(JobText::from_reader(io::repeat(b'a')), Err(JobTextError::TooLong { .. })));
        let missing = JobText::open(Path::new("no/such.toml")).expect_err("missing").to_string();
        assert!(missing.starts_with("no/such.toml: it cannot be read: No such file"), "{missing}");
    }

    #[test]
    fn options_go_with_a_script() {
        let file = JobText { file: Some("a.toml".into()), text: "command = [\"true\"]".to_owned() };
        let surroundings = Surroundings {
            now: Timestamp::EPOCH,
            utc_offset: Duration::ZERO,
            directory: "/".to_owned(),
            environment: Default::default(),
        };
        let (options, _) = Options::parse(&["--hold".to_owned()]).expect("an option");
        let error = file.read(&options, &[], &surroundings).expect_err("beside a job file");
        assert!(error.to_string().starts_with("a.toml: options of sbatch and arguments go with a script"), "{error}");
    }
}
