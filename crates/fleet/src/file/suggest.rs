//! The nearest known name to one that is not known.

/// ` (did you mean …?)` where a name is near enough, and nothing otherwise.
pub(super) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(given, known).map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

/// Names beyond this length, and lists beyond this many names, are not searched: an error costs little.
const MAX_LENGTH: usize = 64;
const MAX_NAMES: usize = 10_000;

fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > MAX_LENGTH {
        return None;
    }
    let given = given.to_lowercase();
    // A third of the letters may differ: more is another word.
    let most = (given.chars().count() / 3).max(1);
    let near = known.into_iter().take(MAX_NAMES).filter(|name| name.len() <= MAX_LENGTH);
    near.map(|name| (distance(&given, &name.to_lowercase()), name)).filter(|(d, _)| *d <= most).min().map(|(_, n)| n)
}

/// Letters to insert, drop, replace or swap with their neighbour (restricted Damerau-Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let known = ["idle_watts", "operating_watts", "peak_watts"];
        assert_eq!(nearest("idel_watts", known), Some("idle_watts"));
        assert_eq!(nearest("Peak_Watts", known), Some("peak_watts"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(distance("abc", "acb"), 1);
    }
}
