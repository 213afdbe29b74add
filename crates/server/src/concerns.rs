//! Which job a fact is about: who may see it follows from that.

use offtake_engine::Event as EngineEvent;

use crate::fact::Event;

impl Event {
    /// The job that this is about, if it is about one.
    pub fn job(&self) -> Option<u64> {
        match self {
            Self::Engine(event) => of_engine(event),
            Self::HeldByUser { job, .. }
            | Self::StepAsked { job, .. }
            | Self::StepEnded { job, .. }
            | Self::AttemptEnded { job, .. } => Some(*job),
            Self::ServerStarted { .. }
            | Self::AgentJoined { .. }
            | Self::AgentChanged { .. }
            | Self::TokenMade { .. }
            | Self::TokenRevoked { .. }
            | Self::JoinTokenMade { .. }
            | Self::EnergyMetered { .. }
            | Self::Keyed { .. } => None,
        }
    }

    /// Whether whoever waits for the end of a step should look again.
    pub(crate) fn ends_a_step(&self) -> bool {
        matches!(self, Self::StepEnded { .. } | Self::AttemptEnded { .. })
    }
}

fn of_engine(event: &EngineEvent) -> Option<u64> {
    match event {
        EngineEvent::JobSubmitted { job, .. }
        | EngineEvent::JobRejected { job, .. }
        | EngineEvent::JobPlaced { job, .. }
        | EngineEvent::NodesSwapped { job, .. }
        | EngineEvent::JobStarted { job }
        | EngineEvent::EstimateCorrected { job, .. }
        | EngineEvent::JobThrottled { job, .. }
        | EngineEvent::JobStopping { job, .. }
        | EngineEvent::JobRequeued { job, .. }
        | EngineEvent::JobHeld { job }
        | EngineEvent::JobReleased { job }
        | EngineEvent::LevelAwaited { job }
        | EngineEvent::LevelCrossed { job }
        | EngineEvent::JobFailed { job }
        | EngineEvent::JobFinished { job }
        | EngineEvent::JobCancelled { job }
        | EngineEvent::HoldPlaced { job, .. }
        | EngineEvent::HoldReleased { job } => Some(job.0),
        EngineEvent::ServiceSubmitted { service, .. }
        | EngineEvent::ServiceScaled { service, .. }
        | EngineEvent::ServiceBounded { service, .. }
        | EngineEvent::ServiceCancelled { service } => Some(service.0),
        EngineEvent::ReplicaAdded { replica, .. } | EngineEvent::ReplicaRetired { replica, .. } => Some(replica.0),
        EngineEvent::FaultSeen { job, .. } => job.map(|job| job.0),
        EngineEvent::FleetLoaded { .. }
        | EngineEvent::FleetChanged { .. }
        | EngineEvent::PolicySet { .. }
        | EngineEvent::ReservationMade { .. }
        | EngineEvent::ReservationCancelled { .. }
        | EngineEvent::ReservationRefused { .. }
        | EngineEvent::WindowPlaced { .. }
        | EngineEvent::WindowMissed { .. }
        | EngineEvent::WindowEnded { .. }
        | EngineEvent::NodeLost { .. }
        | EngineEvent::NodeReturned { .. }
        | EngineEvent::NodeDrained { .. }
        | EngineEvent::NodeResumed { .. }
        | EngineEvent::NodeProved { .. }
        | EngineEvent::NodeShared { .. }
        | EngineEvent::NodeThrottles { .. }
        | EngineEvent::CapSet { .. }
        | EngineEvent::CapRose { .. }
        | EngineEvent::CurtailmentAnnounced { .. }
        | EngineEvent::CurtailmentBegan { .. }
        | EngineEvent::CurtailmentEnded { .. }
        | EngineEvent::CurtailmentUnmet { .. }
        | EngineEvent::PricePublished { .. }
        | EngineEvent::CarbonPublished { .. }
        | EngineEvent::WeatherPublished { .. } => None,
    }
}
