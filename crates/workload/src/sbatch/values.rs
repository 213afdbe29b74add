//! Sizes, chips and lists as Slurm writes them.

use std::collections::BTreeMap;

pub(super) const MEMORY_ALLOWED: &str =
    "a size such as `4000`, `64G` or `1T`: a number with K, M, G or T, in megabytes without";
pub(super) const GPUS_ALLOWED: &str =
    "a number of chips up to 65535, with their kind before it if need be: `8`, `h100:8`; one kind for a job";

/// Reads a size in MiB, rounded up.
pub(super) fn mebibytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].to_ascii_lowercase();
    let letter = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    match letter {
        "k" => Some(number.div_ceil(1024)),
        "" if unit.is_empty() => Some(number),
        "m" => Some(number),
        "g" => number.checked_mul(1 << 10),
        "t" => number.checked_mul(1 << 20),
        _ => None,
    }
}

/// Chips of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gpus {
    pub kind: Option<String>,
    pub count: u16,
}

/// Reads `8`, `h100:8` or `h100`.
pub(super) fn gpus(text: &str) -> Option<Gpus> {
    let (kind, count) = match text.split_once(':') {
        Some((kind, count)) => (Some(kind), count.parse().ok()?),
        None if text.starts_with(|letter: char| letter.is_ascii_digit()) => (None, text.parse().ok()?),
        None => (Some(text), 1),
    };
    let is_word = |kind: &str| {
        !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    kind.is_none_or(is_word).then(|| Gpus { kind: kind.map(kind_name), count })
}

/// Reads `gpu:8` or `gpu:h100:8` in a list of generic resources. Nothing inside where the list asks for no chips.
///
/// # Errors
/// What else it asks for.
pub(super) fn gres(text: &str) -> Result<Option<Gpus>, &str> {
    let mut found = None;
    for item in text.split(',').map(str::trim) {
        let bare = item.strip_prefix("gres:").or_else(|| item.strip_prefix("gres/")).unwrap_or(item);
        let (name, rest) = bare.split_once(':').map_or((bare, None), |(name, rest)| (name, Some(rest)));
        if name.eq_ignore_ascii_case("none") || rest.is_some_and(|rest| rest == "0" || rest.ends_with(":0")) {
            continue;
        }
        let read = if name == "gpu" { rest.map_or(Some(Gpus { kind: None, count: 1 }), gpus) } else { None };
        let Some(read) = read else { return Err(item) };
        if found.replace(read).is_some() {
            return Err(item);
        }
    }
    Ok(found)
}

/// Kinds of accelerator as fleet files name them, which is how sites name them in Slurm too, with more around it.
const KINDS: [&str; 36] = [
    "a10", "a100", "a16", "a2", "a30", "a40", "a800", "b100", "b200", "b300", "gb200", "gb300", "gh200", "h100",
    "h200", "h20", "h800", "l4", "l40", "l40s", "mi100", "mi210", "mi250", "mi250x", "mi300a", "mi300x", "mi325x",
    "mi350x", "mi355x", "p100", "t4", "trn1", "trn2", "trn3", "v100", "v100s",
];

/// The kind that a site's name for it means: `nvidia_h100_80gb_hbm3` is `h100`. A name that holds none is kept.
pub(super) fn kind_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let known = lower.split(['_', '-', '.']).find(|part| KINDS.contains(part)).map(str::to_owned);
    known.unwrap_or(lower)
}

/// Whether this is the name of a kind of accelerator.
pub(super) fn is_kind(name: &str) -> bool {
    KINDS.contains(&kind_name(name).as_str())
}

/// Variables of this beginning stay behind: they are our own, and speak for the submitter or the job around.
const OUR_OWN: &str = "OFFTAKE_";

