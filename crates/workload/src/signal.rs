//! Signals by name and by number, as Linux has them on x86-64.

use offtake_units::Duration;

use crate::Warning;
use crate::check::Fault;

/// What a signal may look like, for error messages.
pub const SIGNAL_ALLOWED: &str = "the name of a signal such as `USR1` or `SIGTERM`, or its number from 1 to 64";

const WARNING_ALLOWED: &str =
    "[B:]SIGNAL[@SECONDS] such as `USR1@90` or `B:TERM@300`: a name or a number, and 0 to 65535 seconds";
/// How long before the limit a warning comes where no time is named, as in Slurm.
const WARNING_BEFORE: Duration = Duration::from_secs(60);
const LONGEST_WARNING_SECONDS: u32 = 65_535;

/// SIGKILL.
pub const KILL: i32 = 9;
/// SIGSTOP.
pub const STOP: i32 = 19;

const HIGHEST: i32 = 64;

const NAMES: [(&str, i32); 36] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", KILL),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", STOP),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("RTMIN", 34),
    ("RTMAX", HIGHEST),
    // Other names of some of them.
    ("IOT", 6),
    ("CLD", 17),
    ("POLL", 29),
];

/// Reads a signal: `USR1`, `SIGUSR1`, `usr1` or `10`.
pub fn parse(text: &str) -> Option<i32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (1..=HIGHEST).contains(number));
    }
    let bare = text.get(..3).filter(|head| head.eq_ignore_ascii_case("SIG")).map_or(text, |_| &text[3..]);
    NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(bare)).map(|(_, number)| *number)
}

/// The name of a signal without `SIG`; nothing for a real-time signal between the first and the last.
pub fn name(signal: i32) -> Option<&'static str> {
    NAMES.iter().find(|(_, number)| *number == signal).map(|(name, _)| *name)
}

/// Reads a warning before the time limit as Slurm writes it: `[B:]USR1[@90]`.
pub(crate) fn warning(field: &str, text: &str) -> Result<Warning, Fault> {
    let fault = || Fault::new(field, text, WARNING_ALLOWED);
    let (script_only, rest) = text.strip_prefix("B:").map_or((false, text), |rest| (true, rest));
    let (signal, seconds) = rest.split_once('@').map_or((rest, None), |(signal, seconds)| (signal, Some(seconds)));
    let before = match seconds {
        None => WARNING_BEFORE,
        Some(seconds) if seconds.bytes().all(|byte| byte.is_ascii_digit()) => {
            let seconds: u32 = seconds.parse().map_err(|_| fault())?;
            if seconds > LONGEST_WARNING_SECONDS {
                return Err(fault());
            }
            Duration::from_secs(i64::from(seconds))
        }
        Some(_) => return Err(fault()),
    };
    Ok(Warning { signal: parse(signal).ok_or_else(fault)?, before, script_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [("USR1", 10), ("SIGUSR1", 10), ("sigterm", 15), ("1", 1), ("64", 64), ("CLD", 17)] {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for wrong in ["", "0", "65", "-1", "+5", "USR", "SIG", "SIGSIGUSR1", "99999999999", "é1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert!((1..=31).all(|number| name(number).and_then(parse) == Some(number)));
        assert_eq!((name(17), name(40)), (Some("CHLD"), None));
    }

    #[test]
    fn warnings() {
        let read =
            |text: &str| warning("signal", text).ok().map(|w| (w.signal, w.before.as_millis() / 1000, w.script_only));
        assert_eq!(read("USR1"), Some((10, 60, false)));
        assert_eq!(read("B:USR1@90"), Some((10, 90, true)));
        assert_eq!(read("10@0"), Some((10, 0, false)));
        assert_eq!(read("SIGTERM@65535"), Some((15, 65_535, false)));
        for wrong in ["", "@90", "USR1@", "USR1@x", "USR1@-1", "USR1@65536", "b:USR1", "R:USR1", "B:", "USR1@90@9"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
