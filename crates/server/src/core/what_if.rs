//! What would happen: a copy of the state, changed as someone has in mind, beside what happens otherwise. Nothing that
//! is real is touched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offtake_engine::{CurtailmentId, Event, Fact, JobId, NodeRange, Policy, ServiceId, State};
use offtake_fleet::{DomainIx, Fleet, NodeIx};
use offtake_protocol::rest::{JobChange, Outlook, Problem, WhatIf, WhatIfCap, WhatIfRequest};
use offtake_sim::{Ahead, Awaiting, JobAhead, look_ahead, starts_ahead, with_cap};
use offtake_units::{Duration, Timestamp, Watts};
use offtake_workload::Service;

use super::Core;
use super::access::problem;
use super::grid::{MOST_WATTS, curtailment};
use super::services::may_spread;
use super::submit::{DEFAULT_TENANT, of_fault};
use super::why::span;

/// Jobs that are told of.
const MOST_TOLD: usize = 1_000;
/// Jobs, caps, domains that one question may name.
const MOST_NAMED: usize = 1_000;
/// The farthest that anyone may look ahead.
const FARTHEST: Duration = Duration::from_secs(366 * 86_400);
/// A start that is less than this earlier or later is the same.
const SAME: Duration = Duration::from_secs(1);

/// A copy of what is known, to be looked ahead from.
#[derive(Debug)]
pub struct Fork {
    pub(super) state: State,
    awaiting: Vec<Awaiting>,
    pub(super) names: BTreeMap<u64, String>,
    next_job: u64,
}

impl Core {
    /// A copy to be looked ahead from, on another thread.
    pub fn fork(&self) -> Fork {
        let live = self.records.iter().filter(|(_, record)| record.end.is_none() && record.service.is_none());
        let (mut awaiting, mut names) = (Vec::new(), BTreeMap::new());
        for (id, record) in live {
            names.insert(*id, record.spec.name.clone());
            let held = &record.held;
            let waits_for_people = held.by_user || held.by_failed_starts;
            if held.is_held() && !waits_for_people {
                awaiting.push(Awaiting { job: JobId(*id), after: held.after.clone(), begin: held.begin });
            }
        }
        Fork { state: self.state.clone(), awaiting, names, next_job: self.next_job }
    }
}

/// When jobs that wait are expected to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// As of when.
    pub as_of_ms: i64,
    /// By job; those that are not named start later than it was looked, or never.
    pub by_job: BTreeMap<u64, i64>,
}

impl Fork {
    /// When jobs that wait will start if nobody new comes and work takes as long as is expected of it; looked for as long
    /// as `go_on` says so.
    pub fn starts(self, go_on: impl FnMut() -> bool) -> Starts {
        let as_of_ms = self.state.now().as_millis();
        let starts = starts_ahead(self.state, self.awaiting, go_on);
        Starts { as_of_ms, by_job: starts.into_iter().map(|(job, at)| (job.0, at.as_millis())).collect() }
    }

    /// What would happen, beside what happens otherwise.
    ///
    /// # Errors
    /// When the question cannot be meant.
    pub fn what_if(mut self, request: WhatIfRequest) -> Result<WhatIf, Problem> {
        let horizon = self.horizon(&request)?;
        let awaiting = self.awaiting.clone();
        // Adds the caps that are asked about, which do not bind until they are set: what differs is the question's doing.
        let changes = self.changes(request)?;
        let otherwise = look_ahead(self.state.clone(), Vec::new(), awaiting, horizon);
        let then = look_ahead(self.state, changes, self.awaiting, horizon);
        let mut jobs = compare(&otherwise, &then, &self.names, horizon);
        let changed = jobs.len() as u64;
        let summary = summarise(&jobs, &otherwise, &then);
        jobs.truncate(MOST_TOLD);
        Ok(WhatIf {
            from_ms: then.from.as_millis(),
            until_ms: then.until.max(otherwise.until).as_millis(),
            summary,
            otherwise: outlook(&otherwise),
            then: outlook(&then),
            jobs: jobs.into_iter().map(|(_, change)| change).collect(),
            changed,
        })
    }

