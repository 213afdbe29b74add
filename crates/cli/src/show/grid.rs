//! Caps, one a line.

use offtake_protocol::rest::CapView;

use super::figures::power;
use crate::terminal::{Align, listing};

/// What is said where there is none.
pub const NONE: &str = "The fleet has no cap. Its fleet file names them under [caps] and [circuits].\n";

const COLUMNS: [(&str, Align); 5] = [
    ("cap", Align::Left),
    ("allows", Align::Right),
    ("drawn", Align::Right),
    ("left", Align::Right),
    ("remarks", Align::Left),
];

/// A table of caps.
pub fn caps(caps: &[CapView], width: Option<usize>) -> String {
    let rows: Vec<Vec<String>> = caps.iter().map(row).collect();
    listing(&COLUMNS, &rows, width)
}

fn row(cap: &CapView) -> Vec<String> {
    let mut remarks = Vec::new();
    if cap.used_w > cap.watts {
        remarks.push(format!("over by {}", power(cap.used_w - cap.watts)));
    }
    remarks.extend(cap.declared_w.map(|declared| format!("set; {} in the fleet file", power(declared))));
    vec![
        cap.name.clone(),
        power(cap.watts),
        power(cap.used_w),
        power(cap.watts.saturating_sub(cap.used_w)),
        remarks.join("; "),
    ]
}

/// What is said of a cap that was set.
pub fn set(cap: &CapView) -> String {
    let (name, allows) = (&cap.name, power(cap.watts));
    match cap.used_w.checked_sub(cap.watts).filter(|over| *over > 0) {
        Some(over) => format!("cap {name} allows {allows}; {} too much is drawn, and work gives way\n", power(over)),
        None => format!("cap {name} allows {allows}; {} are drawn\n", power(cap.used_w)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cap(name: &str, watts: u64, declared_w: Option<u64>, used_w: u64) -> CapView {
        CapView { name: name.to_owned(), watts, declared_w, used_w }
    }

    #[test]
    fn caps_tell_what_is_left_and_what_was_set() {
        let all =
            [cap("grid", 1_000_000, Some(1_500_000), 1_250_000), cap("feeder-a for feeder-b", 532_000, None, 301_000)];
        insta::assert_snapshot!(caps(&all, None));
    }

    #[test]
    fn who_sets_a_cap_learns_what_follows() {
        let lowered = cap("grid", 1_000_000, Some(1_500_000), 1_250_000);
        assert_eq!(set(&lowered), "cap grid allows 1.00 MW; 250 kW too much is drawn, and work gives way\n");
        assert_eq!(set(&cap("grid", 1_500_000, None, 1_250_000)), "cap grid allows 1.50 MW; 1.25 MW are drawn\n");
    }
}
