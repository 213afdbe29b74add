//! Facts: what was asked, decided and happened. State is a fold over them.

use std::sync::Arc;

use offtake_fleet::{Fleet, NodeIx};
use offtake_units::{CarbonIntensity, PricePerMwh, Timestamp, Watts};
use offtake_workload::{Job, Reservation, Service};
use serde::{Deserialize, Serialize};

use crate::capacity::LimitIx;
use crate::elastic::workers_of;
use crate::policy::Policy;
use crate::request::Refusal;
use crate::reserve::Unmet;
use crate::throttle::Throttle;

/// Identity of a job; given by whoever submits, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

impl JobId {
    /// Replicas of services get their identities from here up, where nobody numbers them among jobs; submitters stay
    /// below.
    pub const REPLICAS: u64 = 1 << 63;

    /// What windows of reservations keep is held under identities from here up to those of curtailments.
    const WINDOWS: u64 = 1 << 62;

    /// What curtailments that are to come keep free is held under identities from here up to those of replicas.
    const CURTAILMENTS: u64 = 3 << 61;

    /// The identity under which a reservation's window is held.
    pub const fn of_window(reservation: ReservationId) -> Self {
        Self(Self::WINDOWS | reservation.0)
    }

    /// The identity under which the power is held that a curtailment takes.
    pub const fn of_curtailment(curtailment: CurtailmentId) -> Self {
        Self(Self::CURTAILMENTS | curtailment.0)
    }

    /// Whether it is a reservation's window and no job.
    pub const fn is_window(self) -> bool {
        Self::WINDOWS <= self.0 && self.0 < Self::CURTAILMENTS
    }

    /// The curtailment for which power is held under it.
    pub const fn curtailment(self) -> Option<CurtailmentId> {
        let is_one = Self::CURTAILMENTS <= self.0 && self.0 < Self::REPLICAS;
        if is_one { Some(CurtailmentId(self.0 & !Self::CURTAILMENTS)) } else { None }
    }

    /// Whether it is a job or a replica, and nothing else that capacity is held for.
    pub(crate) const fn is_job(self) -> bool {
        self.0 < Self::WINDOWS || Self::REPLICAS <= self.0
    }

    /// The reservation whose window it is.
    pub const fn reservation(self) -> Option<ReservationId> {
        if self.is_window() { Some(ReservationId(self.0 & !Self::WINDOWS)) } else { None }
    }
}

/// Identity of a reservation; given by whoever makes it, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReservationId(pub u64);

/// Identity of a curtailment; given by whoever announces it, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CurtailmentId(pub u64);

/// A planned reduction of power: for a time a cap allows less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curtailment {
    /// Its name, in the words of whoever asks for it.
    pub name: String,
    /// The cap.
    pub cap: LimitIx,
    /// What it allows.
    pub watts: Watts,
    /// By when no more is drawn.
    pub from: Timestamp,
    /// Until when; [`Timestamp::NEVER`] where nobody knows, until it is withdrawn.
    pub until: Timestamp,
}

