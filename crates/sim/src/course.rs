//! Virtual time over a state: what has its nodes ends when its time says, and passes decide in between.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use offtake_engine::{
    ChipTime, Event, Fact, JobId, LimitIx, Phase, Placement, ServiceId, Stage, State, StopReason, Throttle, decide,
    speed, starts_again,
};
use offtake_fleet::{Fleet, Meter, NodeIx, SiteIx};
use offtake_units::{Duration, Ppm, Timestamp, Watts};
use offtake_workload::Job;

use crate::failures::FailureModel;
use crate::occupants::Occupants;
use crate::progress::{Ended, Kept, Outset, Progress, Saving, Spent};
use crate::storage::Storage;

/// A state over which virtual time passes.
#[derive(Debug)]
pub(crate) struct Course {
    /// The state.
    pub state: State,
    /// What the last pass decided.
    pub decided: Vec<Fact>,
    /// Work that it took a level further down, paused work among it, and to which.
    pub throttled: Vec<(JobId, Throttle)>,
    /// Attempts that have ended since somebody last took note.
    pub closed: Vec<(JobId, Ended)>,
    /// What became of the chip-time of attempts that have ended.
    pub spent: Spent,
    /// How jobs that lost nodes went on.
    pub repairs: Repairs,
    /// That chip-time by tenant and accelerator kind.
    pub tenants: BTreeMap<String, Vec<ChipTime>>,
    /// Sites that draw nothing from their utility.
    pub off_grid: BTreeSet<SiteIx>,
    /// Sites of which no host has power.
    pub unpowered: BTreeSet<SiteIx>,
    /// When running jobs end, with the attempt that does: one that is stopped before ends no more.
    ends: BinaryHeap<Reverse<(Timestamp, JobId, u32)>>,
    /// When jobs that give way to others have left, which, in which attempt, and what then becomes of their work.
    leaving: BinaryHeap<Reverse<(Timestamp, JobId, u32, Kept)>>,
    running: BTreeMap<JobId, Attempt>,
    /// Work that is saved, in time at full speed, of jobs that were stopped.
    saved: BTreeMap<JobId, Duration>,
    costs: Costs,
    /// By site.
    storage: Vec<Storage>,
    /// Who is on each node; kept only where somebody asks.
    occupants: Option<Occupants>,
    /// Nodes that are slow without anybody knowing, and their speeds.
    slow: BTreeMap<NodeIx, Ppm>,
    /// Jobs that failed and wait for nodes, since when.
    interrupted: BTreeMap<JobId, Timestamp>,
    /// How long jobs really take whose limit is another.
    takes: BTreeMap<JobId, Duration>,
}

/// How jobs that lost nodes went on: those with spares at once, the others when their turn and room came again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repairs {
    /// Attempts that went on with spares.
    pub swaps: u64,
    /// Nodes for which a spare came in.
    pub nodes: u64,
    /// Attempts after a failure that had to wait for nodes first.
    pub waits: u64,
    /// For how long, in all.
    pub waited: Duration,
}

/// What it costs to start again and to save work; nothing where nobody says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Costs {
    /// From the placement of an attempt that is not a job's first until its workers run: image and initialisation. That
    /// of the first is a part of the job's own time.
    pub restart: Duration,
    /// Whether work goes on while a checkpoint is written.
    pub asynchronous: bool,
    /// Whether checkpoints take time at all.
    pub storage: bool,
}

impl Costs {
    /// Those of a fleet that fails like this.
    pub fn of(failures: Option<&FailureModel>) -> Self {
        failures.map_or_else(Self::default, |model| Self {
            restart: model.image + model.initialise,
            asynchronous: model.asynchronous,
            storage: true,
        })
    }
}

/// An attempt on its way.
#[derive(Clone, Debug)]
struct Attempt {
    number: u32,
    spec: Arc<Job>,
    progress: Progress,
    ends: Timestamp,
    placement: Arc<Placement>,
    /// The power level that its chips were told last.
    level: Throttle,
    /// Where it writes its checkpoints, how many bytes, and how.
    writes: Option<(SiteIx, u64, Saving)>,
}

