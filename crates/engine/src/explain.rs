//! Why a job waits, and why one that runs is where it is: found on the path that decides, told as data.
//!
//! What stands in the way is found by trial: the job is placed as the next pass would place it, then with one obstacle
//! at a time out of the way, then with all. Each trial is taken back, so the state is as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_fleet::{AcceleratorKindIx, DomainIx, LevelIx, NodeIx, NodeKindIx, Sides, SiteIx};
use offtake_units::{ChipMilli, Ppm, Timestamp, Watts};
use offtake_workload::{ChipRequest, Strength};

use crate::capacity::{FreeVector, LimitIx, Withheld};
use crate::crossing::{levels_crossed, speed_across, weighs};
use crate::decide::place;
use crate::fact::{Curtailment, JobId, NodeRange, Placement, ReservationId};
use crate::opening::Opening;
use crate::place::ShapeIx;
use crate::plan::earliest_start;
use crate::policy::{Order, Queue as Discipline};
use crate::ramp::Unborne;
use crate::request::{Refusal, Request, Shape};
use crate::state::{Hold, NodeCondition, Phase, Stage, State, kinds_of};
use crate::tenants::Counted;

/// Running jobs that are named at most, those that end first.
const MOST_RUNNING: usize = 8;

/// Why a job stands where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// It can never run.
    Refused(Refusal),
    /// It waits until it is released.
    Held {
        /// What it asks for, gang by gang.
        needs: Vec<Need>,
    },
    /// It waits for its turn, for room or for power.
    Waiting(Waiting),
    /// It has its nodes.
    Placed(Placed),
}

/// Why a job waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What it asks for, gang by gang, and where it comes nearest to it.
    pub needs: Vec<Need>,
    /// What stands in the way; nothing when it starts as soon as it is tried again.
    pub obstacles: Vec<Obstacle>,
    /// Jobs before it in its lane: those of its tier that ask for the same and came earlier.
    pub before: u64,
    /// Levels by which it may by now lie wider than it prefers, and when one more will do; none where no level has a cost.
    pub levels: Option<(u32, Option<Timestamp>)>,
    /// What is kept for it.
    pub hold: Option<Promise>,
    /// When it can start if running work ends when it is expected to and nobody else goes first; none when nobody knows.
    /// With a hold, when that begins: nobody goes first then.
    pub earliest: Option<Timestamp>,
    /// Work that runs where it would fit best, what ends first first, with when; [`Timestamp::NEVER`] when nobody knows.
    pub running: Vec<(JobId, Timestamp)>,
    /// How many jobs run there.
    pub running_jobs: u64,
    /// Nodes that are lost or drained where it would fit best, and why.
    pub out: Vec<(NodeIx, NodeCondition)>,
    /// The fewest moves of running work that would open the slice of a torus that it asks for.
    pub opening: Option<Opening>,
}

/// What a gang asks for, and where it comes nearest to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Workers.
    pub workers: u32,
    /// Accelerators of one worker.
    pub chips: ChipRequest,
    /// Node kinds that take at least one worker.
    pub kinds: Vec<NodeKindIx>,
    /// The level at which one domain must or should hold all workers.
    pub topology: Option<(LevelIx, Strength)>,
    /// The most workers on one node, where that is fewer than all.
    pub per_node: Option<u32>,
    /// Workers of one group, and the level at which one domain must hold them.
    pub groups: Option<(u32, LevelIx)>,
    /// The slice of a torus that its chips make.
    pub slice: Option<Sides>,
    /// The domain, of the level asked or else a site, in which the most workers fit now.
    pub nearest: Nearest,
}

/// What a domain has for a gang now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nearest {
    /// The domain.
    pub domain: DomainIx,
    /// Workers, in whole groups, that its nodes have room for now, power aside; all on one kind of accelerator.
    pub workers: u64,
    /// Its nodes that the gang may use.
    pub nodes: u32,
    /// Of these wholly free, and neither held nor out.
    pub free_nodes: u32,
    /// Whole chips that nothing uses, on nodes that are neither held nor out nor another tenant's for now.
    pub free_chips: u64,
    /// Nodes kept for other jobs.
    pub held_nodes: u32,
    /// Nodes that are lost or drained.
    pub out_nodes: u32,
}

