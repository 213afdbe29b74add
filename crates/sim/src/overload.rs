//! Lost feeds: what the others of a redundancy group carry then, against their time-current curves.
//!
//! Where a circuit has a curve, more work runs than the others could carry for ever without one of them. Once one is lost, a
//! curtailment brings each of the others back to its rating before its breaker opens.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use offtake_engine::{
    Curtailment, CurtailmentId, Event, Fact, JobId, LEAST_NOTICE, LimitIx, State, StopReason, Throttle,
};
use offtake_fleet::{CapKind, CapTarget, Circuit, CircuitIx, Fleet};
use offtake_units::{Duration, Timestamp, Watts};

use crate::course::Course;
use crate::meters::FeedLoss;

/// What came of the loss of a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedOutcome {
    /// What each other circuit carried for it.
    pub loads: Vec<FeedLoad>,
    /// How often work was throttled further, pauses aside, so that ratings were kept.
    pub throttled: u64,
    /// How often work was paused where it was.
    pub paused: u64,
    /// Attempts that were stopped for it.
    pub stopped: u64,
}

/// What a circuit carried for another, counted as a breaker does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedLoad {
    /// The circuit.
    pub circuit: CircuitIx,
    /// The most that it carried.
    pub most: Watts,
    /// For how long at a time it carried more than its rating for continuous load, at most.
    pub over: Duration,
    /// For how long it carried more than its curve allows, or for longer.
    pub beyond: Duration,
}

/// A circuit while another is out.
#[derive(Clone, Debug)]
struct StandIn {
    cap: LimitIx,
    /// What it carries for ever, and beyond that for how long, the smallest load first.
    curve: Vec<(Watts, Duration)>,
    /// For how long without a break it has carried more than each of these.
    since: Vec<Duration>,
    load: FeedLoad,
}

impl StandIn {
    /// The circuits that stand in for another.
    fn all(fleet: &Fleet, lost: CircuitIx) -> Vec<Self> {
        let caps = (0..).map(LimitIx).zip(&fleet.caps);
        let of_loss = caps.filter_map(|(limit, cap)| match cap.target {
            // Others only count for a meter.
            CapTarget::CircuitWithout { circuit, lost: other } if other == lost && cap.kind == CapKind::Breaker => {
                Some((limit, circuit))
            }
            _ => None,
        });
        let stand_in = |(cap, circuit): (LimitIx, CircuitIx)| {
            let curve = curve(&fleet.circuits[circuit.ix()]);
            let load = FeedLoad { circuit, most: Watts::ZERO, over: Duration::ZERO, beyond: Duration::ZERO };
            Self { cap, since: vec![Duration::ZERO; curve.len()], curve, load }
        };
        of_loss.map(stand_in).collect()
    }

    /// It has carried so much for so long.
    fn carry(&mut self, watts: Watts, span: Duration) {
        self.load.most = self.load.most.max(watts);
        let mut beyond = Duration::ZERO;
        for ((limit, lasts), since) in self.curve.iter().zip(&mut self.since) {
            let before = *since;
            *since = if watts > *limit { before + span } else { Duration::ZERO };
            let late = (*since - before.max(*lasts)).max(Duration::ZERO);
            beyond = beyond.max(late);
        }
        self.load.beyond += beyond;
        self.load.over = self.load.over.max(self.since[0]);
    }
}

/// What a circuit carries for ever, and beyond that for how long, the smallest load first. Between two points of its curve
/// a load lasts as long as the larger one.
fn curve(circuit: &Circuit) -> Vec<(Watts, Duration)> {
    let limits = std::iter::once(circuit.continuous()).chain(circuit.overload.iter().map(|point| circuit.at(point)));
    let lasts = circuit.overload.iter().map(|point| point.lasts).chain([Duration::ZERO]);
    limits.zip(lasts).collect()
}

/// What is done at an instant; what is sooner in this list goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Returned,
    Lost,
    /// The loss is known, and the others are to be relieved.
    Known,
}

/// Curtailments by lost feeds have identities from here on, behind those of lost utilities.
const FIRST: u64 = 1 << 42;

/// The lost feeds of a run.
#[derive(Debug)]
pub(crate) struct Feeds<'a> {
    losses: &'a [FeedLoss],
    stand_ins: Vec<Vec<StandIn>>,
    outcomes: Vec<FeedOutcome>,
    steps: BinaryHeap<Reverse<(Timestamp, Step, usize)>>,
    out: BTreeSet<usize>,
    curtailed: Vec<(usize, CurtailmentId)>,
    announced: u64,
    /// Since when what is drawn is as it is.
    since: Timestamp,
}

