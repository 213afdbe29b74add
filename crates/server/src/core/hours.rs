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
        if self.state.fleet().caps.iter().any(|cap| cap.schedule.is_some()) {
            // None lasts longer than a day.
            self.look_at_hours(self.state.now() - Duration::DAY);
        }
    }

    /// Announces what begins later than was looked at the last time, and looks again in an hour.
    pub(super) fn look_at_hours(&mut self, looked_until: Timestamp) {
        let now = self.state.now();
        let until = now.saturating_add(AHEAD + AHEAD);
        let lowered = self.state.fleet().lowered_in(&(looked_until..until));
        for Lowered { name, cap, time, watts } in lowered.into_iter().filter(|lowered| lowered.time.end > now) {
            let mut known = self.state.curtailments().values();
            if !known.any(|announced| announced.spec.name == name) {
                let (from, until) = (time.start.max(now), time.end);
                let spec = Curtailment { name, cap: LimitIx(cap), watts, from, until };
                let curtailment = CurtailmentId(self.next_curtailment);
                self.emit_engine(EngineEvent::CurtailmentAnnounced { curtailment, spec });
            }
        }
        self.timers.set(now.saturating_add(AHEAD), Timer::Hours(until));
    }
}
