//! What can be wrong with a file of signals.

use std::path::PathBuf;

use offtake_workload::input::{InputError, Place};

/// Why a file of signals cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The file itself cannot be read, or a value in it is not allowed.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The hours do not rise.
    #[error("{at}: `utc` is `{given}`; allowed is a later hour than the one before, `{before}`")]
    NotLater {
        /// The row.
        at: Place,
        /// The hour.
        given: String,
        /// The hour of the row before.
        before: String,
    },
    /// More hours are missing than are filled.
    #[error("{at}: {missing} hours are missing before this row; allowed are {limit}: is the file cut together?")]
    LongGap {
        /// The row.
        at: Place,
        /// Hours that are not there.
        missing: i64,
        /// Hours that may be missing in a row.
        limit: i64,
    },
    /// A zone without a single value.
    #[error("{}: the zone `{zone}` has no value in any hour: remove its column", file.display())]
    NoValue {
        /// The file.
        file: PathBuf,
        /// The zone.
        zone: String,
    },
    /// A zone that the list of zones does not describe.
    #[error("{}: the zone `{zone}` is missing; the zones are {given}", file.display())]
    UnknownZone {
        /// The list of zones.
        file: PathBuf,
        /// The zone.
        zone: String,
        /// The zones that it has.
        given: String,
    },
    /// A zone occurs twice in the list of zones.
    #[error("{at}: the zone `{zone}` occurs twice: remove one")]
    RepeatedZone {
        /// The second of them.
        at: Place,
        /// The zone.
        zone: String,
    },
    /// Two rates for one currency.
    #[error(
        "{at}: `usd_per_unit` is `{given}`; allowed is one rate for each currency and day, and {currency} has another above"
    )]
    TwoRates {
        /// The second of them.
        at: Place,
        /// The rate.
        given: String,
        /// The currency.
        currency: String,
    },
}