/// What stands in a job's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Another job comes first: in its lane, or under a policy of strict order anywhere.
    Behind {
        /// That job.
        job: JobId,
    },
    /// It would fit on what is kept for another job, and would not end in time; or it waits for all of what is kept for
    /// itself.
    HeldFor {
        /// That job.
        job: JobId,
        /// When that can start at the latest.
        start: Timestamp,
    },
    /// It would fit on nodes that are set aside, and would be at work there meanwhile.
    Reserved {
        /// For which reservation.
        reservation: ReservationId,
        /// From when.
        start: Timestamp,
        /// Until when.
        end: Timestamp,
    },
    /// It would still run when a curtailment begins, and draw too much then.
    Curtailed {
        /// What is asked for.
        spec: Curtailment,
    },
    /// There would be room, but a cap leaves too little power.
    Power {
        /// The cap.
        limit: LimitIx,
        /// What it allows.
        cap: Watts,
        /// What it still leaves to this job, as its meter counts.
        left: Watts,
        /// What the job would draw under it at work.
        needed: Watts,
    },
    /// There would be room, but its site takes on no more at once, or keeps what it does for another that comes first.
    Ramp {
        /// The site.
        site: SiteIx,
        /// What the job would draw there, at the grid connection.
        needed: Watts,
        /// What the site takes on now.
        left: Watts,
        /// When it takes on as much, if nobody goes first.
        ready: Timestamp,
    },
    /// There would be room, but its site does not stand its sudden stop, or how its draw swings.
    Unborne {
        /// The site.
        site: SiteIx,
        /// What it does not stand.
        what: Unborne,
    },
    /// It has to run in a reservation that has not begun.
    NotBegun {
        /// The reservation's name.
        name: String,
        /// When its window begins; none where it has no nodes yet.
        start: Option<Timestamp>,
    },
    /// The nodes of its reservation have too few chips for it.
    SmallReservation {
        /// The reservation's name.
        name: String,
        /// Chips that its window has.
        chips: u64,
        /// Chips that the job needs at least.
        needed: u64,
    },
    /// It names a reservation that is not there, is over, or is for others.
    NoReservation {
        /// The name.
        name: String,
    },
    /// It would fit if these nodes were there.
    Out {
        /// Lost and drained nodes.
        nodes: Vec<NodeIx>,
    },
    /// It would fit on nodes that run one tenant's work at a time, now another's.
    Tenant {
        /// These nodes.
        nodes: Vec<NodeIx>,
    },
    /// There is room for all of its workers, but not in the domains in which it requires them together.
    Scattered,
    /// Its tenant's quota leaves too little of a kind of accelerator.
    Quota {
        /// The tenant.
        tenant: String,
        /// The kind.
        accelerator: AcceleratorKindIx,
        /// What is left to it, in thousandths of chips.
        available: u64,
        /// What the job would take of the kind.
        needed: u64,
    },
    /// Others have borrowed what its tenant has by quota.
    Lent {
        /// Of this kind.
        accelerator: AcceleratorKindIx,
        /// The tenants that have, with what each could be made to give back, in thousandths of chips.
        to: Vec<(String, u64)>,
        /// Whether the policy lets it be taken back, as far as their work may be stopped.
        reclaims: bool,
    },
    /// A limit of its tenant, or of one above it, is reached.
    Limit {
        /// Whose limit; empty for that of all tenants together.
        tenant: String,
        /// What it counts.
        counted: Counted,
        /// The most.
        limit: u32,
    },
    /// Its tenant, or one above it, may have no more work in one place.
    BlastRadius {
        /// Whose radius.
        tenant: String,
        /// The domain or circuit.
        area: String,
        /// The most, in thousandths of chips.
        most: u64,
        /// What is left of that.
        left: u64,
    },
    /// Another tenant's job, which may use the same nodes, comes first: that tenant has the lesser share, or the job has
    /// waited too long.
    Share {
        /// That job.
        job: JobId,
        /// Its tenant.
        tenant: String,
        /// That tenant's share of the fleet over its weight.
        share: Ppm,
        /// The share of this job's tenant.
        own: Ppm,
    },
    /// Running work has what it needs.
    Room,
}

