//! Domains by path or pattern: `memphis/hall-0`, `memphis/hall-*/rack-3`, `*`.

use toml::Spanned;

use crate::file::fault::{Checked, at};
use crate::file::suggest::did_you_mean;
use crate::{Domain, DomainIx};

/// All domains that a path names; `*` stands for any letters within one name. A domain that only fills a skipped
/// level has the path of its child: the outer of the two is meant.
pub(super) fn resolve(domains: &[Domain], sites: u32, pattern: &Spanned<String>) -> Checked<Vec<DomainIx>> {
    let mut here: Option<Vec<u32>> = None;
    for segment in pattern.get_ref().split('/') {
        let inside: Vec<u32> = match &here {
            None => (0..sites).collect(),
            Some(parents) => parents.iter().flat_map(|parent| named_children(domains, *parent)).collect(),
        };
        let name = |ix: &u32| domains[*ix as usize].name.as_str();
        let found: Vec<u32> = inside.iter().copied().filter(|ix| matches(segment, name(ix))).collect();
        if found.is_empty() {
            let hint = did_you_mean(segment, inside.iter().map(name));
            let mut names: Vec<&str> = inside.iter().take(4).map(name).collect();
            if inside.len() > names.len() {
                names.push("…");
            }
            let there = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            let message =
                format!("`{}` matches no domain: no `{segment}` there{hint}; there is: {there}", pattern.get_ref());
            return Err(at(pattern, message));
        }
        here = Some(found);
    }
    Ok(here.unwrap_or_default().into_iter().map(DomainIx).collect())
}

/// Whether a path is a pattern, so that it may match more than one domain.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains('*')
}

/// The children, from below those that only fill skipped levels.
fn named_children(domains: &[Domain], parent: u32) -> std::ops::Range<u32> {
    let mut at = &domains[parent as usize];
    loop {
        match domains.get(at.children.start as usize) {
            Some(child) if at.children.len() == 1 && child.name == at.name => at = child,
            _ => return at.children.clone(),
        }
    }
}

/// Whether a name matches, `*` standing for any letters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_letters() {
        for (pattern, name) in
            [("*", ""), ("*", "a"), ("hall-*", "hall-12"), ("*a*b", "xaab"), ("a*a", "aa"), ("a", "a")]
        {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a*a", "a"), ("hall-*", "hall"), ("a", "ab"), ("*b*", "a"), ("", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
