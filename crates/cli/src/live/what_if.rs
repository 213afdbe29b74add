//! `offtake what-if`.

use std::path::PathBuf;

use clap::Args;
use offtake_protocol::rest::{WhatIf, WhatIfCap, WhatIfRequest};
use offtake_units::Duration;
use offtake_workload::human;

use super::{Common, policy, submit};
use crate::show::{figures::now_ms, what_if};
use crate::terminal::{BadInput, print, print_json, width};

#[derive(Args)]
pub struct Arguments {
    /// This domain or node takes no new work from now on
    #[arg(long, value_name = "DOMAIN")]
    drain: Vec<String>,
    /// This domain or node is lost now
    #[arg(long, value_name = "DOMAIN")]
    lose: Vec<String>,
    /// This domain may draw no more than so much, from when until when: hall=1.5@2h..6h
    #[arg(long, value_name = "DOMAIN=MW[@FROM..TO]")]
    cap: Vec<String>,
    /// This job is submitted now
    #[arg(long, value_name = "FILE")]
    submit: Vec<String>,
    /// This policy file is put in force now
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How far to look ahead, such as 12h [default: until all work with an end has ended]
    #[arg(long, value_name = "TIME")]
    horizon: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

pub async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let request = request(arguments, now_ms())?;
    let answer: WhatIf = arguments.common.open()?.post("/v1/what-if", &request).await?;
    if arguments.common.json {
        return print_json(&answer);
    }
    print(&what_if::what_if(&answer, width()))
}

fn request(arguments: &Arguments, now_ms: i64) -> anyhow::Result<WhatIfRequest> {
    let request = WhatIfRequest {
        drain: arguments.drain.clone(),
        lose: arguments.lose.clone(),
        caps: arguments.cap.iter().map(|text| cap(text, now_ms)).collect::<Result<_, _>>()?,
        grid_events: Vec::new(),
        submit: arguments.submit.iter().map(|file| submit::read_one(file)).collect::<anyhow::Result<_>>()?,
        policy: arguments.policy.as_deref().map(policy::read).transpose()?,
        horizon_ms: arguments.horizon.map(Duration::as_millis),
    };
    let lists = [request.drain.len(), request.lose.len(), request.caps.len(), request.submit.len()];
    if lists.iter().all(|named| *named == 0) && request.policy.is_none() {
        let message = "say what would happen: --drain, --lose, --cap, --submit or --policy";
        return Err(BadInput(message.to_owned()).into());
    }
    Ok(request)
}

/// Reads `hall=1.5`, `hall=1.5@2h..6h`, `hall=800kW@2026-05-01T08:00:00Z..`.
fn cap(text: &str, now_ms: i64) -> Result<WhatIfCap, BadInput> {
    let wrong = || {
        BadInput(format!(
            "--cap `{text}`: write DOMAIN=MW@FROM..TO, such as `hall=1.5@2h..6h` or `hall=800kW@2026-05-01T08:00:00Z..`; \
             FROM and TO are times from now or instants, and may be left out"
        ))
    };
    let (domain, rest) = text.rsplit_once('=').filter(|(domain, _)| !domain.is_empty()).ok_or_else(wrong)?;
    let (power, window) = rest.split_once('@').unwrap_or((rest, ".."));
    let (from, until) = window.split_once("..").ok_or_else(wrong)?;
    let at = |text: &str| match text {
        "" => Some(None),
        text => {
            let from_now = || human::parse_duration(text).map(|span| now_ms.saturating_add(span.as_millis()));
            human::parse_timestamp(text).map(|at| at.as_millis()).or_else(from_now).map(Some)
        }
    };
    let (from_ms, until_ms) = at(from).zip(at(until)).ok_or_else(wrong)?;
    if let (Some(from), Some(until)) = (from_ms, until_ms)
        && from >= until
    {
        return Err(wrong());
    }
    Ok(WhatIfCap { domain: domain.to_owned(), watts: watts(power).ok_or_else(wrong)?, from_ms, until_ms })
}

/// Reads a power in MW, or in the unit that it names, to the watt.
pub(super) fn watts(text: &str) -> Option<u64> {
    let units = [("MW", 6), ("kW", 3), ("W", 0)];
    let named = units.iter().find_map(|(unit, digits)| Some((text.strip_suffix(unit)?.trim_end(), *digits)));
    let (number, digits) = named.unwrap_or((text, 6));
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let all = format!("{whole}{part:0<digits$}");
    (!number.is_empty() && part.len() <= digits && all.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| all.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_714_550_400_000;

    #[test]
    fn caps_are_read() {
        let read = |text: &str| {
            let cap = cap(text, NOW).expect("it is a cap");
            (cap.domain, cap.watts, cap.from_ms.map(|at| at - NOW), cap.until_ms.map(|at| at - NOW))
        };
        let hall = |watts, from, until| ("hall".to_owned(), watts, from, until);
        assert_eq!(read("hall=1.5@2h..6h"), hall(1_500_000, Some(7_200_000), Some(21_600_000)));
        assert_eq!(read("hall=1.5"), hall(1_500_000, None, None));
        assert_eq!(read("hall=0.000001@..1d"), hall(1, None, Some(86_400_000)));
        assert_eq!(read("hall=800 kW@2024-05-01T09:00:00Z.."), hall(800_000, Some(3_600_000), None));
        assert_eq!(read("hall=750W"), hall(750, None, None));
        assert_eq!(read("a=b/c=2").0, "a=b/c");
        for wrong in [
            "",
            "hall",
            "=1",
            "hall=",
            "hall=x",
            "hall=-1",
            "hall=0.5W",
            "hall=1@2h",
            "hall=1@6h..2h",
            "hall=1@x..y",
            "hall=1.5.5",
            "hall=99999999999999999999",
        ] {
            assert!(cap(wrong, NOW).is_err(), "{wrong}");
        }
    }
}