/// What is kept for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// When it can start at the latest, if running work ends when it is expected to.
    pub start: Timestamp,
    /// The nodes kept.
    pub nodes: Vec<NodeRange>,
}

/// Why a job is where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its nodes.
    pub nodes: Vec<NodeRange>,
    /// The innermost domain that holds them all; none where they lie in several sites.
    pub domain: Option<DomainIx>,
    /// What each gang asked for: the level at which one domain must or should hold all its workers.
    pub topology: Vec<Option<(LevelIx, Strength)>>,
    /// Levels by which it lies wider than it prefers, that of its gangs by the most, and the share of its speed at which
    /// it goes there; none where no level has a cost.
    pub levels: Option<(u32, Ppm)>,
    /// Since when it has its nodes.
    pub placed: Timestamp,
    /// When it is expected to end; [`Timestamp::NEVER`] when nobody knows.
    pub ends: Timestamp,
    /// How far it has come.
    pub stage: Stage,
    /// How tightly it fits: nodes of the domain.
    pub domain_nodes: u32,
    /// Of these wholly free now.
    pub domain_free: u32,
}

impl State {
    /// Why a job waits, or why it is where it is; nothing for one that is not known. The state is the same afterwards.
    pub fn explain(&mut self, job: JobId) -> Option<Explanation> {
        self.rank_tenants();
        self.see_as(job);
        self.open_for(Some(job));
        let explanation = self.explanation(job);
        self.open_for(None);
        explanation
    }

    /// When a waiting job can start if running work ends when it is expected to and nobody else goes first, or when what
    /// is kept for it begins; none when nobody knows, or for a job that does not wait. The state is the same afterwards.
    pub fn earliest_start(&mut self, job: JobId) -> Option<Timestamp> {
        let shape = self.pending_shape(job)?;
        if let Some(hold) = self.hold_of(job) {
            return Some(hold.start.max(self.now));
        }
        self.rank_tenants();
        let found = earliest_start(self, shape, job).map(|(start, ..)| start);
        self.lay_holds(|_| true);
        self.open_for(None);
        found
    }

    fn explanation(&mut self, job: JobId) -> Option<Explanation> {
        Some(match &self.job(job)?.phase {
            Phase::Refused(refusal) => Explanation::Refused(refusal.clone()),
            Phase::Held(shape) => Explanation::Held { needs: self.needs(*shape) },
            Phase::Pending(shape) => {
                let shape = *shape;
                Explanation::Waiting(self.why_waiting(job, shape)?)
            }
            Phase::Running { shape, placement, placed, ends, stage, .. } => {
                let topology = self.shape(*shape).gangs.iter().map(|gang| gang.topology).collect();
                let domain = self.innermost(placement);
                let nodes = domain.map_or(0..0, |domain| self.fleet().domains[domain.ix()].nodes.clone());
                let is_free = |node: &u32| {
                    let free = &self.capacity.class_of(NodeIx(*node)).vector;
                    free == self.capacity.empty(free.kind)
                };
                let spec = &self.job(job)?.spec;
                let levels = weighs(spec).then(|| {
                    let crossed = levels_crossed(spec, placement, self.fleet()).into_iter().max().unwrap_or(0);
                    (crossed, speed_across(spec, placement, self.fleet()))
                });
                Explanation::Placed(Placed {
                    nodes: placement.nodes(),
                    domain,
                    topology,
                    levels,
                    placed: *placed,
                    ends: *ends,
                    stage: *stage,
                    domain_nodes: nodes.len() as u32,
                    domain_free: nodes.filter(is_free).count() as u32,
                })
            }
        })
    }

