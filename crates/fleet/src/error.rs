//! What can be wrong with a fleet file.

use std::io;

/// Something in a fleet file, or in a node list that it names, that cannot be.
///
/// The message says what was given, what is allowed and how to mend it; the other fields say where.
#[derive(Debug, thiserror::Error)]
#[error("{}{message}", self.place())]
pub struct FleetError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1, where one is to blame.
    pub line: Option<u64>,
    /// The column, in characters from 1.
    pub column: Option<u64>,
    /// The key in the fleet file (`sites.memphis.pue`) or the column of the node list.
    pub field: Option<String>,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// The failure of the machine below, where there was one.
    pub source: Option<io::Error>,
}

impl FleetError {
    fn place(&self) -> String {
        let mut place = self.file.clone();
        for number in [self.line, self.column].into_iter().flatten() {
            place = format!("{place}:{number}");
        }
        place.push_str(": ");
        if let Some(field) = &self.field {
            place.push_str(field);
            place.push_str(": ");
        }
        place
    }
}