/// Identity of a service; given by whoever submits, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceId(pub u64);

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
    /// The fleet is known. The first fact of all.
    FleetLoaded {
        /// The fleet.
        fleet: Arc<Fleet>,
    },
    /// The policy is set.
    PolicySet {
        /// The policy.
        policy: Policy,
    },
    /// A job was asked for.
    JobSubmitted {
        /// Its identity.
        job: JobId,
        /// What it asks for.
        spec: Arc<Job>,
    },
    /// A job can never run on this fleet.
    JobRejected {
        /// The job.
        job: JobId,
        /// Why.
        reason: Refusal,
    },
    /// A job has its nodes and starts.
    JobPlaced {
        /// The job.
        job: JobId,
        /// Where.
        placement: Arc<Placement>,
    },
    /// Nodes that stood by have taken the places of others of a running job, which stand by from now on. The job keeps
    /// its nodes and starts again on them from what it has saved.
    NodesSwapped {
        /// The job.
        job: JobId,
        /// Each node that worked, and the spare that works in its place.
        swaps: Vec<(NodeIx, NodeIx)>,
        /// Up to when its work is saved; none when all since it had its nodes is lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saved_until: Option<Timestamp>,
    },
    /// All workers of a placed job run. Its time limit counts from here.
    JobStarted {
        /// The job.
        job: JobId,
    },
    /// A running job has outlasted what was expected of it, and is now expected to end at another instant.
    EstimateCorrected {
        /// The job.
        job: JobId,
        /// When.
        ends: Timestamp,
    },
    /// A running job's chips work at another power level from now on; or it is paused where it is, or goes on.
    JobThrottled {
        /// The job.
        job: JobId,
        /// How far down their curves.
        to: Throttle,
    },
    /// A job's workers are being stopped; it keeps its nodes until they have ended.
    JobStopping {
        /// The job.
        job: JobId,
        /// Why.
        reason: StopReason,
        /// When they have to have ended, whatever they have saved; none where its own grace counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Timestamp>,
    },
    /// A job that was placed waits again: its workers have ended, or are known to be dead.
    JobRequeued {
        /// The job.
        job: JobId,
        /// Up to when its work is saved; none when all since the placement is lost.
        saved_until: Option<Timestamp>,
        /// Whether it waits on hold.
        held: bool,
    },
    /// A waiting job does not start until it is released.
    JobHeld {
        /// The job.
        job: JobId,
    },
    /// A job on hold waits for its turn again.
    JobReleased {
        /// The job.
        job: JobId,
    },
    /// A waiting job that prefers a level at a cost, the first of its kind, has no room: from now on it waits for so much
    /// of its time before one level wider will do.
    LevelAwaited {
        /// The job.
        job: JobId,
    },
    /// A waiting job has waited for a level long enough: one level wider will do from now on.
    LevelCrossed {
        /// The job.
        job: JobId,
    },
    /// A job has ended without the result that it was for.
    JobFailed {
        /// The job.
        job: JobId,
    },
    /// A job has ended by itself.
    JobFinished {
        /// The job.
        job: JobId,
    },
    /// A job was withdrawn, whether it ran or not.
    JobCancelled {
        /// The job.
        job: JobId,
    },
    /// A service was asked for.
    ServiceSubmitted {
        /// Its identity.
        service: ServiceId,
        /// What it asks for.
        spec: Arc<Service>,
    },
    /// A service wants another number of replicas.
    ServiceScaled {
        /// The service.
        service: ServiceId,
        /// Replicas wanted; what is less than its minimum or more than its maximum counts as that.
        replicas: u32,
    },
    /// A service has other bounds from now on.
    ServiceBounded {
        /// The service.
        service: ServiceId,
        /// The fewest replicas.
        minimum: u32,
        /// The most replicas.
        maximum: u32,
    },
    /// A service is withdrawn. It is gone once its last replica is.
    ServiceCancelled {
        /// The service.
        service: ServiceId,
    },
    /// A service gets one more replica, which waits for a place like a job.
    ReplicaAdded {
        /// The service.
        service: ServiceId,
        /// The replica's identity as a job.
        replica: JobId,
    },
    /// A service gives one replica up.
    ReplicaRetired {
        /// The service.
        service: ServiceId,
        /// The replica's identity as a job.
        replica: JobId,
    },
    /// Capacity is kept for a blocked job.
    HoldPlaced {
        /// The job.
        job: JobId,
        /// When it can start at the latest, if running work ends when it is expected to.
        start: Timestamp,
        /// Where it will run; its nodes are kept.
        placement: Arc<Placement>,
        /// Per cap that could bind, what work that outlasts the start may still draw more, in millionths of a watt.
        extra: Vec<(LimitIx, i64)>,
    },
    /// A job's hold is given up: it started, ended, or is to be planned anew.
    HoldReleased {
        /// The job.
        job: JobId,
    },
    /// Capacity is to be set aside.
    ReservationMade {
        /// Its identity.
        reservation: ReservationId,
        /// What is asked for.
        spec: Arc<Reservation>,
    },
    /// A reservation is withdrawn, and what it keeps given up.
    ReservationCancelled {
        /// The reservation.
        reservation: ReservationId,
    },
    /// A reservation cannot be had.
    ReservationRefused {
        /// The reservation.
        reservation: ReservationId,
        /// Why.
        reason: Unmet,
    },
    /// A reservation has its nodes for one window.
    WindowPlaced {
        /// The reservation.
        reservation: ReservationId,
        /// When the window begins.
        start: Timestamp,
        /// When it ends.
        end: Timestamp,
        /// Its nodes, ascending.
        nodes: Vec<NodeRange>,
    },
    /// A recurring reservation did not get its nodes for one window.
    WindowMissed {
        /// The reservation.
        reservation: ReservationId,
        /// When the window should have begun.
        start: Timestamp,
        /// Why.
        reason: Unmet,
    },
    /// A window is over.
    WindowEnded {
        /// The reservation.
        reservation: ReservationId,
    },
    /// The fleet has changed: nodes and domains that are in both keep their names, and work stays where it is. Facts
    /// that follow count nodes as this fleet does.
    FleetChanged {
        /// The fleet from now on. It has every node, by name, on which work runs.
        fleet: Arc<Fleet>,
    },
    /// A node cannot be reached, or is known to be dead. Work on it keeps it until that work is requeued or ended.
    NodeLost {
        /// The node.
        node: NodeIx,
    },
    /// A lost node is back.
    NodeReturned {
        /// The node.
        node: NodeIx,
    },
    /// A node takes no new work; what runs there goes on.
    NodeDrained {
        /// The node.
        node: NodeIx,
        /// Why, in the words of whoever drained it.
        reason: String,
    },
    /// A drained node takes work again.
    NodeResumed {
        /// The node.
        node: NodeIx,
    },
    /// A node that joined or came back has stood its burn-in, and takes work.
    NodeProved {
        /// The node.
        node: NodeIx,
    },
    /// Something failed on a node: what ran there, or the node itself. By itself it changes nothing; what follows from
    /// several is for the policy to say.
    FaultSeen {
        /// The node.
        node: NodeIx,
        /// Whose work it met; none where there was none, or nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<JobId>,
        /// What.
        fault: Fault,
    },
    /// Whether a node may run work of several tenants at one time; it may unless this says otherwise. Work that is there
    /// stays: of several tenants all but one have to go before more comes.
    NodeShared {
        /// The node.
        node: NodeIx,
        /// Whether it may.
        shared: bool,
    },
    /// Whether the chips of a node can be kept to a power level; they can unless this says otherwise.
    NodeThrottles {
        /// The node.
        node: NodeIx,
        /// Whether they can.
        able: bool,
    },
    /// A cap allows another draw from now on. What is over it is given back by the next pass.
    CapSet {
        /// The cap.
        cap: LimitIx,
        /// What it allows.
        watts: Watts,
    },
    /// Power is to be given back for a time. Until then no work starts that would have to be stopped for it, and so much
    /// is stopped in time that no more is drawn.
    CurtailmentAnnounced {
        /// Its identity.
        curtailment: CurtailmentId,
        /// What is asked for.
        spec: Curtailment,
    },
    /// The time of a curtailment has come: its cap allows no more than it says.
    CurtailmentBegan {
        /// The curtailment.
        curtailment: CurtailmentId,
    },
    /// A curtailment is over, or withdrawn: its cap allows what it did.
    CurtailmentEnded {
        /// The curtailment.
        curtailment: CurtailmentId,
    },
    /// A cap that allowed less allows more again, step by step as its site stands it, and more than that later.
    CapRose {
        /// The cap.
        cap: LimitIx,
        /// What it allows.
        watts: Watts,
    },
    /// A cap was lowered, or is to be lowered, so far that it is exceeded with all work under it stopped.
    CurtailmentUnmet {
        /// The cap.
        cap: LimitIx,
        /// What is drawn under it then.
        least: Watts,
        /// The curtailment that asks for it; none where the cap was set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        curtailment: Option<CurtailmentId>,
    },
    /// The electricity price of a zone, from now on.
    PricePublished {
        /// The zone.
        zone: String,
        /// The price.
        price: PricePerMwh,
    },
    /// The carbon intensity of a zone, from now on.
    CarbonPublished {
        /// The zone.
        zone: String,
        /// The intensity.
        intensity: CarbonIntensity,
    },
    /// How hot and humid it is at a site, from now on.
    WeatherPublished {
        /// The site.
        site: String,
        /// Wet-bulb temperature, in thousandths of a degree Celsius.
        wet_bulb_mc: i32,
    },
}

