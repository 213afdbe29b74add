//! The nearest known name to one that is not known.

/// ` (did you mean …?)` where a name is near enough, and nothing otherwise.
pub(crate) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, known).map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

const LONGEST: usize = 64;

fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > LONGEST {
        return None;
    }
    let given = given.to_lowercase();
    // A third of the letters may differ: more is another word.
    let most = (given.chars().count() / 3).max(1);
    known.into_iter().map(|name| (distance(&given, name), name)).filter(|(far, _)| *far <= most).min().map(|(_, n)| n)
}

/// Letters to insert, drop or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            row.push((last[j] + usize::from(letter != *other)).min(last[j + 1] + 1).min(row[j] + 1));
        }
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["ntasks", "nodes", "ntasks-per-node"];
        assert_eq!(nearest("ntask", known), Some("ntasks"));
        assert_eq!(nearest("ntasks_per_node", known), Some("ntasks-per-node"));
        assert_eq!(nearest("walltime", known), None);
    }
}
