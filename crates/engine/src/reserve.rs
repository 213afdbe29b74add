//! Windows of reservations: they get nodes whose work ends in time, and no others. Work without an expected end never
//! counts as if it would go, so that a window over it is refused, with who would have to.

use std::collections::BTreeSet;

use offtake_fleet::{DomainIx, Fleet, LevelIx, NodeIx};
use offtake_units::Timestamp;
use offtake_workload::{Purpose, Reservation};
use serde::{Deserialize, Serialize};

use crate::capacity::Withheld;
use crate::decide::propose;
use crate::fact::{Event, Fact, JobId, NodeRange, ReservationId, StopReason};
use crate::state::{Phase, Reserved, State};

/// Jobs that are named at most.
const MOST_NAMED: usize = 16;

/// Why a reservation cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Unmet {
    /// No domain of that path.
    #[error("the fleet has no domain `{name}`; write its path, such as `{example}`")]
    UnknownDomain {
        /// What was asked for.
        name: String,
        /// One that there is.
        example: String,
    },
    /// No level of that name.
    #[error("the fleet has no level `{name}`; its levels are {known}")]
    UnknownLevel {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The fleet is too small.
    #[error("no place has so many nodes of that kind, even when all are free: ask for fewer, or within a wider level")]
    TooLarge,
    /// It would be over already.
    #[error("it would have ended before now: say a later `start`")]
    Over,
    /// Work is in the way.
    #[error("{}", busy(*earliest, in_the_way))]
    Busy {
        /// When it can begin at the earliest; none where nobody knows.
        earliest: Option<Timestamp>,
        /// Work that would have to go before, at most 16.
        in_the_way: Vec<JobId>,
    },
}

fn busy(earliest: Option<Timestamp>, in_the_way: &[JobId]) -> String {
    let named: Vec<String> = in_the_way.iter().map(|job| job.0.to_string()).collect();
    let when = match earliest {
        Some(at) => format!("the earliest is {} ms", at.as_millis()),
        None => "work without an expected end is in the way".to_owned(),
    };
    format!("not enough nodes are free in time: {when}; jobs that would have to go: {}", named.join(", "))
}

/// When a window lasts, and the nodes kept for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it begins.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// Its nodes, ascending.
    pub nodes: Vec<NodeRange>,
}

/// Windows end, and new ones get their nodes.
pub fn keep_windows(state: &mut State, facts: &mut Vec<Fact>) {
    while let Some((reservation, reserved)) = state.reservations.due(state.now()) {
        let (spec, start, is_placed) = (reserved.spec.clone(), reserved.start, reserved.end.is_some());
        if is_placed {
            if spec.stop {
                stop(state, reservation, &spec, facts);
            }
            propose(state, facts, Event::WindowEnded { reservation });
            continue;
        }
        match state.window_for(&spec, start) {
            Ok(Window { start, end, nodes }) => {
                propose(state, facts, Event::WindowPlaced { reservation, start, end, nodes });
            }
            // What was granted once is tried again.
            Err(reason) if start > spec.start => {
                propose(state, facts, Event::WindowMissed { reservation, start, reason });
            }
            Err(reason) => propose(state, facts, Event::ReservationRefused { reservation, reason }),
        }
    }
    for (reservation, Window { start, end, nodes }) in state.windows_made_whole() {
        propose(state, facts, Event::WindowPlaced { reservation, start, end, nodes });
    }
}

/// The jobs of a reservation that are on its nodes are stopped.
fn stop(state: &mut State, reservation: ReservationId, spec: &Reservation, facts: &mut Vec<Fact>) {
    let Some(window) = state.window(reservation) else { return };
    let is_there = |work: &crate::state::Work| match &work.phase {
        Phase::Running { placement, .. } => {
            work.spec.reservation.as_deref() == Some(&spec.name) && window.meets(placement)
        }
        _ => false,
    };
    let jobs: Vec<JobId> = state.jobs().into_iter().filter(|(_, work)| is_there(work)).map(|(job, _)| job).collect();
    for job in jobs {
        propose(state, facts, Event::JobStopping { job, reason: StopReason::ReservationEnded, by: None });
    }
}

impl State {
    /// The window that a reservation could have now, were it made.
    ///
    /// # Errors
    /// [`Unmet`] when it cannot, with the earliest that can.
    pub fn window_of_new(&self, spec: &Reservation) -> Result<Window, Unmet> {
        self.window_for(spec, spec.start)
    }