    fn why_waiting(&mut self, job: JobId, shape: ShapeIx) -> Option<Waiting> {
        let needs = self.needs(shape);
        let turn = self.job(job)?.turn;
        let lane = self.queue.lane(self.lane_of(shape, &self.job(job)?.spec)?);
        let (before, first) = (lane.before(turn), lane.first());
        let head = match self.policy.queue {
            _ if lane.key.reservation.is_some() => first,
            Discipline::Fifo => self.head_lane().and_then(|head| self.queue.lane(head).first()),
            Discipline::Backfill => first,
        };
        let mut obstacles = Vec::new();
        if let Some(first) = head.filter(|first| first.job != job) {
            obstacles.push(Obstacle::Behind { job: first.job });
        }
        let own = self.holds.iter().position(|hold| hold.job == job);
        let hold = own.map(|own| Promise { start: self.holds[own].start, nodes: self.holds[own].nodes.clone() });
        if let Some(own) = own {
            self.lift_hold(own);
        }
        let small = self.small_reservation(job, shape);
        let in_the_way = match small.or_else(|| self.before_its_window(job)) {
            Some(obstacle) => vec![obstacle],
            None => self.in_the_way(job, shape),
        };
        let earliest = match &hold {
            Some(hold) => Some(hold.start),
            None if in_the_way.is_empty() => Some(self.now),
            None => earliest_start(self, shape, job).map(|(start, ..)| start),
        };
        let ramps = in_the_way.iter().filter_map(|obstacle| match obstacle {
            Obstacle::Ramp { ready, .. } => Some(*ready),
            _ => None,
        });
        let earliest = ramps.fold(earliest, |earliest, ready| earliest.map(|start| start.max(ready)));
        self.lay_holds(|_| true);
        if !in_the_way.is_empty() {
            obstacles.extend(self.behind_by_share(job, shape));
        }
        let lacks_room = |obstacle: &Obstacle| matches!(obstacle, Obstacle::Quota { .. } | Obstacle::Room);
        let lent = if in_the_way.iter().any(lacks_room) { self.lent_by(job, shape) } else { Vec::new() };
        obstacles.extend(in_the_way);
        obstacles.extend(lent);
        let nearest = needs.first()?.nearest.domain;
        let nodes = self.fleet().domains[nearest.ix()].nodes.clone();
        let (running, running_jobs) = self.running_on(&nodes);
        let out = self.conditions().range(NodeIx(nodes.start)..NodeIx(nodes.end));
        let out = out.map(|(node, condition)| (*node, condition.clone())).collect();
        let opening = if obstacles.contains(&Obstacle::Scattered) { self.opening_for(job) } else { None };
        let levels = self.job(job).filter(|work| weighs(&work.spec)).map(|work| (work.crossing, self.crosses_at(job)));
        Some(Waiting { needs, obstacles, before, levels, hold, earliest, running, running_jobs, out, opening })
    }

    /// What a job waits for that its reservation cannot hold, whoever else runs there.
    fn small_reservation(&self, job: JobId, shape: ShapeIx) -> Option<Obstacle> {
        let spec = &self.job(job)?.spec;
        let (name, window) = (spec.reservation.clone()?, self.own_window(spec)?);
        let fleet = self.fleet();
        let chips_of = |node: u32| u64::from(fleet.kind(fleet.nodes[node as usize]).chips);
        let chips = window.nodes.iter().flat_map(|range| range.numbers()).map(chips_of).sum();
        let needed = self.least_milli(shape).div_ceil(1000);
        (needed > chips).then_some(Obstacle::SmallReservation { name, chips, needed })
    }

    /// What a job waits for that cannot start before its reservation has.
    fn before_its_window(&self, job: JobId) -> Option<Obstacle> {
        let spec = &self.job(job)?.spec;
        let name = spec.reservation.clone().filter(|_| self.awaits_window(spec))?;
        Some(match self.window_of(spec) {
            Some(window) => Obstacle::NotBegun { name, start: self.hold_of(window).map(|window| window.start) },
            None => Obstacle::NoReservation { name },
        })
    }