impl Course {
    /// The course of a state from where it is.
    pub fn new(state: State) -> Self {
        let mut course = Self {
            decided: Vec::new(),
            throttled: Vec::new(),
            closed: Vec::new(),
            spent: Spent::default(),
            repairs: Repairs::default(),
            tenants: BTreeMap::new(),
            off_grid: BTreeSet::new(),
            unpowered: BTreeSet::new(),
            ends: BinaryHeap::new(),
            leaving: BinaryHeap::new(),
            running: BTreeMap::new(),
            saved: BTreeMap::new(),
            costs: Costs::default(),
            storage: vec![Storage::new(None); state.fleet().sites.len()],
            occupants: None,
            slow: BTreeMap::new(),
            interrupted: BTreeMap::new(),
            takes: BTreeMap::new(),
            state,
        };
        let running: Vec<(JobId, Attempt)> = course
            .state
            .jobs()
            .into_iter()
            .filter_map(|(job, work)| {
                let paused = course.state.paused().get(&job).copied();
                Some((job, resumed(work, paused, course.state.fleet())?))
            })
            .collect();
        for (job, attempt) in running {
            course.expect_end(job, &attempt);
            course.running.insert(job, attempt);
        }
        course
    }

    /// From now on restarts and checkpoints take their time, and it is known who is on each node. To be said before
    /// anything runs.
    pub fn with_costs(mut self, costs: Costs) -> Self {
        let fleet = Arc::clone(self.state.fleet());
        let limits = fleet.sites.iter().map(|site| site.storage_bandwidth.filter(|_| costs.storage));
        self.storage = limits.map(Storage::new).collect();
        self.occupants = Some(Occupants::new(fleet.nodes.len()));
        self.costs = costs;
        self
    }

    /// A job that is about to come takes so long, whatever it may take.
    pub fn takes(&mut self, job: JobId, time: Duration) {
        self.takes.insert(job, time);
    }

    /// Something happens.
    pub fn tell(&mut self, at: Timestamp, event: Event) {
        match &event {
            Event::JobFinished { job } => {
                self.close(at, *job, Kept::All);
            }
            Event::JobFailed { job } | Event::JobCancelled { job } => {
                self.close(at, *job, Kept::Nothing);
            }
            Event::JobRequeued { job, .. } => {
                self.close(at, *job, Kept::Saved);
            }
            Event::ReplicaRetired { replica, .. } => {
                self.close(at, *replica, Kept::All);
            }
            _ => {}
        }
        self.state.apply(&Fact { at, event });
    }

    /// When the next job ends, or has left for another.
    pub fn next(&mut self) -> Option<Timestamp> {
        [self.next_end(), self.next_leaving()].into_iter().flatten().min()
    }

    /// When a window of a reservation ends next, a node has proved itself, a job has waited for a level long enough, or a
    /// curtailment asks for something.
    pub fn next_due(&self) -> Option<Timestamp> {
        let state = &self.state;
        let due = [
            state.next_window(),
            state.next_proof(),
            state.next_crossing(),
            state.next_curtailment(),
            state.next_rise(),
        ];
        let due = due.into_iter().flatten();
        due.filter(|at| *at > self.state.now()).min()
    }

