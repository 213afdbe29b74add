//! Lists of node names as Slurm writes them: `node[1-4,7]`, `rack[1-2]n[01-08]`.

/// Names that a list may stand for.
pub const MOST_NAMES: usize = 1_000_000;
/// Bytes that all names of a list may have together.
const MOST_BYTES: usize = 64 << 20;
/// Bytes of a written list.
const LONGEST_LIST: usize = 16 << 20;
/// Digits of a number in a name: what fits into 64 bits whatever they are.
const MOST_DIGITS: usize = 18;

/// What is wrong with a list of names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostlistError {
    /// A bracket without its other half, or one inside another.
    #[error("`{0}` has a bracket without its other half; allowed is `node[1-4,7]`")]
    Bracket(String),
    /// Something in brackets that is no number and no range.
    #[error("`{0}` is no number and no range of numbers; allowed is `1-4` or `01-08`, the lower first")]
    Range(String),
    /// A name without any letter.
    #[error("the list has an empty name; allowed are names separated by single commas")]
    EmptyName,
    /// More than anybody has.
    #[error("the list stands for more than {MOST_NAMES} names, or is longer than 16 MiB")]
    TooMany,
}

/// Writes names as one list, in their order: neighbours that differ only in the number at their end share brackets.
pub fn compress<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut list = String::new();
    let mut group: Option<Group<'a>> = None;
    for name in names {
        let Some((prefix, digits)) = numbered(name) else {
            close(&mut list, group.take());
            separate(&mut list);
            list.push_str(name);
            continue;
        };
        if let Some(open) = group.as_mut().filter(|open| open.prefix == prefix) {
            open.add(digits);
            continue;
        }
        close(&mut list, group.take());
        group = Some(Group { prefix, runs: vec![Run { first: digits, last: digits }] });
    }
    close(&mut list, group);
    list
}

struct Group<'a> {
    prefix: &'a str,
    runs: Vec<Run<'a>>,
}

/// Numbers that follow each other, each as it is written.
struct Run<'a> {
    first: &'a str,
    last: &'a str,
}

impl<'a> Group<'a> {
    fn add(&mut self, digits: &'a str) {
        match self.runs.last_mut() {
            Some(run) if follows(run.last, digits) => run.last = digits,
            _ => self.runs.push(Run { first: digits, last: digits }),
        }
    }
}

fn close(list: &mut String, group: Option<Group<'_>>) {
    let Some(group) = group else { return };
    separate(list);
    list.push_str(group.prefix);
    let single = group.runs.len() == 1 && group.runs[0].first == group.runs[0].last;
    if !single {
        list.push('[');
    }
    for (index, run) in group.runs.iter().enumerate() {
        if index > 0 {
            list.push(',');
        }
        list.push_str(run.first);
        if run.first != run.last {
            list.push('-');
            list.push_str(run.last);
        }
    }
    if !single {
        list.push(']');
    }
}

fn separate(list: &mut String) {
    if !list.is_empty() {
        list.push(',');
    }
}

/// A name's digits at its end, and what stands before them.
fn numbered(name: &str) -> Option<(&str, &str)> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count().min(MOST_DIGITS);
    (digits > 0).then(|| name.split_at(name.len() - digits))
}

/// The length to which a number is filled up with zeros; 0 when it is not.
fn padding(digits: &str) -> usize {
    if digits.len() > 1 && digits.starts_with('0') { digits.len() } else { 0 }
}

/// Whether the second number is written as the one after the first in one range.
fn follows(last: &str, next: &str) -> bool {
    let (Ok(number), Ok(after)) = (last.parse::<u64>(), next.parse::<u64>()) else { return false };
    // `n[08-10]` keeps its width; `n[9-10]` grows.
    let alike = if padding(last) > 0 { next.len() == last.len() } else { padding(next) == 0 };
    number + 1 == after && alike
}

/// The names that a list stands for, in its order.
///
/// # Errors
/// When it is no list, or stands for too many names.
pub fn expand(list: &str) -> Result<Vec<String>, HostlistError> {
    if list.len() > LONGEST_LIST {
        return Err(HostlistError::TooMany);
    }
    let mut names = Vec::new();
    let mut bytes = 0;
    if list.trim().is_empty() {
        return Ok(names);
    }
    for word in words(list)? {
        if word.is_empty() {
            return Err(HostlistError::EmptyName);
        }
        let mut partial = vec![String::new()];
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('[') {
            let (inside, behind) =
                after.split_once(']').ok_or_else(|| HostlistError::Bracket(crate::input::excerpt(word)))?;
            let numbers = numbers(inside, MOST_NAMES / partial.len())?;
            partial = product(&partial, before, &numbers, MOST_BYTES - bytes)?;
            rest = behind;
        }
        for name in &mut partial {
            name.push_str(rest);
            bytes += name.len();
        }
        if names.len() + partial.len() > MOST_NAMES || bytes > MOST_BYTES {
            return Err(HostlistError::TooMany);
        }
        names.append(&mut partial);
    }
    Ok(names)
}

