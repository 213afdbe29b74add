//! Caps that follow the clock: the times in which they allow less are announced ahead, like grid events.

use offtake_engine::{Curtailment, CurtailmentId, Event as EngineEvent, LimitIx};
use offtake_fleet::Lowered;
use offtake_units::{Duration, Timestamp};

use super::Core;
use super::timers::Timer;

/// How long before it begins at the least everybody learns of such a time. What outlasts its beginning starts from then on
/// only within what it leaves, so earlier would leave power unused.
const AHEAD: Duration = Duration::HOUR;

impl Core {
    /// Begins to look at the clock, as after a restart.
    pub(super) fn arm_hours(&mut self) {
        // None lasts longer than a day.
        let looked_until = self.state.now() - Duration::DAY;
        self.end_unlisted_hours(looked_until);
        if self.state.fleet().caps.iter().any(|cap| cap.schedule.is_some()) {
            self.look_at_hours(looked_until);
        }
    }

    /// Announces what begins later than was looked at the last time, and looks again in an hour.
    pub(super) fn look_at_hours(&mut self, looked_until: Timestamp) {
        let now = self.state.now();
        let until = now.saturating_add(AHEAD + AHEAD);
        let lowered = self.state.fleet().lowered_in(&(looked_until..until));
        for lowered in lowered.into_iter().filter(|lowered| lowered.time.end > now) {
            let mut known = self.state.curtailments().values();
            if !known.any(|announced| is_for(&announced.spec, &lowered)) {
                let Lowered { name, cap, time, watts } = lowered;
                let (from, until) = (time.start.max(now), time.end);
                let spec = Curtailment { name, cap: LimitIx(cap), watts, from, until };
                let curtailment = CurtailmentId(self.next_curtailment);
                self.emit_engine(EngineEvent::CurtailmentAnnounced { curtailment, spec });
            }
        }
        self.timers.set(now.saturating_add(AHEAD), Timer::Hours(until));
    }

    /// What was announced of times that the fleet file has no more, or has otherwise, is over.
    fn end_unlisted_hours(&mut self, looked_until: Timestamp) {
        let fleet = self.state.fleet();
        let listed = fleet.lowered_in(&(looked_until..self.state.now().saturating_add(AHEAD + AHEAD)));
        let is_unlisted = |spec: &Curtailment| {
            let is_hours = fleet.caps.get(spec.cap.ix()).is_some_and(|cap| spec.name.starts_with(&cap.hours_prefix()));
            is_hours && !listed.iter().any(|lowered| is_for(spec, lowered))
        };
        let all = self.state.curtailments().iter();
        let over: Vec<CurtailmentId> = all.filter(|(_, it)| is_unlisted(&it.spec)).map(|(id, _)| *id).collect();
        for curtailment in over {
            self.emit_engine(EngineEvent::CurtailmentEnded { curtailment });
        }
    }
}

/// Whether a curtailment is that of such a time. Two that begin together have one name.
fn is_for(spec: &Curtailment, lowered: &Lowered) -> bool {
    let Lowered { name, cap, time, watts } = lowered;
    (&spec.name, spec.cap, spec.watts, spec.until) == (name, LimitIx(*cap), *watts, time.end)
}
