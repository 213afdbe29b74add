//! Prices of electricity, and the rates between their currencies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use offtake_units::{Currency, PricePerMwh, Timestamp};
use offtake_workload::human;
use offtake_workload::input::{Column, Lines, Row, Table, excerpt, parse_decimal};

use crate::error::SignalError;
use crate::series::Series;
use crate::wide::{self, Numbers};

/// The price of electricity in one zone, by the hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceSeries {
    /// The zone, as sites name it.
    pub zone: String,
    /// The market that made the prices.
    pub market: String,
    /// Which of its prices these are.
    pub product: String,
    /// What they are in.
    pub currency: Currency,
    /// The file they were read from.
    pub source: PathBuf,
    /// Millionths of a currency unit per MWh.
    pub micros: Series<i64>,
}

impl PriceSeries {
    /// The price at an instant.
    pub fn at(&self, at: Timestamp) -> Option<PricePerMwh> {
        self.micros.at(at).map(|micros| PricePerMwh { micros, currency: self.currency })
    }
}

/// What one unit of a currency was worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeRate {
    /// The currency.
    pub currency: Currency,
    /// Millionths of a dollar for one unit.
    pub usd_micros: i64,
    /// The day of the rate, at its beginning in UTC; none where the source does not say.
    pub date: Option<Timestamp>,
    /// The file it was read from.
    pub source: PathBuf,
}

/// Prices of many zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// The series, by zone.
    pub zones: BTreeMap<String, PriceSeries>,
    /// One rate for each currency that occurs.
    pub rates: BTreeMap<Currency, ExchangeRate>,
}

/// Digits after the point of prices and rates.
const PLACES: u32 = 6;
const NUMBERS: Numbers = Numbers {
    places: PLACES,
    least: i64::MIN,
    allowed: "a decimal number with up to six places, such as `35.26` or `-3.6`, or nothing",
};

const ZONE_COLUMNS: [Column; 12] = [
    Column::required("zone"),
    Column::required("market"),
    Column::required("product"),
    Column::required("currency"),
    Column::required("usd_per_unit"),
    Column::optional("rate_date"),
    // Statistics of the series, for people.
    Column::optional("missing_hours"),
    Column::optional("min"),
    Column::optional("mean"),
    Column::optional("p95"),
    Column::optional("max"),
    Column::optional("negative_hours"),
];

/// Reads a wide table of prices and the list of its zones. Zones of the list without a column are no error.
///
/// # Errors
/// When either file cannot be read, or a zone of the table is not in the list.
pub fn read_prices(prices: &Path, zones: &Path) -> Result<Prices, SignalError> {
    let (mut described, rates) = read_zones(Table::new(Lines::open(zones)?)?, zones)?;
    let mut series = BTreeMap::new();
    for (zone, micros) in wide::read(prices, &NUMBERS)? {
        let Some(about) = described.remove(&zone) else {
            let given: Vec<_> = described.keys().map(String::as_str).collect();
            return Err(SignalError::UnknownZone { file: zones.to_owned(), zone, given: given.join(", ") });
        };
        let About { market, product, currency } = about;
        let source = prices.to_owned();
        series.insert(zone.clone(), PriceSeries { zone, market, product, currency, source, micros });
    }
    Ok(Prices { zones: series, rates })
}

struct About {
    market: String,
    product: String,
    currency: Currency,
}

type Zones = (BTreeMap<String, About>, BTreeMap<Currency, ExchangeRate>);

fn read_zones(mut table: Table<'_>, source: &Path) -> Result<Zones, SignalError> {
    let [zone, market, product, currency, rate, date, ..] = table.positions(&ZONE_COLUMNS)?;
    let mut zones = BTreeMap::new();
    let mut rates: BTreeMap<Currency, ExchangeRate> = BTreeMap::new();
    while let Some(row) = table.next_row()? {
        let code: Currency = row.needed(currency, "three capital letters (ISO 4217), such as `USD` or `EUR`")?;
        let rate_micros = rate_micros(&row, rate, code)?;
        let new =
            ExchangeRate { currency: code, usd_micros: rate_micros, date: day(&row, date)?, source: source.to_owned() };
        if rates.insert(code, new.clone()).is_some_and(|old| old != new) {
            let given = excerpt(row.text(rate));
            return Err(SignalError::TwoRates { at: row.place(), given, currency: code.to_string() });
        }
        let name = row.text(zone);
        if name.trim().is_empty() {
            return Err(row.wrong(zone, "a name, such as `DE-LU`").into());
        }
        let about =
            About { market: row.text(market).to_owned(), product: row.text(product).to_owned(), currency: code };
        if zones.insert(name.to_owned(), about).is_some() {
            return Err(SignalError::RepeatedZone { at: row.place(), zone: excerpt(name) });
        }
    }
    Ok((zones, rates))
}

fn rate_micros(row: &Row<'_>, position: Option<usize>, currency: Currency) -> Result<i64, SignalError> {
    const ALLOWED: &str =
        "dollars for one unit: a decimal number above zero with up to six places, and 1 for the dollar itself";
    let micros = parse_decimal(row.text(position), PLACES).filter(|micros| *micros > 0);
    let is_meant = |micros: &i64| currency != Currency::USD || *micros == 1_000_000;
    micros.filter(is_meant).ok_or_else(|| row.wrong(position, ALLOWED).into())
}

fn day(row: &Row<'_>, position: Option<usize>) -> Result<Option<Timestamp>, SignalError> {
    let text = row.text(position);
    if text.is_empty() {
        return Ok(None);
    }
    let day = human::parse_timestamp(&format!("{text}T00:00:00Z"));
    day.map(Some).ok_or_else(|| row.wrong(position, "a day such as `2025-03-27`, or nothing").into())
}

#[cfg(test)]
mod tests {
    use offtake_workload::input::Limits;

    use super::*;

    fn refused(text: &str) -> String {
        let lines = Lines::new(text.as_bytes(), Path::new("z"), Limits::default()).expect("opens");
        let read = Table::new(lines).map_err(SignalError::from).and_then(|table| read_zones(table, Path::new("z")));
        read.map(drop).expect_err(text).to_string()
    }

    #[test]
    fn errors_of_the_list_of_zones_name_their_place() {
        const HEAD: &str = "zone,market,product,currency,usd_per_unit,rate_date\n";
        let cases = [
            ("A,m,p,eur,1.1,\n", "z:2: `currency` is `eur`; allowed is three capital letters"),
            ("A,m,p,EUR,0,\n", "z:2: `usd_per_unit` is `0`; allowed is dollars for one unit"),
            ("A,m,p,EUR,1e3,\n", "z:2: `usd_per_unit` is `1e3`"),
            ("A,m,p,USD,1.1,\n", "z:2: `usd_per_unit` is `1.1`"),
            ("A,m,p,EUR,1.1,27.3.2025\n", "z:2: `rate_date` is `27.3.2025`"),
            ("A,m,p,EUR,1.1,\nB,m,p,EUR,1.2,\n", "z:3: `usd_per_unit` is `1.2`; allowed is one rate"),
            ("A,m,p,EUR,1.1,\nA,m,p,EUR,1.1,\n", "z:3: the zone `A` occurs twice"),
            (",m,p,EUR,1.1,\n", "z:2: `zone` is ``"),
        ];
        for (rows, expected) in cases {
            let message = refused(&format!("{HEAD}{rows}"));
            assert!(message.starts_with(expected), "{rows}  gives: {message}");
        }
        assert!(refused("zone,market\n").contains("the column `product` is missing"));
        assert!(refused("zone,colour\n").contains("the column `colour` is unknown"));
    }
}
