//! The core as data, and back: for snapshots, which only shorten a restart. Whatever is volatile is learnt again from the
//! agents.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use offtake_protocol::rest::JobState;
use offtake_units::Timestamp;
use serde::{Deserialize, Serialize};

use super::access::{JoinToken, Token};
use super::metered::Books;
use super::nodes::NodeRecord;
use super::receipt::Prices;
use super::records::Record;
use super::submit::Keyed;
use super::waiting::ArrayRecord;
use super::{Core, Settings};

/// A core as data.
#[derive(Debug, Serialize, Deserialize)]
pub struct Image {
    engine: offtake_engine::Image,
    epoch: u64,
    sequence: u64,
    records: BTreeMap<u64, Record>,
    ended: VecDeque<u64>,
    outcomes: Vec<(u64, JobState)>,
    next_job: u64,
    #[serde(default = "first")]
    next_reservation: u64,
    #[serde(default = "first")]
    next_curtailment: u64,
    waiting: BTreeMap<u64, Vec<u64>>,
    arrays: BTreeMap<u64, ArrayRecord>,
    nodes: BTreeMap<Arc<str>, NodeRecord>,
    joined: Vec<Arc<str>>,
    tokens: BTreeMap<String, Token>,
    join_tokens: BTreeMap<String, JoinToken>,
    keys: BTreeMap<String, Keyed>,
    keys_in_order: VecDeque<(Timestamp, String)>,
    prices: Prices,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    books: BTreeMap<String, Books>,
}

const fn first() -> u64 {
    1
}

impl Image {
    /// The last fact that it holds.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Core {
    /// The core as data. Costs what lives and what ended last, not what ever was.
    pub fn image(&self) -> Image {
        Image {
            engine: self.state.image(),
            epoch: self.epoch,
            sequence: self.sequence,
            records: self.records.clone(),
            ended: self.ended.clone(),
            outcomes: self.outcomes.iter().map(|(job, state)| (*job, *state)).collect(),
            next_job: self.next_job,
            next_reservation: self.next_reservation,
            next_curtailment: self.next_curtailment,
            waiting: self.waiting.clone(),
            arrays: self.arrays.clone(),
            nodes: self.nodes.clone(),
            joined: self.joined.clone(),
            tokens: self.tokens.clone(),
            join_tokens: self.join_tokens.clone(),
            keys: self.keys.clone(),
            keys_in_order: self.keys_in_order.clone(),
            prices: self.prices.clone(),
            books: self.books.clone(),
        }
    }

    /// The core of which an image was taken.
    ///
    /// # Errors
    /// When the image does not hold together; the journal does.
    pub fn restore(image: Image, settings: Settings) -> Result<Self, offtake_engine::Unfit> {
        let mut core = Self {
            state: offtake_engine::State::restore(image.engine)?,
            epoch: image.epoch,
            sequence: image.sequence,
            records: image.records,
            ended: image.ended,
            outcomes: image.outcomes.into_iter().collect(),
            next_job: image.next_job,
            next_reservation: image.next_reservation,
            next_curtailment: image.next_curtailment,
            waiting: image.waiting,
            arrays: image.arrays,
            nodes: image.nodes,
            joined: image.joined,
            tokens: image.tokens,
            join_tokens: image.join_tokens,
            keys: image.keys,
            keys_in_order: image.keys_in_order,
            prices: image.prices,
            books: image.books,
            ..Self::new(settings)
        };
        core.note_fleet();
        let live: Vec<(u64, Vec<u32>)> = core
            .records
            .iter()
            .filter_map(|(id, record)| Some((*id, record.live()?.steps.keys().copied().collect())))
            .collect();
        for (job, steps) in live {
            steps.into_iter().for_each(|step| core.list_tasks(job, step));
        }
        Ok(core)
    }
}