/// What fails on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The node was lost.
    NodeLost,
    /// A worker failed there before any other of its job, and nothing else is known.
    WorkerFailed,
    /// The driver of its accelerators told of an NVIDIA XID.
    Xid(u16),
}

/// Why a job's workers are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Someone cancelled it.
    Cancelled,
    /// Someone put it on hold.
    Held,
    /// Someone asked that it start again.
    Requeued,
    /// It has reached its time limit.
    TimeLimit,
    /// One of its workers has failed, so the others cannot go on.
    WorkerFailed,
    /// One of its nodes was lost.
    NodeLost,
    /// The reservation on whose nodes it ran is over.
    ReservationEnded,
    /// Not all of its nodes could prepare or start.
    NotStarted,
    /// Its nodes are needed for a stronger job.
    Preempted {
        /// That job.
        by: JobId,
    },
    /// Its tenant has borrowed quota whose owner takes it back.
    Reclaimed {
        /// For this job.
        by: JobId,
    },
    /// It gives back the power that it draws, as a cap was lowered.
    Curtailed,
    /// It goes on elsewhere, so that a block comes free.
    Moved,
    /// It is a replica that its service wants no more, or that has another in its place.
    Retired,
    /// It is a replica on a drained node, and goes on elsewhere.
    Drained,
    /// It goes on with another number of workers.
    Resized {
        /// Of its elastic gang.
        workers: u32,
    },
}