    /// The first job of another tenant that goes first by its tenant's share and may use the same nodes.
    fn behind_by_share(&self, job: JobId, shape: ShapeIx) -> Option<Obstacle> {
        let mine = self.standing_of(job).filter(|_| self.policy.order == Order::FairShare)?;
        let spec = &self.job(job)?.spec;
        let own = self.tenants.known(&spec.tenant).filter(|_| spec.reservation.is_none())?;
        let meets = |other: ShapeIx| {
            kinds_of(self.shape(other)).any(|kind| kinds_of(self.shape(shape)).any(|mine| mine == kind))
        };
        let before = self.lanes_in_order().take_while(|lane| self.standing(*lane) < mine);
        let entries = before.map(|lane| self.queue.lane(lane));
        let mut others = entries.filter(|entry| entry.key.tenant != Some(own) && meets(entry.key.shape));
        let (tenant, first) = others.find_map(|entry| entry.key.tenant.zip(entry.first()))?;
        let tiers = (self.job(first.job)?.spec.tier, self.job(job)?.spec.tier);
        (tiers.0 == tiers.1).then(|| Obstacle::Share {
            job: first.job,
            tenant: self.tenants.name(tenant).to_owned(),
            share: self.tenants.share(tenant),
            own: self.tenants.share(own),
        })
    }

    /// What keeps a job from starting now, whoever comes before it.
    fn in_the_way(&mut self, job: JobId, shape: ShapeIx) -> Vec<Obstacle> {
        if let Some(placement) = self.trial(job, shape, &Aside::default()) {
            let ramps = self.met_by_ramps(self.shape(shape), &placement);
            if !ramps.is_empty() {
                return ramps;
            }
            let own = self.holds.iter().find(|hold| hold.job == job);
            return own.map(|hold| Obstacle::HeldFor { job, start: hold.start }).into_iter().collect();
        }
        let all_caps: Vec<LimitIx> = (0..self.capacity.limits().len() as u32).map(LimitIx).collect();
        let mut found = self.met_without(job, shape, &Aside { holds: true, ..Aside::default() });
        let power = self.met_without(job, shape, &Aside { caps: all_caps.clone(), ..Aside::default() });
        // With all caps out of the way more are met than have to be: perhaps one of them is enough.
        let alone: Vec<Obstacle> = power
            .iter()
            .filter_map(|obstacle| match obstacle {
                Obstacle::Power { limit, .. } => Some(Aside { caps: vec![*limit], ..Aside::default() }),
                _ => None,
            })
            .flat_map(|aside| self.met_without(job, shape, &aside))
            .collect();
        found.extend(if alone.is_empty() { power } else { alone });
        found.extend(self.met_without(job, shape, &Aside { out: true, ..Aside::default() }));
        found.extend(self.met_without(job, shape, &Aside { tenants: true, ..Aside::default() }));
        found.extend(self.met_without(job, shape, &Aside { quota: true, ..Aside::default() }));
        if !self.ramps_are_lifted() {
            found.extend(self.met_without(job, shape, &Aside { ramps: true, ..Aside::default() }));
        }
        if found.is_empty() {
            let all =
                Aside { holds: true, caps: all_caps, out: true, tenants: true, quota: true, ramps: true, apart: false };
            found = self.met_without(job, shape, &all);
        }
        let together =
            |gang: &Request| gang.slice.is_some() || gang.groups.is_some() || gang.outer_level() > LevelIx(0);
        if found.is_empty() && self.shape(shape).gangs.iter().any(together) {
            let apart = self.trial(job, shape, &Aside { apart: true, ..Aside::default() });
            found.extend(apart.map(|_| Obstacle::Scattered));
        }
        if found.is_empty() {
            found.push(Obstacle::Room);
        }
        found
    }

    /// With what a job would meet if some obstacles did not count; nothing where it does not fit even then.
    fn met_without(&mut self, job: JobId, shape: ShapeIx, aside: &Aside) -> Vec<Obstacle> {
        let placement = self.trial(job, shape, aside);
        placement.map_or_else(Vec::new, |placement| self.met_by(job, shape, &placement, aside))
    }