    fn next_leaving(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((at, job, number, _))) = self.leaving.peek().copied() {
            if self.runs(job, number) {
                return Some(at);
            }
            self.leaving.pop();
        }
        None
    }

    fn next_end(&mut self) -> Option<Timestamp> {
        while let Some(Reverse((end, job, number))) = self.ends.peek().copied() {
            let attempt = self.running.get(&job);
            if attempt.is_some_and(|attempt| attempt.number == number && attempt.ends == end) {
                return Some(end);
            }
            self.ends.pop();
        }
        None
    }

    fn expect_end(&mut self, job: JobId, attempt: &Attempt) {
        if attempt.ends != Timestamp::NEVER {
            self.ends.push(Reverse((attempt.ends, job, attempt.number)));
        }
    }

    /// The next job that has come to its end ends.
    pub fn end_next(&mut self, now: Timestamp) -> Option<JobId> {
        self.next_end().filter(|end| *end <= now)?;
        let Reverse((_, job, _)) = self.ends.pop()?;
        self.tell(now, Event::JobFinished { job });
        self.saved.remove(&job);
        self.takes.remove(&job);
        Some(job)
    }

    /// The next job that has left for another waits again.
    pub fn leave_next(&mut self, now: Timestamp) -> Option<JobId> {
        self.next_leaving().filter(|at| *at <= now)?;
        let Reverse((_, job, _, kept)) = self.leaving.pop()?;
        let work = self.state.job(job);
        let reason = work.and_then(|work| match work.phase {
            Phase::Running { stage: Stage::Stopping(reason), .. } => Some(reason),
            _ => None,
        });
        match reason {
            Some(StopReason::Retired) => self.retire(now, job),
            Some(StopReason::Curtailed) if !work.is_some_and(|work| starts_again(&work.spec)) => {
                self.tell(now, Event::JobFailed { job });
            }
            _ => _ = self.requeue(now, job, false, kept),
        }
        Some(job)
    }

    /// A replica that its service wants no more is gone.
    pub fn retire(&mut self, now: Timestamp, replica: JobId) {
        let Some(service) = self.state.job(replica).and_then(|work| work.spec.service) else { return };
        self.tell(now, Event::ReplicaRetired { service: ServiceId(service), replica });
    }

    /// A job is being stopped for another, or for its power. It uses its grace to save its work as it is now; with nothing
    /// to save, or too little time to, it is gone at once.
    fn leave(&mut self, now: Timestamp, job: JobId) {
        let Some(work) = self.state.job(job) else { return };
        let Phase::Running { ends, stage: Stage::Stopping(reason), placement, .. } = &work.phase else { return };
        let (ends, number) = (*ends, work.attempts);
        let saves = match reason {
            _ if placement.throttle.is_paused() => false,
            StopReason::Curtailed => {
                let takes = self.state.time_to_save(&work.spec, placement);
                takes.is_some_and(|takes| takes <= ends - now)
            }
            _ => work.spec.checkpoint.is_some(),
        };
        let sound = self.fail(now, job).is_some();
        let at = if saves && sound { ends } else { now };
        self.leaving.push(Reverse((at, job, number, if saves && sound { Kept::All } else { Kept::Saved })));
    }

    /// A running job is stopped and waits again. What it did since its last checkpoint is lost; without any, all is.
    pub fn interrupt(&mut self, now: Timestamp, job: JobId, held: bool) -> Ended {
        self.requeue(now, job, held, Kept::Saved)
    }

    /// A running job has failed. With spares for the nodes that it lost it starts again on those, from its last
    /// checkpoint; otherwise it waits for its turn and for room.
    pub fn recover(&mut self, now: Timestamp, job: JobId) -> Ended {
        self.repair(now, job, Kept::Saved).unwrap_or_else(|| {
            self.interrupted.insert(job, now);
            self.interrupt(now, job, false)
        })
    }

    /// A running job is asked to save its work and stopped, as nodes of it are drained. It goes on with spares, or waits
    /// again. Who never saves loses all.
    pub fn evacuate(&mut self, now: Timestamp, job: JobId) -> Ended {
        let saves = self.state.job(job).is_some_and(|work| work.spec.checkpoint.is_some());
        let kept = if saves { Kept::All } else { Kept::Saved };
        self.repair(now, job, kept).unwrap_or_else(|| self.requeue(now, job, false, kept))
    }

    fn repair(&mut self, now: Timestamp, job: JobId, kept: Kept) -> Option<Ended> {
        let swaps = self.state.repair(job)?;
        let (ended, saved_until) = self.stop(now, job, kept)?;
        self.repairs.swaps += 1;
        self.repairs.nodes += swaps.len() as u64;
        self.tell(now, Event::NodesSwapped { job, swaps, saved_until });
        if let Some(Phase::Running { placement, .. }) = self.state.job(job).map(|work| &work.phase) {
            let placement = Arc::clone(placement);
            self.begin(now, job, &placement);
        }
        Some(ended)
    }

    fn requeue(&mut self, now: Timestamp, job: JobId, held: bool, kept: Kept) -> Ended {
        let Some((ended, saved_until)) = self.stop(now, job, kept) else { return Ended::default() };
        self.tell(now, Event::JobRequeued { job, saved_until, held });
        ended
    }

    /// An attempt is over, and its job is not: with the instant up to which its work is saved.
    fn stop(&mut self, now: Timestamp, job: JobId, kept: Kept) -> Option<(Ended, Option<Timestamp>)> {
        let work = self.state.job(job)?;
        // What a replica has served is served.
        let is_replica = work.spec.service.is_some();
        let kept = if is_replica { Kept::All } else { kept };
        let saves = work.spec.checkpoint.is_some() || kept == Kept::All;
        let broken = self.running.get(&job).and_then(|attempt| attempt.progress.broken());
        let ended = self.close(now, job, kept)?;
        if !is_replica && ended.saved > 0 {
            self.saved.insert(job, Duration::from_millis(ended.saved));
        }
        let idle = broken.map_or(Duration::ZERO, |broken| now - broken);
        Some((ended, saves.then(|| now - idle - Duration::from_millis(ended.rework))))
    }

    /// An attempt is over.
    fn close(&mut self, now: Timestamp, job: JobId, kept: Kept) -> Option<Ended> {
        let attempt = self.running.remove(&job)?;
        if let Some((site, bytes, saving)) = attempt.writes {
            self.storage[site.ix()].flows(bytes, saving, false);
        }
        if let Some(occupants) = &mut self.occupants {
            occupants.leave(job, &attempt.placement);
        }
        let ended = attempt.progress.end(now, kept);
        let (held, preferred) = (attempt.placement.chip_milli(&attempt.spec), attempt.spec.chip_milli());
        let spares = attempt.spec.spare_chip_milli();
        self.spent.add(held - spares, preferred - spares, spares, ended);
        self.charge(now, &attempt);
        self.closed.push((job, ended));
        Some(ended)
    }

    /// Books what an attempt took on its tenant.
    fn charge(&mut self, now: Timestamp, attempt: &Attempt) {
        let fleet = self.state.fleet();
        let span = (now - attempt.progress.placed()).as_millis();
        if !self.tenants.contains_key(&attempt.spec.tenant) {
            let none = vec![ChipTime::default(); fleet.accelerators.len()];
            self.tenants.insert(attempt.spec.tenant.clone(), none);
        }
        let Some(accounts) = self.tenants.get_mut(&attempt.spec.tenant) else { return };
        for (gang, slots) in attempt.spec.gangs.iter().zip(&attempt.placement.gangs) {
            for slot in slots {
                let kind = fleet.kind(fleet.nodes[slot.nodes.first.ix()]);
                let Some(account) = kind.accelerator.and_then(|kind| accounts.get_mut(kind.ix())) else { continue };
                let workers = u64::from(slot.workers) * u64::from(slot.nodes.count);
                account.0 += i128::from(workers * gang.chips.milli()) * i128::from(span);
            }
        }
    }

    /// Time is over: what runs has done its work so far.
    pub fn finish(&mut self, now: Timestamp) {
        let running: Vec<JobId> = self.running.keys().copied().collect();
        for job in running {
            self.close(now, job, Kept::All);
        }
    }

    /// One pass; what it decided is in [`Course::decided`].
    pub fn pass(&mut self, now: Timestamp) {
        self.decided.clear();
        self.throttled.clear();
        decide(&mut self.state, now, &mut self.decided);
        let decided = std::mem::take(&mut self.decided);
        for fact in &decided {
            match &fact.event {
                Event::JobPlaced { job, placement } => self.begin(now, *job, placement),
                Event::JobStopping { job, .. } => self.leave(now, *job),
                Event::JobThrottled { job, to } => self.throttle(now, *job, *to),
                Event::ReplicaRetired { replica, .. } => {
                    self.close(now, *replica, Kept::All);
                }
                _ => {}
            }
        }
        self.decided = decided;
    }

    fn begin(&mut self, now: Timestamp, job: JobId, placement: &Arc<Placement>) {
        let Some(work) = self.state.job(job) else { return };
        let (number, spec) = (work.attempts, Arc::clone(&work.spec));
        if let Some(since) = self.interrupted.remove(&job) {
            self.repairs.waits += 1;
            self.repairs.waited += now - since;
        }
        let before = self.saved.get(&job).copied().unwrap_or(Duration::ZERO);
        let to_do = self.takes.get(&job).copied().or(spec.duration);
        let left = to_do.map(|duration| duration - before);
        let site = site_of(self.state.fleet(), placement);
        let storage = &mut self.storage[site.ix()];
        let mut begins = now;
        if number > 1 {
            begins = begins + self.costs.restart;
            if let Some(checkpoint) = spec.checkpoint.filter(|_| before > Duration::ZERO) {
                begins = begins + storage.read(begins, checkpoint.bytes);
            }
        }
        // Who ends before its first checkpoint writes none.
        let checkpoint = spec.checkpoint.filter(|checkpoint| left.is_none_or(|left| left > checkpoint.interval));
        let writes = checkpoint.map(|checkpoint| {
            let mut saving = storage.saving(checkpoint);
            if self.costs.asynchronous {
                saving.write = Duration::ZERO;
            }
            storage.flows(checkpoint.bytes, saving, true);
            (site, checkpoint.bytes, saving)
        });
        let progress = Progress::begin(Outset {
            placed: now,
            begins,
            before,
            to_do,
            saving: writes.map(|(.., saving)| saving),
            speed: self.speed_on(&spec, placement),
        });
        let ends = progress.ends();
        let level = placement.throttle;
        let attempt = Attempt { number, spec, progress, ends, placement: Arc::clone(placement), level, writes };
        if let Some(occupants) = &mut self.occupants {
            occupants.enter(job, placement);
        }
        self.expect_end(job, &attempt);
        self.running.insert(job, attempt);
    }

    /// The speed of a job with its workers on some nodes, of which the slowest that works counts.
    fn speed_on(&self, spec: &Job, placement: &Placement) -> Ppm {
        let speed = speed(spec, placement, self.state.fleet());
        if self.slow.is_empty() {
            return speed;
        }
        let slow = placement.slots().flat_map(|slot| {
            let numbers = slot.nodes.numbers();
            let slow = self.slow.range(NodeIx(numbers.start)..NodeIx(numbers.end));
            slow.filter(|(node, _)| placement.works_on(**node)).map(|(_, speed)| *speed)
        });
        slow.min().map_or(speed, |slow| {
            let parts = u64::from(slow.parts()) * u64::from(speed.parts()) / u64::from(Ppm::ONE.parts());
            Ppm::new(u32::try_from(parts).unwrap_or(u32::MAX))
        })
    }

    // What happens to nodes.

    /// The jobs that work on a node.
    pub fn on_node(&self, node: NodeIx) -> Vec<JobId> {
        let there = self.occupants.as_ref().map_or(&[][..], |occupants| occupants.on(node));
        let works = |job: &JobId| {
            let placement = self.running.get(job).map(|attempt| &attempt.placement);
            placement.is_some_and(|placement| placement.spares.is_empty() || placement.works_on(node))
        };
        there.iter().copied().filter(works).collect()
    }

    /// A node works at another speed from now on, and with it every gang that is on it.
    pub fn slow_down(&mut self, now: Timestamp, node: NodeIx, speed: Ppm) {
        if speed == Ppm::ONE {
            self.slow.remove(&node)
        } else {
            self.slow.insert(node, speed)
        };
        self.on_node(node).into_iter().for_each(|job| self.change_speed(now, job));
    }

    /// The chips of a job work at another power level from now on.
    fn throttle(&mut self, now: Timestamp, job: JobId, to: Throttle) {
        let Some(Phase::Running { placement, .. }) = self.state.job(job).map(|work| &work.phase) else { return };
        if let Some(attempt) = self.running.get_mut(&job) {
            attempt.placement = Arc::clone(placement);
            if to > std::mem::replace(&mut attempt.level, to) {
                self.throttled.push((job, to));
            }
            self.change_speed(now, job);
        }
    }

    /// A running job goes on at the speed of what it is on.
    fn change_speed(&mut self, now: Timestamp, job: JobId) {
        let Some(mut attempt) = self.running.remove(&job) else { return };
        attempt.progress.change_speed(now, self.speed_on(&attempt.spec, &attempt.placement));
        attempt.ends = attempt.progress.ends();
        self.expect_end(job, &attempt);
        self.running.insert(job, attempt);
    }

    /// Nothing of a running job goes on any more, although it keeps its nodes until somebody finds out; gives the
    /// attempt, or none where that had happened before.
    pub fn fail(&mut self, now: Timestamp, job: JobId) -> Option<u32> {
        let attempt = self.running.get_mut(&job).filter(|attempt| attempt.progress.broken().is_none())?;
        attempt.progress.fail(now);
        attempt.ends = Timestamp::NEVER;
        Some(attempt.number)
    }

    /// Whether anything runs.
    pub fn is_busy(&self) -> bool {
        !self.running.is_empty()
    }

    /// Whether an attempt of a job still has its nodes.
    pub fn runs(&self, job: JobId, number: u32) -> bool {
        self.running.get(&job).is_some_and(|attempt| attempt.number == number)
    }

    /// Whether what a cap limits is at one of some sites.
    pub fn is_at(&self, cap: LimitIx, sites: &BTreeSet<SiteIx>) -> bool {
        let fleet = self.state.fleet();
        let domain = fleet.limited_by(fleet.caps[cap.ix()].target).first().map(|(domain, _)| *domain);
        domain.is_some_and(|domain| sites.contains(&fleet.domains[domain.ix()].site))
    }

    /// What is drawn under a cap from its utility, which is nothing while that is lost; at servers, whoever gives it.
    pub fn bought(&self, cap: LimitIx) -> Watts {
        let without = match self.state.fleet().caps[cap.ix()].meter {
            Meter::Facility => &self.off_grid,
            Meter::It => &self.unpowered,
        };
        let is_out = !without.is_empty() && self.is_at(cap, without);
        if is_out { Watts::ZERO } else { self.state.metered(cap) }
    }

    /// Draw at the servers and at the grid connections.
    pub fn draw(&self) -> (Watts, Watts) {
        let state = &self.state;
        let sites = (0..state.fleet().sites.len() as u32).map(SiteIx).filter(|site| !self.unpowered.contains(site));
        sites.fold((Watts::ZERO, Watts::ZERO), |(it, facility), site| {
            (it + state.capacity().site_draw(site), facility + state.facility_draw(site))
        })
    }
}

