//! Grid programmes in fleet files.

use offtake_programmes::{Baseline, Depth};
use offtake_units::{Duration, Ppm, Watts};

use super::{example, parse};

const PROGRAMME: &str = r#"
[programmes.summer-peak]
cap = "grid"
time_zone = "America/New_York"
notice = "30m"
longest = "4h"
depth = { kilowatts = 300 }
events = 10
months = [9, 6, 7, 8]
baseline = { method = "firm_service_level", megawatts = 1.1 }
currency = "USD"
capacity_per_kw_month = 6.5
energy_per_mwh = 120
penalty_per_mwh = 250
forfeit = 0.5
source = "invented"
"#;

#[test]
fn a_programme_is_read_with_all_its_terms() {
    let fleet = parse(&format!("{}{PROGRAMME}", example())).expect("it is valid");
    let [programme] = fleet.programmes.as_slice() else { unreachable!("there is one") };
    assert_eq!((programme.name.as_str(), programme.cap.as_str()), ("summer-peak", "grid"));
    assert_eq!(fleet.cap_of(programme), Some(2));
    assert_eq!((programme.notice, programme.longest), (Duration::from_secs(1800), Duration::from_secs(14_400)));
    assert_eq!((programme.depth, programme.events), (Depth::Watts(Watts::new(300_000)), 10));
    assert_eq!(programme.months, [6, 7, 8, 9]);
    assert_eq!(programme.baseline, Baseline::FirmServiceLevel { contracted: Watts::new(1_100_000) });
    assert_eq!(programme.firm_level(), Some(Watts::new(800_000)));
    let pay = programme.pay;
    assert_eq!((pay.capacity.micros, pay.energy.micros, pay.penalty.micros), (6_500_000, 120_000_000, 250_000_000));
    assert_eq!((pay.currency().code(), pay.forfeit), ("USD", Ppm::new(500_000)));
    let kept = serde_json::to_string(&fleet).expect("a fleet is a fact");
    assert_eq!(serde_json::from_str::<offtake_fleet::Fleet>(&kept).expect("and read back"), fleet);
}