    /// Where a job, its own hold lifted, would go with some obstacles out of the way.
    fn trial(&mut self, job: JobId, shape_ix: ShapeIx, aside: &Aside) -> Option<Placement> {
        let watch = self.capacity.pause_watch();
        let out: Vec<NodeIx> = if aside.out { self.conditions().keys().copied().collect() } else { Vec::new() };
        out.iter().for_each(|node| self.capacity.offer(*node, Withheld::Out));
        self.see_as(job);
        let closed = if aside.tenants { self.tenancy.closed() } else { Vec::new() };
        closed.iter().for_each(|node| self.capacity.offer(*node, Withheld::Tenant));
        if aside.holds {
            self.lay_holds(|_| false);
        }
        self.tenants.is_lifted = aside.quota;
        self.lift_ramps(aside.ramps);
        let limits = self.capacity.limits();
        let kept = |limit: &LimitIx| (*limit, limits[limit.ix()].capacity(), limits[limit.ix()].extra());
        let caps: Vec<_> = aside.caps.iter().map(kept).collect();
        aside.caps.iter().for_each(|limit| self.capacity.lift_cap(*limit));
        let mut shape = Arc::clone(self.shape(shape_ix));
        if aside.apart {
            let apart = |gang: &Request| Request { topology: None, groups: None, slice: None, ..gang.clone() };
            shape = Arc::new(Shape { gangs: shape.gangs.iter().map(apart).collect() });
        }
        let found = place(self, shape_ix, &shape, job);
        if let Some(placement) = &found {
            self.vacate(shape_ix, placement);
        }
        self.tenants.is_lifted = false;
        self.lift_ramps(false);
        for (limit, watts, extra) in caps {
            self.capacity.set_cap(limit, watts);
            self.capacity.set_extra(limit, extra);
        }
        if aside.holds {
            self.lay_holds(|hold| hold.job != job);
        }
        closed.iter().for_each(|node| self.capacity.withhold(*node, Withheld::Tenant));
        out.iter().for_each(|node| self.capacity.withhold(*node, Withheld::Out));
        self.capacity.resume_watch(&watch);
        found
    }

    /// The obstacles of some kinds that a placement would meet.
    fn met_by(&self, job: JobId, shape: ShapeIx, placement: &Placement, aside: &Aside) -> Vec<Obstacle> {
        let mut met = Vec::new();
        if aside.holds {
            let others = self.holds.iter().filter(|hold| hold.job != job);
            let keeps = |hold: &&Hold| hold.meets(placement) || hold.keeps_power();
            met.extend(others.filter(keeps).filter_map(|hold| {
                let announced = hold.job.curtailment().map(|id| self.curtailments().get(&id));
                match (hold.job.reservation(), announced) {
                    (Some(reservation), _) => {
                        Some(Obstacle::Reserved { reservation, start: hold.start, end: hold.end })
                    }
                    (None, Some(announced)) => {
                        let spec = announced.map(|announced| announced.spec.clone());
                        let would_run = self.job(job).is_some_and(|work| work.expected_end(self.now()) > hold.start);
                        let is_in_the_way = |spec: &Curtailment| {
                            let left = hold.leaves().next().map_or(0, |(_, left)| left.max(0));
                            would_run && self.draw_under(spec.cap, shape, placement) > left
                        };
                        spec.filter(is_in_the_way).map(|spec| Obstacle::Curtailed { spec })
                    }
                    (None, None) => Some(Obstacle::HeldFor { job: hold.job, start: hold.start }),
                }
            }));
        }
        for (limit, draw) in self.draw_of(shape, placement) {
            let entry = &self.capacity.limits()[limit.ix()];
            let left = entry.left_for_more().max(0);
            if aside.caps.contains(&limit) && draw > left {
                let watts = |micro: i64| Watts::new(micro.div_euclid(1_000_000));
                let (left, needed) = (watts(left), watts(draw + 999_999));
                met.push(Obstacle::Power { limit, cap: entry.capacity(), left, needed });
            }
        }
        let nodes = || placement.nodes().into_iter().flat_map(NodeRange::numbers).map(NodeIx);
        if aside.out {
            let nodes: Vec<NodeIx> = nodes().filter(|node| self.conditions().contains_key(node)).collect();
            if !nodes.is_empty() {
                met.push(Obstacle::Out { nodes });
            }
        }
        if aside.tenants {
            let nodes: Vec<NodeIx> =
                nodes().filter(|node| self.capacity.is_withheld(*node, Withheld::Tenant)).collect();
            if !nodes.is_empty() {
                met.push(Obstacle::Tenant { nodes });
            }
        }
        if aside.ramps {
            let unborne = self.unborne(self.shape(shape), placement).into_iter();
            met.extend(unborne.map(|(site, what)| Obstacle::Unborne { site, what }));
        }
        if aside.quota {
            met.extend(self.quota_met_by(job, shape, placement));
        }
        met
    }