    fn horizon(&self, request: &WhatIfRequest) -> Result<Option<Duration>, Problem> {
        let named = request.drain.len()
            + request.lose.len()
            + request.caps.len()
            + request.grid_events.len()
            + request.submit.len();
        if named > MOST_NAMED {
            return Err(problem(422, "invalid_question", format!("one question names at most {MOST_NAMED} changes")));
        }
        let Some(ms) = request.horizon_ms else { return Ok(None) };
        if ms <= 0 || ms > FARTHEST.as_millis() {
            let detail = format!("a look ahead reaches from 1 ms to {} ms, not {ms}", FARTHEST.as_millis());
            return Err(Problem { field: Some("horizon_ms".to_owned()), ..problem(422, "invalid_question", detail) });
        }
        Ok(Some(Duration::from_millis(ms)))
    }

    /// The changes as facts to come.
    fn changes(&mut self, request: WhatIfRequest) -> Result<Vec<Fact>, Problem> {
        let now = self.state.now();
        let mut changes = Vec::new();
        let mut fleet = Arc::clone(self.state.fleet());
        if let Some(text) = &request.policy {
            let policy = read_policy(text, &fleet)?;
            changes.push(Fact { at: now, event: Event::PolicySet { policy } });
        }
        for name in &request.drain {
            let nodes = nodes_of(&fleet, name, "drain")?;
            let drained = |node| Event::NodeDrained { node, reason: "what if".to_owned() };
            changes.extend(nodes.into_iter().map(|node| Fact { at: now, event: drained(node) }));
        }
        for name in &request.lose {
            let nodes = nodes_of(&fleet, name, "lose")?;
            changes.extend(nodes.into_iter().map(|node| Fact { at: now, event: Event::NodeLost { node } }));
        }
        for (number, cap) in request.caps.iter().enumerate() {
            let (from, until, watts) = window(cap, now)?;
            let domain = domain_of(&fleet, &cap.domain)
                .ok_or_else(|| unknown("caps", format!("the fleet has no domain `{}`", cap.domain)))?;
            let (capped, limit) = with_cap(&fleet, domain, &format!("what if {}", number + 1));
            let open = capped.caps[limit.ix()].watts;
            fleet = capped;
            changes.push(Fact { at: from, event: Event::CapSet { cap: limit, watts } });
            if let Some(until) = until {
                changes.push(Fact { at: until, event: Event::CapSet { cap: limit, watts: open } });
            }
        }
        if !request.caps.is_empty() {
            self.state.apply(&Fact { at: now, event: Event::FleetChanged { fleet: Arc::clone(&fleet) } });
        }
        for (index, event) in request.grid_events.iter().enumerate() {
            let wrong = |problem| Problem { field: Some("grid_events".to_owned()), index: Some(index), ..problem };
            let spec = curtailment(&self.state, "what if", event).map_err(wrong)?;
            // Those that are known have lower numbers.
            let curtailment = CurtailmentId((1 << 32) + index as u64);
            changes.push(Fact { at: now, event: Event::CurtailmentAnnounced { curtailment, spec } });
        }
        for (index, file) in request.submit.into_iter().enumerate() {
            let asked =
                file.read(now, DEFAULT_TENANT).map_err(|fault| Problem { index: Some(index), ..of_fault(&fault) })?;
            if let Some(service) = asked.service {
                let service = Service { program: asked.job.program, ..service };
                may_spread(&fleet, &service).map_err(|problem| Problem { index: Some(index), ..problem })?;
                self.names.insert(self.next_job, format!("{} (not submitted)", service.name));
                let (id, demand) = (ServiceId(self.next_job), service.demand_at(now));
                self.next_job += 1;
                changes.push(Fact { at: now, event: Event::ServiceSubmitted { service: id, spec: Arc::new(service) } });
                let scaled = demand.map(|replicas| Event::ServiceScaled { service: id, replicas });
                changes.extend(scaled.map(|event| Fact { at: now, event }));
                continue;
            }
            let count = asked.array.as_ref().map_or(1, |array| array.indices.len());
            let spec = Arc::new(asked.job);
            for _ in 0..count {
                let job = JobId(self.next_job);
                self.next_job += 1;
                self.names.insert(job.0, format!("{} (not submitted)", spec.name));
                changes.push(Fact { at: now, event: Event::JobSubmitted { job, spec: Arc::clone(&spec) } });
                let Some(program) = spec.program.as_ref() else { continue };
                let begin = program.begin.filter(|begin| *begin > now);
                if program.hold || begin.is_some() || !program.after.is_empty() {
                    changes.push(Fact { at: now, event: Event::JobHeld { job } });
                }
                if !program.hold {
                    self.awaiting.push(Awaiting { job, after: program.after.clone(), begin });
                }
            }
        }
        Ok(changes)
    }
}