impl StopReason {
    /// Whether a job is asked to save its work first, and waits again then.
    pub const fn saves_first(self) -> bool {
        matches!(
            self,
            Self::Held
                | Self::Requeued
                | Self::Preempted { .. }
                | Self::Reclaimed { .. }
                | Self::ReservationEnded
                | Self::Curtailed
                | Self::Moved
                | Self::Drained
                | Self::Resized { .. }
        )
    }
}

/// Where a job's gangs run, in the order of the gangs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Each gang's slots, in the order of their nodes; those of the nodes that stand by included.
    pub gangs: Vec<Vec<Slot>>,
    /// Each gang's nodes that stand by, ascending; nothing where no gang asks for any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<Vec<NodeIx>>,
    /// At which power level of their chips.
    #[serde(default, skip_serializing_if = "Throttle::is_none")]
    pub throttle: Throttle,
}

/// Nodes side by side that each run the same number of workers on the same chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The nodes.
    pub nodes: NodeRange,
    /// Workers on each of them.
    pub workers: u32,
    /// The chips that the workers of one node use, as bits.
    pub chips: u64,
}

/// Nodes side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeRange {
    /// The first.
    pub first: NodeIx,
    /// How many.
    pub count: u32,
}

impl NodeRange {
    /// One node.
    pub(crate) const fn one(node: u32) -> Self {
        Self { first: NodeIx(node), count: 1 }
    }

    /// The numbers of the nodes.
    pub const fn numbers(self) -> std::ops::Range<u32> {
        self.first.0..self.first.0 + self.count
    }
}

impl Slot {
    /// Appends it to others, joined to the last where they lie side by side and are alike.
    pub(crate) fn join(self, slots: &mut Vec<Self>) {
        if let Some(last) = slots.last_mut()
            && last.nodes.numbers().end == self.nodes.first.0
            && (last.workers, last.chips) == (self.workers, self.chips)
        {
            last.nodes.count += self.nodes.count;
            return;
        }
        slots.push(self);
    }
}

impl Placement {
    /// Workers of a gang that have a place, those that stand by included.
    pub fn workers(&self, gang: usize) -> u32 {
        self.gangs.get(gang).map_or(0, |slots| workers_of(slots))
    }

    /// The chips in thousandths of a job that is placed so: an elastic gang has as many as it has workers.
    pub fn chip_milli(&self, job: &Job) -> u64 {
        job.gangs.iter().enumerate().map(|(place, gang)| u64::from(self.workers(place)) * gang.chips.milli()).sum()
    }

    /// The nodes of all gangs, ascending, each once.
    pub fn nodes(&self) -> Vec<NodeRange> {
        let mut ranges: Vec<NodeRange> = self.slots().map(|slot| slot.nodes).collect();
        ranges.sort_unstable();
        let mut joined: Vec<NodeRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.first.0 <= last.numbers().end => {
                    let end = last.numbers().end.max(range.numbers().end);
                    last.count = end - last.first.0;
                }
                _ => joined.push(range),
            }
        }
        joined
    }

    /// The slots of all gangs.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.gangs.iter().flatten().copied()
    }
}