    /// The quotas and the limit that leave no room for a job where it would go.
    fn quota_met_by(&self, job: JobId, shape: ShapeIx, placement: &Placement) -> Vec<Obstacle> {
        let Some(tenant) = self.tenant_of(job) else { return Vec::new() };
        let footprint = self.footprint(shape, placement);
        let quotas = footprint.chips.iter().filter_map(|(accelerator, needed)| {
            let available = self.tenants.available_to(job, tenant, *accelerator);
            let tenant = self.tenants.name(tenant).to_owned();
            let (accelerator, needed) = (*accelerator, *needed);
            (available < needed).then_some(Obstacle::Quota { tenant, accelerator, available, needed })
        });
        let limit = self.tenants.full(job, tenant, footprint.chip_milli()).map(|full| Obstacle::Limit {
            tenant: self.tenants.name(full.tenant).to_owned(),
            counted: full.counted,
            limit: full.limit,
        });
        let radii = self.tenants.exceeded_by(tenant, &footprint).into_iter().map(|over| Obstacle::BlastRadius {
            tenant: self.tenants.name(over.tenant).to_owned(),
            area: over.area.name(self.fleet()),
            most: over.most,
            left: over.left,
        });
        quotas.chain(limit).chain(radii).collect()
    }

    /// What others have borrowed of what a job's tenant has, where it would stay within its own with the job.
    fn lent_by(&self, job: JobId, shape: ShapeIx) -> Vec<Obstacle> {
        let Some(tenant) = self.tenant_of(job) else { return Vec::new() };
        let reclaims = self.policy.preemption.as_ref().is_some_and(|policy| policy.reclaim);
        let needs = self.shape(shape).chips_by_accelerator(self.fleet());
        let lent = needs.into_iter().map(|(kind, milli)| (kind, self.tenants.borrowers(tenant, kind, milli)));
        lent.filter(|(_, to)| !to.is_empty())
            .map(|(accelerator, to)| Obstacle::Lent { accelerator, to, reclaims })
            .collect()
    }

    fn needs(&self, shape: ShapeIx) -> Vec<Need> {
        let need = |gang: &Request| Need {
            workers: gang.workers,
            chips: gang.chips,
            kinds: gang.kinds.iter().map(|(kind, _)| *kind).collect(),
            topology: gang.topology,
            per_node: gang.per_node,
            groups: gang.groups,
            slice: gang.slice,
            nearest: self.nearest(gang),
        };
        self.shape(shape).gangs.iter().map(need).collect()
    }