/// The parts between commas that stand in no brackets.
fn words(list: &str) -> Result<Vec<&str>, HostlistError> {
    let mut words = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'[' | b']' if inside == (byte == b'[') => {
                return Err(HostlistError::Bracket(crate::input::excerpt(&list[start..])));
            }
            b'[' | b']' => inside = !inside,
            b',' if !inside => {
                words.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(HostlistError::Bracket(crate::input::excerpt(&list[start..])));
    }
    words.push(list[start..].trim());
    Ok(words)
}

fn numbers(inside: &str, most: usize) -> Result<Vec<String>, HostlistError> {
    let mut numbers = Vec::new();
    for part in inside.split(',').map(str::trim) {
        let range = || HostlistError::Range(crate::input::excerpt(part));
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let is_number =
            |text: &str| (1..=MOST_DIGITS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(first) || !is_number(last) {
            return Err(range());
        }
        let (low, high): (u64, u64) = (first.parse().map_err(|_| range())?, last.parse().map_err(|_| range())?);
        if low > high {
            return Err(range());
        }
        if high - low >= (most - numbers.len()) as u64 {
            return Err(HostlistError::TooMany);
        }
        numbers.extend((low..=high).map(|number| format!("{number:0width$}", width = first.len())));
    }
    Ok(numbers)
}

/// Every beginning with every number behind it.
fn product(
    beginnings: &[String],
    between: &str,
    numbers: &[String],
    most_bytes: usize,
) -> Result<Vec<String>, HostlistError> {
    let longest = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0);
    let each = longest(beginnings) + between.len() + longest(numbers);
    if beginnings.len() * numbers.len() * each > most_bytes {
        return Err(HostlistError::TooMany);
    }
    Ok(beginnings
        .iter()
        .flat_map(|beginning| numbers.iter().map(move |number| format!("{beginning}{between}{number}")))
        .collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(names: &[&str]) -> String {
        compress(names.iter().copied())
    }

    #[test]
    fn neighbours_share_brackets() {
        assert_eq!(list(&[]), "");
        assert_eq!(list(&["node1"]), "node1");
        assert_eq!(list(&["node1", "node2", "node3", "node4", "node7"]), "node[1-4,7]");
        assert_eq!(list(&["n9", "n10", "n11"]), "n[9-11]");
        assert_eq!(list(&["n08", "n09", "n10"]), "n[08-10]");
        assert_eq!(list(&["n098", "n099", "n100"]), "n[098-100]");
        assert_eq!(list(&["n099", "n100", "n101"]), "n[099-101]");
        assert_eq!(list(&["n1", "login", "n2"]), "n1,login,n2");
        assert_eq!(list(&["r1n01", "r1n02", "r2n01"]), "r1n[01-02],r2n01");
        assert_eq!(list(&["10", "11"]), "[10-11]");
        assert_eq!(list(&["n3", "n1"]), "n[3,1]");
    }

    #[test]
    fn brackets_are_written_out() {
        let expanded = |text| expand(text).map(|names| names.join(" "));
        assert_eq!(expanded("node[1-4,7]").as_deref(), Ok("node1 node2 node3 node4 node7"));
        assert_eq!(expanded("r[1-2]n[09-10]").as_deref(), Ok("r1n09 r1n10 r2n09 r2n10"));
        assert_eq!(expanded("a,b[1-2]-ib, c").as_deref(), Ok("a b1-ib b2-ib c"));
        assert_eq!(expanded("n[099-101]").as_deref(), Ok("n099 n100 n101"));
        assert_eq!(expanded("").as_deref(), Ok(""));
        for (text, error) in [
            ("n[1", HostlistError::Bracket("n[1".to_owned())),
            ("n1]", HostlistError::Bracket("n1]".to_owned())),
            ("n[[1]]", HostlistError::Bracket("n[[1]]".to_owned())),
            ("n[]", HostlistError::Range(String::new())),
            ("n[2-1]", HostlistError::Range("2-1".to_owned())),
            ("n[1-x]", HostlistError::Range("1-x".to_owned())),
            ("n[1234567890123456789]", HostlistError::Range("1234567890123456789".to_owned())),
            ("a,,b", HostlistError::EmptyName),
            ("n[0-1000000]", HostlistError::TooMany),
            ("a[1-9999]b[1-9999]c[1-9999]", HostlistError::TooMany),
        ] {
            assert_eq!(expand(text), Err(error), "{text}");
        }
        let wide = format!("{}[1-1000000]", "x".repeat(1000));
        assert_eq!(expand(&wide), Err(HostlistError::TooMany), "bytes are bounded too");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(names in prop::collection::vec("[a-c]{0,2}[-.]?[089]{0,3}[x]?[0-9]{1,21}|[a-z]{1,4}", 0..30)) {
            let written = list(&names.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(expand(&written).expect("our own list"), names);
        }

        #[test]
        fn neighbours_in_number_take_one_range(first in 0_u64..100_000, count in 2_u64..500) {
            let names: Vec<String> = (first..first + count).map(|n| format!("n{n}")).collect();
            let written = list(&names.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(written, format!("n[{first}-{}]", first + count - 1));
        }

        #[test]
        fn no_text_breaks_it(text in "[a-b\\[\\],0-9é -]{0,30}") {
            let _ = expand(&text);
        }
    }
}