    pub(crate) fn window_for(&self, spec: &Reservation, planned: Timestamp) -> Result<Window, Unmet> {
        let end = planned.saturating_add(spec.length);
        if end <= self.now() {
            return Err(Unmet::Over);
        }
        let start = planned.max(self.now());
        let latest = planned.saturating_add(spec.flexible.unwrap_or_default()).max(start);
        let free_at = self.free_at(spec, start, latest.saturating_add(spec.length));
        let (from, nodes) = match &spec.domain {
            Some(path) => {
                let domain = domain_at(self.fleet(), path)?;
                let nodes: Vec<u32> = self.fleet().domains[domain.ix()].nodes.clone().collect();
                (nodes.iter().map(|node| free_at[*node as usize]).max().unwrap_or(start).max(start), nodes)
            }
            None => self.nodes_for(spec, start, &free_at)?,
        };
        if from > latest {
            let earliest = Some(from).filter(|from| *from != Timestamp::NEVER);
            return Err(Unmet::Busy { earliest, in_the_way: self.work_outlasting(&nodes, latest) });
        }
        let end = if from > start { from.saturating_add(spec.length) } else { end };
        Ok(Window { start: from, end, nodes: ranges(nodes) })
    }

    /// Windows that last and have lost nodes, with others in their place as far as there are free ones.
    fn windows_made_whole(&self) -> Vec<(ReservationId, Window)> {
        let mine = |(id, reserved): (&ReservationId, &Reserved)| Some((*id, self.made_whole(*id, &reserved.spec)?));
        self.reservations().iter().filter_map(mine).collect()
    }

    /// Others in place of a window's nodes that are lost, or drained and empty: those of a whole domain, or of
    /// maintenance, are meant and no others.
    fn made_whole(&self, reservation: ReservationId, spec: &Reservation) -> Option<Window> {
        let window = self.window(reservation).filter(|window| window.start <= self.now() && self.now() < window.end)?;
        if spec.domain.is_some() || spec.purpose == Purpose::Maintenance {
            return None;
        }
        let fleet = self.fleet();
        let within = |range: &NodeRange| range.first..NodeIx(range.numbers().end);
        let out = window.nodes.iter().flat_map(|range| self.conditions().range(within(range)));
        let is_empty = |node: &NodeIx| self.capacity().class_of(*node).is_free;
        let lost: Vec<NodeIx> = out.map(|(node, _)| *node).filter(is_empty).collect();
        let one = lost.first()?.0;
        let level = spec.level.as_deref().and_then(|name| fleet.level(name));
        let domains = level.map(|level| fleet.domains_at(level)).unwrap_or_default();
        let mut places = domains.map(|domain| fleet.domains[domain as usize].nodes.clone());
        let place = places.find(|nodes| nodes.contains(&one)).unwrap_or(0..fleet.nodes.len() as u32);
        let mut nodes: BTreeSet<u32> = window.nodes.iter().flat_map(|range| range.numbers()).collect();
        let mut found = false;
        for node in lost {
            let kind = fleet.nodes[node.ix()].kind;
            let mut from = place.start;
            while let Some(free) = self.capacity().first_free(kind, from..place.end) {
                from = free + 1;
                if nodes.insert(free) {
                    found = true;
                    nodes.remove(&node.0);
                    break;
                }
            }
        }
        let nodes = ranges(nodes.into_iter().collect());
        found.then_some(Window { start: window.start, end: window.end, nodes })
    }

    /// When work and other windows have left each node.
    fn free_at(&self, spec: &Reservation, start: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let now = self.now();
        let mut free_at = vec![now; self.fleet().nodes.len()];
        let mut leaves = |nodes: std::ops::Range<u32>, at: Timestamp| {
            let nodes = &mut free_at[nodes.start as usize..nodes.end as usize];
            nodes.iter_mut().for_each(|free| *free = at.max(*free));
        };
        for (_, work) in self.jobs() {
            let (Phase::Running { placement, .. }, Some(ends)) = (&work.phase, work.leaves()) else { continue };
            // Work that has outrun its limit has no end any more.
            let ends = if ends > now { ends } else { Timestamp::NEVER };
            placement.slots().for_each(|slot| leaves(slot.nodes.numbers(), ends));
        }
        // Maintenance may lie over other windows.
        let windows = self.holds().iter().filter(|hold| hold.job.is_window() && hold.overlaps(start, until));
        for window in windows.filter(|_| spec.purpose == Purpose::Work) {
            window.nodes.iter().for_each(|range| leaves(range.numbers(), window.end));
        }
        free_at
    }

