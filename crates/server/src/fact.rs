//! Facts as the journal holds them: the engine's, and those of the live shell around it.

use std::sync::Arc;

use offtake_protocol::agent::{EnergySource, NodeDescription};
use offtake_protocol::rest::{Role, StepRequest, Submitted, WorkerFailure};
use offtake_units::Timestamp;
use offtake_workload::User;
use serde::{Deserialize, Serialize};

pub use crate::core::metered::Metered;

/// Something that was asked, decided or happened at an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: Event,
}

/// The kinds of fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// One of the engine's.
    Engine(offtake_engine::Event),
    /// A server began to write: the first fact of its epoch.
    ServerStarted {
        /// Which epoch.
        epoch: u64,
        /// Its version.
        version: String,
    },
    /// A node's agent is known by its key.
    AgentJoined {
        /// What it said of its node; its name is the fleet's.
        description: Arc<NodeDescription>,
        /// Its Ed25519 public key, in hexadecimal.
        public_key: String,
        /// The digest of the join token, which is used up.
        token: String,
    },
    /// What a node's agent says of its node has changed.
    AgentChanged {
        /// What it says now.
        description: Arc<NodeDescription>,
    },
    /// A token was made.
    TokenMade {
        /// Its name.
        name: String,
        /// SHA-256 of the token, in hexadecimal.
        digest: String,
        /// What it allows.
        role: Role,
        /// Whom jobs submitted with it run as.
        user: Option<User>,
        /// Until when it holds.
        expires: Option<Timestamp>,
    },
    /// A token holds no more.
    TokenRevoked {
        /// Its name.
        name: String,
    },
    /// A token was made that lets one node join.
    JoinTokenMade {
        /// SHA-256 of the token, in hexadecimal.
        digest: String,
        /// The only node that it is for.
        node: Option<String>,
        /// Until when it holds.
        expires: Timestamp,
    },
    /// A write was carried out under a key: a repetition gets the same answer.
    Keyed {
        /// SHA-256 of who asked and the key, in hexadecimal.
        key: String,
        /// SHA-256 of what was asked, in hexadecimal.
        request: String,
        /// The answer to a submission, and the number of a step that was asked for; empty for other writes, which are
        /// answered with what they concern.
        submitted: Vec<Submitted>,
    },
    /// What the sensors of a site's nodes showed is booked.
    EnergyMetered {
        /// The site.
        site: String,
        /// Since when.
        since: Timestamp,
        /// How much that is, and how much was counted.
        #[serde(flatten)]
        metered: Metered,
    },
    /// Someone put a job on hold, or lifted that.
    HeldByUser {
        /// The job.
        job: u64,
        /// Whether it is on hold now.
        held: bool,
    },
    /// A step was asked for inside a running job.
    StepAsked {
        /// The job.
        job: u64,
        /// The attempt.
        attempt: u32,
        /// The step, from 1.
        step: u32,
        /// What was asked for.
        request: Arc<StepRequest>,
    },
    /// Nothing of a step from 1 runs any more.
    StepEnded {
        /// The job.
        job: u64,
        /// The attempt.
        attempt: u32,
        /// The step.
        step: u32,
        /// The highest status of its tasks.
        exit_code: i32,
        /// In words, where it did not end well.
        reason: Option<String>,
    },
    /// Nothing of an attempt runs any more. What becomes of the job follows.
    AttemptEnded {
        /// The job.
        job: u64,
        /// The attempt.
        attempt: u32,
        /// The status of what was submitted; none where it never ran or nobody knows.
        exit_code: Option<i32>,
        /// How it ended, in words.
        outcome: String,
        /// Workers that did not end with status 0; at most 64.
        failures: Vec<WorkerFailure>,
        /// Energy at the servers, in millijoules.
        energy_mj: u64,
        /// How that is known.
        energy_source: EnergySource,
    },
}