fn unknown(field: &str, detail: String) -> Problem {
    Problem { field: Some(field.to_owned()), ..problem(422, "invalid_question", detail) }
}

fn read_policy(text: &str, fleet: &Fleet) -> Result<Policy, Problem> {
    let read = Policy::from_toml(text).and_then(|policy| policy.check_on(fleet).map(|()| policy));
    read.map_err(|error| unknown("policy", format!("the policy file, {error}")))
}

fn domain_of(fleet: &Fleet, path: &str) -> Option<DomainIx> {
    (0..fleet.domains.len() as u32).map(DomainIx).find(|domain| fleet.path(*domain) == path)
}

/// The nodes of a domain, or the one node of that name.
fn nodes_of(fleet: &Fleet, name: &str, field: &str) -> Result<Vec<NodeIx>, Problem> {
    if let Some(domain) = domain_of(fleet, name) {
        return Ok(fleet.domains[domain.ix()].nodes.clone().map(NodeIx).collect());
    }
    let node = (0..fleet.nodes.len() as u32).map(NodeIx).find(|node| fleet.node_name(*node) == name);
    node.map(|node| vec![node])
        .ok_or_else(|| unknown(field, format!("the fleet has neither a domain nor a node `{name}`")))
}

fn window(cap: &WhatIfCap, now: Timestamp) -> Result<(Timestamp, Option<Timestamp>, Watts), Problem> {
    let from = cap.from_ms.map_or(now, Timestamp::from_millis).max(now);
    let until = cap.until_ms.map(Timestamp::from_millis);
    if until.is_some_and(|until| until <= from) {
        return Err(unknown("caps", format!("the cap on `{}` ends before it begins", cap.domain)));
    }
    let watts = i64::try_from(cap.watts).ok().filter(|watts| *watts <= MOST_WATTS);
    let watts = watts.ok_or_else(|| unknown("caps", format!("{} W is more than any domain draws", cap.watts)))?;
    Ok((from, until, Watts::new(watts)))
}

fn outlook(ahead: &Ahead) -> Outlook {
    Outlook {
        finished: ahead.finished,
        running: ahead.running,
        waiting: ahead.waiting,
        refused: ahead.refused,
        restarted: ahead.restarted,
        mean_wait_ms: ahead.mean_wait.as_millis(),
        lost_chip_ms: u64::try_from(ahead.lost.0 / 1000).unwrap_or(u64::MAX),
        peak_w: u64::try_from(ahead.peak_it.get()).unwrap_or(0),
    }
}

/// How much a job is hurt; the most first.
type Harm = (u8, i64);

fn compare(
    otherwise: &Ahead,
    then: &Ahead,
    names: &BTreeMap<u64, String>,
    horizon: Option<Duration>,
) -> Vec<(Harm, JobChange)> {
    let nothing = JobAhead::default();
    let ids: BTreeSet<JobId> = otherwise.jobs.keys().chain(then.jobs.keys()).copied().collect();
    let mut changes = Vec::new();
    for id in ids {
        let before = otherwise.jobs.get(&id);
        let after = then.jobs.get(&id).unwrap_or(&nothing);
        let (harm, change) = match before {
            None => ((0, 0), describe_new(after, then, horizon)),
            Some(before) => match describe(before, after) {
                Some(change) => change,
                None => continue,
            },
        };
        let before = before.unwrap_or(&nothing);
        let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
        changes.push((
            harm,
            JobChange {
                id: if otherwise.jobs.contains_key(&id) { id.0 } else { 0 },
                name: names.get(&id.0).cloned().unwrap_or_default(),
                change,
                start_otherwise_ms: ms(before.started),
                start_then_ms: ms(after.started),
                end_otherwise_ms: ms(before.ended),
                end_then_ms: ms(after.ended),
            },
        ));
    }
    changes.sort_by(|(a, left), (b, right)| b.cmp(a).then(left.id.cmp(&right.id)));
    changes
}