    /// The nodes of the domain that has enough the earliest: those that are kept for no job first.
    fn nodes_for(
        &self,
        spec: &Reservation,
        start: Timestamp,
        free_at: &[Timestamp],
    ) -> Result<(Timestamp, Vec<u32>), Unmet> {
        let fleet = self.fleet();
        let wanted = spec.chips.or(spec.nodes.map(u64::from)).unwrap_or(1);
        let fits = |node: &u32| {
            let kind = fleet.kind(fleet.nodes[*node as usize]);
            let accelerator = fleet.accelerator(kind).map(|chip| chip.name.as_str());
            let is_right = spec.accelerator.as_deref().is_none_or(|wanted| accelerator == Some(wanted));
            is_right && !self.capacity().is_withheld(NodeIx(*node), Withheld::Out)
        };
        let counts = |node: u32| match spec.chips {
            Some(_) => u64::from(fleet.kind(fleet.nodes[node as usize]).chips),
            None => 1,
        };
        let groups: Vec<std::ops::Range<u32>> = match &spec.level {
            None => std::iter::once(0..fleet.nodes.len() as u32).collect(),
            Some(name) => {
                let level: LevelIx = fleet
                    .level(name)
                    .ok_or_else(|| Unmet::UnknownLevel { name: name.clone(), known: fleet.levels.join(", ") })?;
                fleet.domains_at(level).map(|domain| fleet.domains[domain as usize].nodes.clone()).collect()
            }
        };
        let mut best: Option<(Timestamp, Vec<u32>)> = None;
        for group in groups {
            let mut nodes: Vec<u32> = group.filter(fits).collect();
            nodes.sort_by_key(|node| free_at[*node as usize]);
            let mut sum = 0;
            let Some(last) = nodes.iter().position(|node| {
                sum += counts(*node);
                sum >= wanted
            }) else {
                continue;
            };
            let from = free_at[nodes[last] as usize].max(start);
            if best.as_ref().is_some_and(|(best, _)| *best <= from) {
                continue;
            }
            nodes.retain(|node| free_at[*node as usize] <= from);
            nodes.sort_unstable_by_key(|node| (self.is_kept(*node, from), *node));
            let mut sum = 0;
            let enough = nodes.iter().position(|node| {
                sum += counts(*node);
                sum >= wanted
            });
            nodes.truncate(enough.map_or(0, |last| last + 1));
            nodes.sort_unstable();
            best = Some((from, nodes));
        }
        best.ok_or(Unmet::TooLarge)
    }

    fn is_kept(&self, node: u32, from: Timestamp) -> bool {
        let keeps = |hold: &&crate::state::Hold| hold.overlaps(from, Timestamp::NEVER);
        self.holds().iter().filter(keeps).any(|hold| hold.nodes.iter().any(|range| range.numbers().contains(&node)))
    }

    /// Running work on some nodes that is there longer than to an instant, what has no end first.
    fn work_outlasting(&self, nodes: &[u32], until: Timestamp) -> Vec<JobId> {
        let nodes: BTreeSet<u32> = nodes.iter().copied().collect();
        let mut found = Vec::new();
        for (job, work) in self.jobs() {
            let (Phase::Running { placement, .. }, Some(ends)) = (&work.phase, work.leaves()) else { continue };
            let is_there = || placement.slots().flat_map(|slot| slot.nodes.numbers()).any(|node| nodes.contains(&node));
            if (ends > until || ends <= self.now()) && is_there() {
                found.push((std::cmp::Reverse(ends), job));
            }
        }
        found.sort_unstable();
        found.into_iter().take(MOST_NAMED).map(|(_, job)| job).collect()
    }
}

fn domain_at(fleet: &Fleet, path: &str) -> Result<DomainIx, Unmet> {
    let mut domains = (0..fleet.domains.len() as u32).map(DomainIx);
    domains.find(|domain| fleet.path(*domain) == path).ok_or_else(|| Unmet::UnknownDomain {
        name: path.to_owned(),
        example: fleet
            .domains
            .last()
            .map_or_else(String::new, |_| fleet.path(DomainIx(fleet.domains.len() as u32 - 1))),
    })
}

/// Nodes side by side as one range.
fn ranges(nodes: Vec<u32>) -> Vec<NodeRange> {
    let mut ranges: Vec<NodeRange> = Vec::new();
    for node in nodes {
        match ranges.last_mut() {
            Some(last) if last.numbers().end == node => last.count += 1,
            _ => ranges.push(NodeRange { first: NodeIx(node), count: 1 }),
        }
    }
    ranges
}