/// What `--export` takes of the submitter's variables. Nothing where it is no list of names and `NAME=value`.
pub(super) fn exported(text: &str, environment: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    let those = |wanted: &dyn Fn(&str) -> bool| -> BTreeMap<String, String> {
        let taken = environment.iter().filter(|(key, _)| wanted(key) && !key.starts_with(OUR_OWN));
        taken.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let slurms = || those(&|key| key.starts_with("SLURM_"));
    match text.to_ascii_uppercase().as_str() {
        "ALL" => return Some(those(&|_| true)),
        "NONE" | "NIL" => return Some(slurms()),
        _ => {}
    }
    let (mut taken, mut named) = (slurms(), BTreeMap::new());
    for item in list(text)? {
        match item.split_once('=') {
            None if item.eq_ignore_ascii_case("ALL") => taken = those(&|_| true),
            None if item.is_empty() || item.eq_ignore_ascii_case("NONE") => return None,
            None => named.extend(those(&|key| key == item)),
            Some(("", _)) => return None,
            Some((key, value)) => {
                named.insert(key.to_owned(), value.to_owned());
            }
        }
    }
    taken.extend(named);
    Some(taken)
}

/// Items between commas; a quotation mark keeps commas, and is left out.
fn list(text: &str) -> Option<Vec<String>> {
    let mut items = vec![String::new()];
    let mut quote = None;
    for letter in text.chars() {
        let last = items.last_mut()?;
        match (letter, quote) {
            (_, Some(mark)) if letter == mark => quote = None,
            ('"' | '\'', None) => quote = Some(letter),
            (',', None) => items.push(String::new()),
            _ => last.push(letter),
        }
    }
    quote.is_none().then_some(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory() {
        for (text, size) in [
            ("0", 0),
            ("4000", 4000),
            ("1K", 1),
            ("1025k", 2),
            ("16M", 16),
            ("64G", 65_536),
            ("64GB", 65_536),
            ("64gib", 65_536),
            ("2T", 2 << 20),
        ] {
            assert_eq!(mebibytes(text), Some(size), "{text}");
        }
        for wrong in ["", "G", "1.5G", "-1", "4P", "4b", "4 G", "99999999999999999999", "18446744073709551615T"] {
            assert_eq!(mebibytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn chips() {
        let of = |kind: Option<&str>, count| Gpus { kind: kind.map(str::to_owned), count };
        assert_eq!(gpus("8"), Some(of(None, 8)));
        assert_eq!(gpus("h100:8"), Some(of(Some("h100"), 8)));
        assert_eq!(gpus("NVIDIA_A100-SXM4-80GB:4"), Some(of(Some("a100"), 4)));
        assert_eq!(gpus("tesla_v100"), Some(of(Some("v100"), 1)));
        assert_eq!(gpus("rtx_4090:2"), Some(of(Some("rtx_4090"), 2)));
        for wrong in ["", ":4", "h100:", "h100:x", "65536", "a b:1", "volta:3,kepler:1", "4x"] {
            assert_eq!(gpus(wrong), None, "{wrong}");
        }
        assert_eq!(gres("gpu"), Ok(Some(of(None, 1))));
        assert_eq!(gres("gpu:4"), Ok(Some(of(None, 4))));
        assert_eq!(gres("gres/gpu:a100:2"), Ok(Some(of(Some("a100"), 2))));
        assert_eq!(gres("gpu:8,craynetwork:0"), Ok(Some(of(None, 8))));
        assert_eq!((gres("none"), gres("gpu:0")), (Ok(None), Ok(None)));
        for (text, item) in [
            ("nvme:1", "nvme:1"),
            ("gpu:1,gpu:2", "gpu:2"),
            ("shard:2", "shard:2"),
            ("gpu:a:b:c", "gpu:a:b:c"),
            ("", ""),
        ] {
            assert_eq!(gres(text), Err(item), "{text}");
        }
    }

    #[test]
    fn exports() {
        let mine: BTreeMap<String, String> = [("A", "1"), ("B", "2"), ("OFFTAKE_TOKEN", "secret"), ("SLURM_CONF", "x")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        let read = |text| {
            exported(text, &mine).map(|taken| {
                taken.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
            })
        };
        for (text, taken) in [
            ("ALL", "A=1 B=2 SLURM_CONF=x"),
            ("NONE", "SLURM_CONF=x"),
            ("nil", "SLURM_CONF=x"),
            ("A", "A=1 SLURM_CONF=x"),
            ("A,C=3,D", "A=1 C=3 SLURM_CONF=x"),
            ("ALL,A=5", "A=5 B=2 SLURM_CONF=x"),
            ("A=5,ALL", "A=5 B=2 SLURM_CONF=x"),
            ("OFFTAKE_TOKEN", "SLURM_CONF=x"),
            ("C='x,y',A=", "A= C=x,y SLURM_CONF=x"),
        ] {
            assert_eq!(read(text).as_deref(), Some(taken), "{text}");
        }
        for wrong in ["", "A,", "=1", "A='x", "A,NONE"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