/// The attempt of a job that runs already: as far as its state tells.
fn resumed(work: &offtake_engine::Work, paused: Option<Timestamp>, fleet: &Fleet) -> Option<Attempt> {
    let Phase::Running { placement, since, ends, .. } = &work.phase else { return None };
    // Of paused work the pause is the last part.
    let pause = paused.map(|paused| (paused, work.spec.pause.unwrap_or_default()));
    let resumed = pause.map(|_| Placement { throttle: Throttle::NONE, ..Placement::clone(placement) });
    let saving = work.spec.checkpoint.map(|checkpoint| Saving { interval: checkpoint.interval, write: Duration::ZERO });
    let speed = speed(&work.spec, resumed.as_ref().unwrap_or(placement), fleet);
    let longest = pause.map_or(Duration::ZERO, |(_, longest)| longest);
    let to_do = (*ends != Timestamp::NEVER).then(|| speed.done_in(*ends - longest - *since));
    let outset = Outset { placed: *since, begins: *since, before: Duration::ZERO, to_do, saving, speed };
    let mut progress = Progress::begin(outset);
    if let Some((paused, _)) = pause {
        progress.change_speed(paused, Ppm::ZERO);
    }
    Some(Attempt {
        number: work.attempts,
        ends: if pause.is_some() { Timestamp::NEVER } else { *ends },
        progress,
        placement: Arc::clone(placement),
        level: placement.throttle,
        spec: Arc::clone(&work.spec),
        writes: None,
    })
}

/// The site of the first node.
fn site_of(fleet: &Fleet, placement: &Placement) -> SiteIx {
    let first = placement.slots().next().map_or(NodeIx(0), |slot| slot.nodes.first);
    fleet.domains[fleet.nodes[first.ix()].domain.ix()].site
}