    /// The domain in which the most workers of a gang fit now; of several the first.
    fn nearest(&self, gang: &Request) -> Nearest {
        let fleet = self.fleet();
        let level = gang.topology.map_or(LevelIx(0), |(level, _)| level);
        let mut best: Option<Nearest> = None;
        for domain in fleet.domains_at(level) {
            let mut here = Nearest { domain: DomainIx(domain), ..Nearest::default() };
            // By the domain of a group, and by accelerator.
            let mut rooms: BTreeMap<(DomainIx, Option<AcceleratorKindIx>), u64> = BTreeMap::new();
            let inner = gang.groups.map_or(level, |(_, inner)| inner);
            for node in fleet.domains[domain as usize].nodes.clone().map(NodeIx) {
                let free = &self.capacity.class_of(node).vector;
                let Some((_, most)) = gang.kinds.iter().find(|(kind, _)| *kind == free.kind) else { continue };
                here.nodes += 1;
                let is = |why| self.capacity.is_withheld(node, why);
                if is(Withheld::Out) {
                    here.out_nodes += 1;
                } else if is(Withheld::Held) {
                    here.held_nodes += 1;
                } else if !is(Withheld::Tenant) {
                    here.free_nodes += u32::from(free == self.capacity.empty(free.kind));
                    here.free_chips += u64::from(free.whole);
                    let accelerator = fleet.node_kinds[free.kind.ix()].accelerator;
                    let room = rooms.entry((fleet.around(node, inner), accelerator)).or_default();
                    *room += u64::from(workers_on(free, gang).min(*most));
                }
            }
            let mut by_accelerator: BTreeMap<Option<AcceleratorKindIx>, u64> = BTreeMap::new();
            for ((_, accelerator), room) in rooms {
                *by_accelerator.entry(accelerator).or_default() += gang.in_whole_groups(room);
            }
            here.workers = by_accelerator.into_values().max().unwrap_or(0);
            if here.nodes > 0 && best.is_none_or(|best| here.workers > best.workers) {
                best = Some(here);
            }
        }
        best.unwrap_or_default()
    }

    /// Jobs that run on nodes of a range, and how many they are.
    fn running_on(&self, nodes: &std::ops::Range<u32>) -> (Vec<(JobId, Timestamp)>, u64) {
        let mut running = Vec::new();
        for (job, work) in self.jobs() {
            let Phase::Running { placement, ends, .. } = &work.phase else { continue };
            let meets = |range: std::ops::Range<u32>| range.start < nodes.end && nodes.start < range.end;
            if placement.slots().any(|slot| meets(slot.nodes.numbers())) {
                running.push((*ends, job));
            }
        }
        running.sort_unstable();
        let count = running.len() as u64;
        (running.into_iter().take(MOST_RUNNING).map(|(ends, job)| (job, ends)).collect(), count)
    }

    /// The innermost domain that holds all nodes of a placement.
    fn innermost(&self, placement: &Placement) -> Option<DomainIx> {
        let fleet = self.fleet();
        let nodes = placement.nodes();
        let (first, last) = (nodes.first()?.first, nodes.last()?.numbers().end);
        let mut domain = fleet.nodes[first.ix()].domain;
        while fleet.domains[domain.ix()].nodes.end < last {
            domain = fleet.domains[domain.ix()].parent?;
        }
        Some(domain)
    }
}

/// What is out of the way in a trial.
#[derive(Clone, Debug, Default)]
struct Aside {
    holds: bool,
    caps: Vec<LimitIx>,
    out: bool,
    tenants: bool,
    quota: bool,
    /// What sites stand.
    ramps: bool,
    /// That workers must lie together.
    apart: bool,
}

/// Workers that a free vector has room for.
fn workers_on(free: &FreeVector, gang: &Request) -> u32 {
    let by_chips = match gang.chips {
        ChipRequest::None => u32::MAX,
        ChipRequest::Whole(chips) => u32::from(free.whole / chips.max(1)),
        ChipRequest::Share(share) => {
            let each = share.get().max(1);
            let shared: u32 = free.shared.iter().map(|left| u32::from(left / each)).sum();
            shared + u32::from(free.whole) * u32::from(ChipMilli::WHOLE.get() / each)
        }
    };
    let by_cpu = free.cpu.get().checked_div(gang.cpu.get()).unwrap_or(u32::MAX);
    let by_memory = free.memory.get().checked_div(gang.memory.get()).unwrap_or(u64::MAX);
    by_chips.min(by_cpu).min(u32::try_from(by_memory).unwrap_or(u32::MAX))
}