impl<'a> Feeds<'a> {
    pub fn new(losses: &'a [FeedLoss], fleet: &Fleet, start: Timestamp) -> Self {
        let mut steps = BinaryHeap::new();
        for (place, loss) in losses.iter().enumerate() {
            let known = loss.at.saturating_add(Circuit::RELIEVED_IN) - LEAST_NOTICE;
            let all = [(loss.at, Step::Lost), (known, Step::Known), (loss.until, Step::Returned)];
            let due = all.into_iter().filter(|(at, step)| *at < loss.until || *step == Step::Returned);
            steps.extend(due.map(|(at, step)| Reverse((at, step, place))));
        }
        Self {
            losses,
            stand_ins: losses.iter().map(|loss| StandIn::all(fleet, loss.circuit)).collect(),
            outcomes: vec![FeedOutcome::default(); losses.len()],
            steps,
            out: BTreeSet::new(),
            curtailed: Vec::new(),
            announced: 0,
            since: start,
        }
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Timestamp> {
        self.steps.peek().map(|Reverse((at, ..))| *at)
    }

    /// What is drawn has been drawn since somebody last looked.
    pub fn read(&mut self, now: Timestamp, state: &State) {
        let span = now - std::mem::replace(&mut self.since, now);
        if span <= Duration::ZERO {
            return;
        }
        for place in &self.out {
            for stand_in in &mut self.stand_ins[*place] {
                stand_in.carry(state.capacity().limits()[stand_in.cap.ix()].load(), span);
            }
        }
    }

    /// Everything that happens up to an instant.
    pub fn happen(&mut self, now: Timestamp, course: &mut Course) {
        while self.next().is_some_and(|at| at <= now)
            && let Some(Reverse((_, step, place))) = self.steps.pop()
        {
            match step {
                Step::Lost => _ = self.out.insert(place),
                Step::Known => self.relieve(now, place, course),
                Step::Returned => {
                    self.out.remove(&place);
                    let (over, rest): (Vec<_>, Vec<_>) = self.curtailed.drain(..).partition(|(of, _)| *of == place);
                    self.curtailed = rest;
                    for (_, curtailment) in over {
                        course.tell(now, Event::CurtailmentEnded { curtailment });
                    }
                }
            }
        }
    }

    /// Those that carry more for the lost one than they can for ever are brought back to that. Nobody knows for how long.
    fn relieve(&mut self, now: Timestamp, place: usize, course: &mut Course) {
        let fleet = course.state.fleet();
        let name = format!("feed {} lost", fleet.circuits[self.losses[place].circuit.ix()].name);
        let relieved = self.stand_ins[place].iter().map(|stand_in| (stand_in.cap, stand_in.curve[0].0));
        let relieved: Vec<(LimitIx, Watts)> =
            relieved.filter(|(cap, watts)| fleet.caps[cap.ix()].watts > *watts).collect();
        for (cap, watts) in relieved {
            let curtailment = CurtailmentId(FIRST + self.announced);
            self.announced += 1;
            self.curtailed.push((place, curtailment));
            let from = now.saturating_add(LEAST_NOTICE);
            let spec = Curtailment { name: name.clone(), cap, watts, from, until: Timestamp::NEVER };
            course.tell(now, Event::CurtailmentAnnounced { curtailment, spec });
        }
    }

    /// Takes note of what a pass decided.
    pub fn heed(&mut self, course: &Course) {
        if self.curtailed.is_empty() {
            return;
        }
        // Paused work draws nothing, and would.
        let draws = |job: JobId, place: &usize| {
            let mut caps = self.stand_ins[*place].iter().map(|stand_in| stand_in.cap);
            caps.any(|cap| course.state.drawn_by_at(job, cap, Throttle::NONE) > Watts::ZERO)
        };
        let concerned = |job: JobId| self.out.iter().copied().find(|place| draws(job, place));
        for Fact { event, .. } in &course.decided {
            let Event::JobStopping { job, reason: StopReason::Curtailed, .. } = event else { continue };
            if let Some(place) = concerned(*job) {
                self.outcomes[place].stopped += 1;
            }
        }
        for (job, to) in &course.throttled {
            if let Some(place) = concerned(*job) {
                let came = &mut self.outcomes[place];
                *(if to.is_paused() { &mut came.paused } else { &mut came.throttled }) += 1;
            }
        }
    }

    /// What the run found.
    pub fn finish(mut self, end: Timestamp, state: &State) -> Vec<FeedOutcome> {
        self.read(end, state);
        for (came, stand_ins) in self.outcomes.iter_mut().zip(self.stand_ins) {
            came.loads = stand_ins.into_iter().map(|stand_in| stand_in.load).collect();
        }
        self.outcomes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_lasts_as_long_as_its_curve_says_without_a_break() {
        let secs = Duration::from_secs;
        let load = FeedLoad { circuit: CircuitIx(0), most: Watts::ZERO, over: Duration::ZERO, beyond: Duration::ZERO };
        // 100 W for ever, up to 125 W for a minute, up to 200 W for five seconds.
        let curve = vec![(100, 60), (125, 5), (200, 0)];
        let curve: Vec<_> = curve.into_iter().map(|(watts, lasts)| (Watts::new(watts), secs(lasts))).collect();
        let new =
            || StandIn { cap: LimitIx(0), since: vec![Duration::ZERO; 3], curve: curve.clone(), load: load.clone() };
        for (carried, most, over, beyond) in [
            (&[(100, 900)][..], 100, 0, 0),
            (&[(125, 60), (100, 1), (125, 60)], 125, 60, 0),
            (&[(125, 61)], 125, 61, 1),
            (&[(126, 5), (101, 55)], 126, 60, 0),
            (&[(126, 3), (130, 3), (110, 60)], 130, 66, 7),
            (&[(201, 2), (90, 5)], 201, 2, 2),
        ] {
            let mut stand_in = new();
            for (watts, span) in carried {
                stand_in.carry(Watts::new(*watts), secs(*span));
            }
            let FeedLoad { most: found, over: lasted, beyond: late, .. } = stand_in.load;
            assert_eq!((found, lasted, late), (Watts::new(most), secs(over), secs(beyond)), "{carried:?}");
        }
    }
}
