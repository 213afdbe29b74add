//! The real series in `data/`: gaps, extremes and means, as counted apart from this code.

use std::path::{Path, PathBuf};

use offtake_signals::{SignalError, read_carbon, read_prices};
use offtake_units::{CarbonIntensity, Currency, PricePerMwh, Timestamp};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data").join(name)
}

/// 2021-01-01T00:00Z, where the series begin.
const START: Timestamp = Timestamp::from_secs(1_609_459_200);
const HOURS: usize = 26_280;

#[test]
fn prices_are_what_their_source_says() {
    let start = std::time::Instant::now();
    let prices = read_prices(&data("power-prices/price_hourly_2021_2023.csv.gz"), &data("power-prices/zones.csv"))
        .expect("good");
    println!("prices: {:?}", start.elapsed());
    assert_eq!((prices.zones.len(), prices.rates.len()), (18, 7));
    let texas = &prices.zones["US-TEX-ERCO"];
    assert_eq!(texas.at(START), Some(PricePerMwh { micros: 35_260_000, currency: Currency::USD }));
    assert_eq!(texas.micros.hours().map(|(_, micros)| micros).max(), Some(8_995_260_000));
    assert_eq!((texas.micros.gaps().carried_hours, texas.micros.hours().len()), (0, HOURS));
    for (zone, missing) in [("US-MIDA-PJM", 72), ("CH", 1130), ("DE-LU", 51), ("SG", 0)] {
        let gaps = prices.zones[zone].micros.gaps();
        assert_eq!(gaps.leading_hours + gaps.carried_hours, missing, "{zone}: {gaps:?}");
    }
    assert_eq!(prices.zones["US-MIDA-PJM"].at(START), None, "its first hours are not known");
    let euro: Currency = "EUR".parse().expect("a currency");
    let rate = &prices.rates[&euro];
    assert_eq!((rate.usd_micros, rate.date), (1_077_640, Some(Timestamp::from_secs(1_743_033_600))));
}

#[test]
fn carbon_is_what_its_source_says() {
    let carbon = read_carbon(&data("carbon-emaps/carbon_lifecycle_2021_2023.csv.gz"), &data("carbon-emaps/zones.csv"))
        .expect("good");
    assert_eq!(carbon.len(), 16);
    let germany = &carbon["DE-LU"];
    assert_eq!(germany.at(START), Some(CarbonIntensity::from_mg_per_kwh(526_800)));
    for (zone, mean_mg) in [("DE-LU", 427_000), ("US-TEX-ERCO", 399_300), ("CA-ON", 60_600)] {
        let series = &carbon[zone].mg_per_kwh;
        let mean = series.hours().map(|(_, mg)| mg).sum::<i64>() / HOURS as i64;
        assert!((mean - mean_mg).abs() <= 100, "{zone}: {mean}");
        assert_eq!(series.gaps().carried_hours, 0);
    }
    assert_eq!(carbon["SG"].zone.estimated.parts(), 144_000);
}

#[test]
fn a_zone_that_is_not_described_is_refused() {
    let carbon = data("carbon-emaps/carbon_lifecycle_2021_2023.csv.gz");
    let error = read_prices(&carbon, &data("power-prices/zones.csv")).expect_err("BR-SP has no currency");
    assert!(matches!(&error, SignalError::UnknownZone { zone, .. } if zone == "BR-SP"), "{error}");
    let missing = read_prices(Path::new("no/prices.csv"), &data("power-prices/zones.csv")).expect_err("missing");
    assert!(missing.to_string().starts_with("no/prices.csv: the file cannot be opened"));
}