fn describe_new(after: &JobAhead, then: &Ahead, horizon: Option<Duration>) -> String {
    match (after.refused, after.started) {
        (true, _) => "could never run".to_owned(),
        (_, Some(start)) if start <= then.from => "would start at once".to_owned(),
        (_, Some(start)) => format!("would start in {}", span(start - then.from)),
        (_, None) if horizon.is_some() => "would not start in that time".to_owned(),
        (_, None) => "would wait for work that has no time limit".to_owned(),
    }
}

/// What changes for a job, and how much that hurts; none when nothing does.
fn describe(before: &JobAhead, after: &JobAhead) -> Option<(Harm, String)> {
    if after.refused != before.refused {
        return Some(((9, 0), "can never run".to_owned()));
    }
    if after.failed && !before.failed {
        return Some(((8, 0), "fails: it is stopped and is not to start again".to_owned()));
    }
    if after.restarts > before.restarts {
        let moved = if after.nodes != before.nodes && after.started.is_some() {
            format!("is stopped and starts again on {}", nodes(&after.nodes))
        } else if after.started.is_some() || after.ended.is_some() {
            "is stopped and starts again".to_owned()
        } else {
            "is stopped and finds no place again".to_owned()
        };
        let later = match (before.ended, after.ended) {
            (Some(before), Some(after)) if after > before => format!("; ends {} later", span(after - before)),
            (Some(_), None) => "; does not end in that time".to_owned(),
            _ => String::new(),
        };
        return Some(((7, 0), format!("{moved}{later}")));
    }
    match (before.started, after.started) {
        (Some(_), None) => Some(((6, 0), "does not start in that time".to_owned())),
        (Some(a), Some(b)) if b > a.saturating_add(SAME) => {
            Some(((5, (b - a).as_millis()), format!("starts {} later", span(b - a))))
        }
        (Some(a), Some(b)) if a > b.saturating_add(SAME) => {
            Some(((1, (b - a).as_millis()), format!("starts {} earlier", span(a - b))))
        }
        (None, Some(_)) if before.ended.is_none() => Some(((1, 0), "starts, which it otherwise would not".to_owned())),
        (Some(_), Some(_)) if before.nodes != after.nodes => {
            Some(((2, 0), format!("runs on {} instead", nodes(&after.nodes))))
        }
        _ => None,
    }
}

fn nodes(ranges: &[NodeRange]) -> String {
    let count: u32 = ranges.iter().map(|range| range.count).sum();
    if count == 1 { "another node".to_owned() } else { format!("{count} other nodes") }
}

fn summarise(jobs: &[(Harm, JobChange)], otherwise: &Ahead, then: &Ahead) -> String {
    let count = |rank: std::ops::RangeInclusive<u8>| jobs.iter().filter(|((at, _), _)| rank.contains(at)).count();
    let mut parts = Vec::new();
    let mut say = |number: usize, one: &str, many: &str| match number {
        0 => {}
        1 => parts.push(format!("1 job {one}")),
        number => parts.push(format!("{number} jobs {many}")),
    };
    say(count(9..=9), "can never run", "can never run");
    say(count(8..=8), "fails", "fail");
    say(count(7..=7), "is stopped and starts again", "are stopped and start again");
    say(count(5..=6), "starts later or not at all", "start later or not at all");
    say(count(2..=2), "runs elsewhere", "run elsewhere");
    say(count(1..=1), "starts earlier", "start earlier");
    let new: Vec<&JobChange> = jobs.iter().filter(|((at, _), _)| *at == 0).map(|(_, change)| change).collect();
    match new.as_slice() {
        [] => {}
        [one] => parts.push(format!("the new job {}", one.change)),
        many => parts.push(format!("{} new jobs come", many.len())),
    }
    if parts.is_empty() {
        return "Nothing changes for any job.".to_owned();
    }
    let lost = (then.lost.0 - otherwise.lost.0).max(0) as f64 / 1000.0 / 3_600_000.0;
    let lost = if lost >= 0.05 { format!("; {lost:.1} chip-hours of work are lost") } else { String::new() };
    let mut text = parts.join(", ");
    if let Some(first) = text.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    format!("{text}{lost}.")
}
