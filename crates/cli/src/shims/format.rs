//! The `%` formats of `squeue` and `sinfo`: `%.18i %9P`.

/// A part of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field {
        letter: char,
        /// None for as wide as it is.
        width: Option<usize>,
        right: bool,
    },
}

/// A format that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format(Vec<Part>);

/// No column is wider.
const WIDEST: usize = 10_000;

impl Format {
    /// Reads a format whose letters `known` knows.
    ///
    /// # Errors
    /// When it names a field that nobody knows, or ends in the middle of one.
    pub fn read(text: &str, known: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            if letter != '%' || letters.next_if_eq(&'%').is_some() {
                match parts.last_mut() {
                    Some(Part::Text(text)) => text.push(letter),
                    _ => parts.push(Part::Text(letter.to_string())),
                }
                continue;
            }
            let right = letters.next_if_eq(&'.').is_some();
            let mut digits = String::new();
            while let Some(digit) = letters.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let width = digits.parse::<usize>().ok().filter(|width| *width > 0).map(|width| width.min(WIDEST));
            let letter = letters.next().ok_or_else(|| format!("`{text}` ends in the middle of a field"))?;
            if !known.contains(letter) {
                return Err(format!("`%{letter}` is no field that is known here; allowed are {}", spaced(known)));
            }
            parts.push(Part::Field { letter, width, right });
        }
        Ok(Self(parts))
    }

    /// The letters that it names.
    pub fn letters(&self) -> impl Iterator<Item = char> {
        self.0.iter().filter_map(|part| match part {
            Part::Field { letter, .. } => Some(*letter),
            Part::Text(_) => None,
        })
    }

    /// A line with the value of each field. What is too long is cut, as Slurm does.
    pub fn line(&self, value: impl Fn(char) -> String) -> String {
        let mut line = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Field { letter, width: None, .. } => line.push_str(&value(*letter)),
                Part::Field { letter, width: Some(width), right } => {
                    let cell: String = value(*letter).chars().take(*width).collect();
                    let blank = " ".repeat(width - cell.chars().count());
                    let (before, after) = if *right { (blank.as_str(), "") } else { ("", blank.as_str()) };
                    line.push_str(&format!("{before}{cell}{after}"));
                }
            }
        }
        line.push('\n');
        line
    }
}

fn spaced(letters: &str) -> String {
    letters.chars().map(|letter| format!("%{letter}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_set_left_and_right_and_cut() {
        let format = Format::read("%.5i|%4j %%x%t", "ijt").expect("it is a format");
        let value = |letter| match letter {
            'i' => "17".to_owned(),
            'j' => "pretrain".to_owned(),
            _ => "R".to_owned(),
        };
        assert_eq!(format.line(value), "   17|pret %xR\n");
        assert_eq!(format.letters().collect::<String>(), "ijt");
    }

    #[test]
    fn what_is_no_format_is_refused_by_name() {
        assert!(Format::read("%q", "ij").expect_err("unknown").contains("`%q`"));
        for wrong in ["%", "%.", "%10", "%.9"] {
            assert!(Format::read(wrong, "i").is_err(), "{wrong}");
        }
        let wide = Format::read("%99999999i", "i").expect("it is a format");
        assert_eq!(wide.line(|_| "x".to_owned()).len(), WIDEST + 1);
    }
}