#[test]
fn terms_that_cannot_be_are_refused() {
    let mut faults = String::new();
    for (given, instead, expected) in CASES {
        assert!(PROGRAMME.contains(given), "the programme lacks {given}");
        let text = format!("{}{}", example(), PROGRAMME.replace(given, instead));
        let said = match parse(&text) {
            Ok(_) => "(read without an error)".to_owned(),
            Err(error) => {
                let told = error.to_string();
                told.split_once("programmes.").map_or(told.clone(), |(_, rest)| rest.to_owned())
            }
        };
        if said != *expected {
            faults.push_str(&format!("{given} -> {instead}\n  said:     {said}\n  expected: {expected}\n"));
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

const CASES: &[(&str, &str, &str)] = &[
    (
        "cap = \"grid\"",
        "cap = \"gird\"",
        "summer-peak.cap: `gird` is no cap (did you mean `grid`?); declare it as [caps.gird]",
    ),
    (
        "cap = \"grid\"",
        "cap = \"rack ashburn/hall-0/rack-0\"",
        "summer-peak.cap: cap `rack ashburn/hall-0/rack-0` is not what a utility meters: name one `on` a site or domain with meter = \"facility\" and kind = \"contract\"",
    ),
    (
        "America/New_York",
        "Ashburn",
        "summer-peak.time_zone: no time zone has that name: write its IANA name, such as \"America/Chicago\"",
    ),
    (
        "\"30m\"",
        "\"soon\"",
        "summer-peak.notice: `soon` is not a duration: write a number and a unit (ms, s, m, h, d, w), such as `90s`, `36h` or `1d12h`",
    ),
    ("\"4h\"", "\"0s\"", "summer-peak.longest: an event lasts for some time: write \"4h\""),
    (
        "{ kilowatts = 300 }",
        "{}",
        "summer-peak.depth: is empty: write { megawatts = 8 }, or { share = 0.25 } for a part of the baseline",
    ),
    (
        "{ kilowatts = 300 }",
        "{ kilowatts = 300, share = 0.2 }",
        "summer-peak.depth.share: a second depth: write a power or a share",
    ),
    (
        "{ kilowatts = 300 }",
        "{ kilowatts = 300, megawatts = 1 }",
        "summer-peak.depth.megawatts: a second depth: write one of `watts`, `kilowatts` and `megawatts`",
    ),
    (
        "{ kilowatts = 300 }",
        "{ share = 1.2 }",
        "summer-peak.depth.share: 1.2 is not allowed: a share of the baseline is above 0 and at most 1",
    ),
    (
        "{ kilowatts = 300 }",
        "{ kilowatts = 900 }",
        "summer-peak.depth: leaves 200 kW of the contracted baseline, and idle nodes draw 512 kW: ask for less",
    ),
    (
        "{ kilowatts = 300 }",
        "{ megawatts = 3 }",
        "summer-peak.depth: leaves less than nothing of the contracted baseline, and idle nodes draw 512 kW: ask for less",
    ),
    (
        "megawatts = 1.1",
        "megawatts = 1.3",
        "summer-peak.baseline: a baseline of 1.30 MW is never drawn: cap `grid` allows 1.20 MW",
    ),
    (
        ", megawatts = 1.1",
        "",
        "summer-peak.baseline: a firm service level is counted from a contracted baseline: write `megawatts` beside `method`",
    ),
    (
        "firm_service_level",
        "pjm_cbl",
        "summer-peak.baseline.megawatts: this method finds the baseline from the meter: leave the power out",
    ),
    (
        "firm_service_level",
        "five_of_ten",
        "summer-peak.baseline.method: `five_of_ten` is no value here; allowed: firm_service_level, caiso_10_of_10, pjm_cbl",
    ),
    (
        "depth = { kilowatts = 300 }\nevents = 10\nmonths = [9, 6, 7, 8]\nbaseline = { method = \"firm_service_level\", megawatts = 1.1 }",
        "depth = { kilowatts = 700 }\nevents = 10\nbaseline = { method = \"caiso_10_of_10\" }",
        "summer-peak.depth: 700 kW can never be given back: cap `grid` allows 1.20 MW, and idle nodes draw 512 kW; ask for less",
    ),
    (
        "depth = { kilowatts = 300 }\nevents = 10\nmonths = [9, 6, 7, 8]\nbaseline = { method = \"firm_service_level\", megawatts = 1.1 }",
        "depth = { share = 0.2 }\nevents = 10\nbaseline = { method = \"caiso_10_of_10\" }",
        "summer-peak.capacity_per_kw_month: is paid for kilowatts, and the depth is a share of what only the meter tells: write the depth as a power",
    ),
    (
        "capacity_per_kw_month = 6.5\n",
        "",
        "summer-peak.forfeit: there is no `capacity_per_kw_month` of which anything could be forfeited",
    ),
    ("[9, 6, 7, 8]", "[6, 13]", "summer-peak.months[1]: 13 is not allowed: a month is a whole number from 1 to 12"),
    ("[9, 6, 7, 8]", "[6, 6]", "summer-peak.months[1]: a second 6: write each month once"),
    (
        "[9, 6, 7, 8]",
        "[]",
        "summer-peak.months: is empty: a season has at least one month; leave the key out for all of the year",
    ),
    (
        "events = 10",
        "events = 0",
        "summer-peak.events: 0 is not allowed: a number of events is a whole number from 1 to 10,000",
    ),
    (
        "\"USD\"",
        "\"dollars\"",
        "summer-peak.currency: a currency is three capital letters (ISO 4217), such as `USD` or `EUR`",
    ),
    (
        "penalty_per_mwh = 250",
        "penalty_per_mwh = -250",
        "summer-peak.penalty_per_mwh: -250 is not allowed: a penalty per MWh is a number from 0 to 1,000,000",
    ),
    (
        "source = \"invented\"",
        "source = \"\"",
        "summer-peak.source: is empty: name the tariff or contract, or say that the terms are invented",
    ),
    ("source = \"invented\"\n", "", "summer-peak: missing key `source`"),
];
