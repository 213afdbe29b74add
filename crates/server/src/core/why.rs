//! Why a job waits, and why one that runs is where it is, in words.

use offtake_engine::{
    Blocked, Curtailment, Explanation, JobId, Need, Obstacle, Phase, Placed, Unborne, Waiting, series,
};
use offtake_fleet::NodeIx;
use offtake_protocol::rest::{JobState, Levels, Problem, Risk, Why};
use offtake_sim::failures::{FailureModel, IntervalAdvice};
use offtake_units::{Duration, Timestamp};
use offtake_workload::human::{write_duration, write_timestamp};
use offtake_workload::{ChipRequest, Gang, Strength};

use super::access::unknown_job;
use super::records::Record;
use super::{Caller, Core};

/// How far ahead it is told what would displace a job.
const RISK_HORIZON: Duration = Duration::DAY;

/// Things of one kind that are named; the rest is counted.
const MOST_NAMED: usize = 5;

impl Core {
    /// Why a job stands where it stands.
    ///
    /// # Errors
    /// When there is no such job in memory, or none that the caller may know of.
    pub fn why(&mut self, caller: &Caller, id: u64, risk: bool) -> Result<Why, Problem> {
        self.own(caller, id)?;
        let Some(record) = self.records.get(&id).cloned() else { return Err(unknown_job(id)) };
        let state = self.job_state(id, &record);
        let mut why = Why {
            id,
            state,
            summary: String::new(),
            asks: record.spec.gangs.iter().map(describe_gang).collect::<Vec<_>>().join(", and "),
            missing: Vec::new(),
            nearest: None,
            blockers: Vec::new(),
            earliest_start_ms: None,
            start_estimate: None,
            planned: self.planned(id),
            deadline: None,
            jobs_before: None,
            levels: None,
            placed: Vec::new(),
            risk: None,
            policy: None,
        };
        if state.is_over() {
            why.summary = self.why_over(id, &record);
            return Ok(why);
        }
        why.policy = Some(self.policy_in_force());
        if record.service.is_some() {
            why.summary = self.why_service(id, &record);
            return Ok(why);
        }
        match self.state.explain(JobId(id)) {
            Some(Explanation::Refused(refusal)) => why.summary = format!("Job {id} can never run: {refusal}."),
            Some(Explanation::Held { .. }) | None => {
                let reason = self.why_held(&record).unwrap_or_else(|| "it is about to be looked at".to_owned());
                why.summary = format!("Job {id} is held: {reason}.");
                why.earliest_start_ms = record.held.begin.map(Timestamp::as_millis);
            }
            Some(Explanation::Waiting(waiting)) => self.why_waiting(caller, id, &waiting, &mut why),
            Some(Explanation::Placed(placed)) => {
                self.why_placed(id, &record, &placed, &mut why);
                why.summary.extend(self.why_evacuated(id, &record));
            }
        }
        if risk {
            why.risk = self.risk(caller, id);
        }
        if matches!(state, JobState::Pending | JobState::Held) {
            why.deadline = self.deadline_of(id);
            why.start_estimate = self.kept_start(id);
        }
        Ok(why)
    }

    fn risk(&mut self, caller: &Caller, id: u64) -> Option<Risk> {
        let risk = self.state.risk(JobId(id), RISK_HORIZON)?;
        let may_name = risk.chosen_by.iter().filter(|job| self.may_name(caller, **job));
        Some(Risk {
            horizon_ms: risk.horizon.as_millis(),
            stopping: risk.stopping,
            displaced_by: risk.displaced_by,
            borrowed_chip_milli: risk.borrowed,
            protected_until_ms: risk.protected_until.map(Timestamp::as_millis),
            chosen_by: risk.chosen_by.len() as u64,
            chosen_by_jobs: may_name.map(|job| job.0).collect(),
            spared_by: risk.spared_by,
            failure_ppm: risk.failure.parts(),
            any_ppm: risk.any.parts(),
            loss_chip_ms: risk.loss,
            expected_loss_chip_ms: risk.expected_loss,
        })
    }

    /// How long a job is planned to run, where that is less than it asked for.
    fn planned(&self, id: u64) -> Option<String> {
        let work = self.work(id)?;
        let (planned, asked) = work.planned.zip(work.spec.duration)?;
        let corrected = match &work.phase {
            Phase::Running { since, ends, .. } if *ends > since.saturating_add(planned) => {
                format!("; it has outrun that, and is now expected to end at {}", instant(*ends))
            }
            _ => String::new(),
        };
        let (asked, planned) = (span(asked), span(planned));
        let who = format!("{}/{}", work.spec.tenant, series(&work.spec.name));
        Some(format!("asked {asked}, planned as {planned} from the last 2 runs of {who}{corrected}"))
    }

    fn why_over(&self, id: u64, record: &Record) -> String {
        let state = record.end.as_ref().map_or("ended", |end| end.state.word());
        let reason = record.end.as_ref().and_then(|end| end.reason.clone());
        let outcome = record.current().and_then(|attempt| attempt.outcome.clone());
        match reason.or(outcome).filter(|_| state != JobState::Finished.word()) {
            Some(reason) => format!("Job {id} has {state}: {reason}."),
            None => format!("Job {id} has {state}."),
        }
    }

    fn why_waiting(&self, caller: &Caller, id: u64, waiting: &Waiting, why: &mut Why) {
        for need in &waiting.needs {
            let nearest = &need.nearest;
            let domain = self.state.fleet().path(nearest.domain);
            if nearest.workers < u64::from(need.workers) {
                let lacks = u64::from(need.workers) - nearest.workers;
                why.missing.push(format!(
                    "room for {lacks} of {} {}: {} fit in {domain} now",
                    need.workers,
                    plural(u64::from(need.workers), "worker"),
                    nearest.workers
                ));
            }
        }
        why.nearest = waiting.needs.first().map(|need| self.describe_nearest(need));
        why.blockers =
            waiting.obstacles.iter().filter_map(|obstacle| self.describe_obstacle(caller, obstacle)).collect();
        let running = waiting.running.iter().filter(|(job, _)| self.may_name(caller, *job));
        let running: Vec<String> = running
            .take(MOST_NAMED)
            .map(|(job, ends)| match *ends {
                Timestamp::NEVER => format!("job {} (no time limit)", job.0),
                ends => format!("job {} until {}", job.0, instant(ends)),
            })
            .collect();
        if !running.is_empty() && waiting.obstacles.contains(&Obstacle::Room) {
            let rest = waiting.running_jobs.saturating_sub(running.len() as u64);
            let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
            why.blockers.push(format!("there now: {}{more}", running.join(", ")));
        }
        if !waiting.out.is_empty() {
            let named = waiting.out.iter().take(MOST_NAMED).map(|(node, condition)| {
                let how = match (&condition.drained, condition.lost) {
                    (Some(why), _) => format!("drained: {why}"),
                    (None, true) => "down".to_owned(),
                    (None, false) => "in burn-in".to_owned(),
                };
                format!("{} ({how})", self.node_name(*node))
            });
            let named: Vec<String> = named.collect();
            let rest = waiting.out.len() - named.len();
            let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
            why.blockers.push(format!(
                "{} out of service: {}{more}",
                count(waiting.out.len() as u64, "node"),
                named.join(", ")
            ));
        }
        if let Some(opening) = &waiting.opening {
            let named = opening.moves.iter().filter(|(job, _)| self.may_name(caller, *job)).take(MOST_NAMED);
            let named: Vec<String> = named.map(|(job, _)| format!("job {}", job.0)).collect();
            let which = if named.is_empty() { String::new() } else { format!(", {}", named.join(", ")) };
            let domain = self.state.fleet().path(opening.domain);
            let moves = count(opening.moves.len() as u64, "job");
            why.blockers.push(format!("it would fit in {domain} if {moves} there moved elsewhere{which}"));
        }
        if let Some((crossed, crosses)) = waiting.levels {
            why.levels = Some(Levels { crossed, speed_ppm: None, crosses_ms: crosses.map(Timestamp::as_millis) });
            let so_far = match crossed {
                0 => "it waits for the level that it prefers".to_owned(),
                _ => format!("{} wider than it prefers will do by now", count(u64::from(crossed), "level")),
            };
            let next = crosses.map_or_else(String::new, |at| format!(", one more from {} on", instant(at)));
            why.blockers.push(format!("{so_far}{next}"));
        }
        why.earliest_start_ms = waiting.earliest.map(Timestamp::as_millis);
        why.jobs_before = Some(waiting.before);
        let cause = match self.state.blocked(JobId(id)) {
            Some(Blocked::Behind(other)) if self.may_name(caller, other) => {
                format!("job {} of its kind comes first", other.0)
            }
            _ => why.blockers.first().cloned().unwrap_or_else(|| "the next pass starts it".to_owned()),
        };
        let when = match waiting.earliest {
            Some(start) if start > self.state.now() => {
                let left = span(start - self.state.now());
                match waiting.hold {
                    Some(_) => {
                        format!(" It starts at {} at the latest, in {left}: its nodes are kept.", instant(start))
                    }
                    None => format!(" It can start at {}, in {left}, if nothing comes before it.", instant(start)),
                }
            }
            Some(_) => String::new(),
            None => " When it starts nobody can tell: it waits for work without a time limit.".to_owned(),
        };
        why.summary = format!("Job {id} waits: {cause}.{when}");
    }

    pub(super) fn may_name(&self, caller: &Caller, job: JobId) -> bool {
        self.records.get(&job.0).is_some_and(|record| caller.sees(&record.spec.tenant))
    }

    fn node_name(&self, node: NodeIx) -> &str {
        self.names.get(node.ix()).map_or("a node", |name| name)
    }

    /// The first of some nodes by name, and how many more they are.
    fn name_some(&self, nodes: &[NodeIx]) -> String {
        let named: Vec<&str> = nodes.iter().take(MOST_NAMED).map(|node| self.node_name(*node)).collect();
        let rest = nodes.len() - named.len();
        let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
        format!("{}{more}", named.join(", "))
    }

    fn describe_nearest(&self, need: &Need) -> String {
        let nearest = &need.nearest;
        let fleet = self.state.fleet();
        let level = &fleet.levels[fleet.domains[nearest.domain.ix()].level.ix()];
        let mut text = format!(
            "{level} {}: {} of {} wholly free",
            fleet.path(nearest.domain),
            nearest.free_nodes,
            count(u64::from(nearest.nodes), "node")
        );
        if !matches!(need.chips, ChipRequest::None) {
            text.push_str(&format!(", {} free", count(nearest.free_chips, "chip")));
        }
        if nearest.held_nodes > 0 {
            text.push_str(&format!(", {} kept for other jobs", nearest.held_nodes));
        }
        if nearest.out_nodes > 0 {
            text.push_str(&format!(", {} down or drained", nearest.out_nodes));
        }
        text
    }

    fn describe_obstacle(&self, caller: &Caller, obstacle: &Obstacle) -> Option<String> {
        let who = |job: JobId| {
            if self.may_name(caller, job) { format!("job {}", job.0) } else { "another tenant's job".to_owned() }
        };
        let whose = |tenant: &str| match tenant {
            "" => "all tenants together".to_owned(),
            tenant if caller.sees(tenant) => format!("tenant {tenant}"),
            _ => "another tenant".to_owned(),
        };
        let chips = |milli: u64| match milli % 1000 {
            0 => count(milli / 1000, "chip"),
            _ => format!("{}.{:03} chips", milli / 1000, milli % 1000),
        };
        Some(match obstacle {
            Obstacle::Behind { job } => format!("{} comes first", who(*job)),
            Obstacle::HeldFor { job, start } => {
                format!("what it needs is kept for {}, which starts by {}", who(*job), instant(*start))
            }
            Obstacle::Reserved { reservation, start, end } => {
                let reserved = self.state.reservations().get(reservation);
                let name = reserved.map_or("a reservation", |reserved| reserved.spec.name.as_str());
                format!("what it needs is set aside as {name} from {} to {}", instant(*start), instant(*end))
            }
            Obstacle::Curtailed { spec } => {
                let cap = self.state.fleet().caps.get(spec.cap.ix()).map_or("its cap", |cap| cap.name.as_str());
                let (from, until) = (instant(spec.from), instant(spec.until));
                let Curtailment { name, watts, .. } = spec;
                format!(
                    "it would still run when the grid event {name} leaves {watts} under {cap}, from {from} to {until}"
                )
            }
            Obstacle::Power { limit, cap, left, needed } => {
                let name = self.state.fleet().caps.get(limit.ix()).map_or("a cap", |cap| cap.name.as_str());
                format!("the cap {name} of {cap} leaves {left}, and it draws {needed}")
            }
            Obstacle::Ramp { site, needed, left, ready } => {
                let site = &self.state.fleet().sites[site.ix()].name;
                let at = instant(*ready);
                format!(
                    "the ramp of site {site} takes on {left} now, and it draws {needed}: it does by {at} if nobody goes first"
                )
            }
            Obstacle::Unborne { site, what } => {
                let site = &self.state.fleet().sites[site.ix()].name;
                match what {
                    Unborne::Step { step, most } => {
                        format!("its sudden stop is a step of {step}, and site {site} stands {most}")
                    }
                    Unborne::Swing { swing, period, most } => {
                        format!("its draw swings by {swing} every {period}, and site {site} stands {most} in that time")
                    }
                }
            }
            Obstacle::NotBegun { name, start: Some(start) } => {
                format!("its reservation {name} begins at {}", instant(*start))
            }
            Obstacle::NotBegun { name, start: None } => format!("its reservation {name} has no nodes yet"),
            Obstacle::SmallReservation { name, chips, needed } => format!(
                "its reservation {name} has {}, and it needs {}: it will not start there; cancel it, or reserve more",
                count(*chips, "chip"),
                count(*needed, "chip")
            ),
            Obstacle::NoReservation { name } => format!(
                "it names the reservation {name}, which is over, was withdrawn or is for other tenants: cancel it and \
                 submit it without, or with another"
            ),
            Obstacle::Out { nodes } => {
                format!("it would fit on nodes that are down or drained: {}", self.name_some(nodes))
            }
            Obstacle::Tenant { nodes } => format!(
                "it would fit on nodes that run one tenant's work at a time, now another's: {}",
                self.name_some(nodes)
            ),
            Obstacle::Scattered => {
                "there is room for all of its workers, but not in the domains in which it requires them together"
                    .to_owned()
            }
            Obstacle::Quota { tenant, accelerator, available, needed } => {
                let kind = &self.state.fleet().accelerators[accelerator.ix()].name;
                format!(
                    "the quota of {} leaves {} of {kind}, and it takes {}",
                    whose(tenant),
                    chips(*available),
                    chips(*needed)
                )
            }
            Obstacle::Lent { accelerator, to, reclaims } => {
                let kind = &self.state.fleet().accelerators[accelerator.ix()].name;
                let named = to.iter().take(MOST_NAMED).map(|(tenant, milli)| {
                    let who = if caller.sees(tenant) { tenant.as_str() } else { "another tenant" };
                    format!("{} to {who}", chips(*milli))
                });
                let named: Vec<String> = named.collect();
                let rest = to.len() - named.len();
                let more = if rest > 0 { format!(", and to {rest} more") } else { String::new() };
                let back = match reclaims {
                    true => "taken back where their work may be stopped",
                    false => "the policy waits until they give it back",
                };
                format!("of the {kind} that are its tenant's, lent are {}{more}: {back}", named.join(", "))
            }
            Obstacle::Limit { tenant, counted, limit } => {
                format!("{} may have {limit} {}, and has no room for it", whose(tenant), counted.words())
            }
            Obstacle::BlastRadius { tenant, area, most, left } => format!(
                "{} may have {} chips at most in {area}, and has {} left there",
                whose(tenant),
                chips(*most),
                chips(*left)
            ),
            Obstacle::Share { job, tenant, share, own } => format!(
                "{} comes first: {} has {:.2} % of the fleet for its weight, this one's tenant {:.2} %",
                who(*job),
                whose(tenant),
                share.as_f64() * 100.0,
                own.as_f64() * 100.0
            ),
            Obstacle::Room => "running work has what it needs".to_owned(),
        })
    }

    /// How often a placed job should save its work, where that would gain one part in a thousand.
    fn checkpoint_advice(&self, record: &Record, placed: &Placed) -> Option<String> {
        let fleet = self.state.fleet();
        let first = placed.nodes.first()?.first;
        let site = &fleet.sites[fleet.domains[fleet.nodes[first.ix()].domain.ix()].site.ix()];
        let health = self.state.policy().health.clone().unwrap_or_default();
        let failures = FailureModel::of_chips(health.chip_mtbf);
        let advice = IntervalAdvice::on(&record.spec, &failures, site.storage_bandwidth)?;
        let gain = advice.best_goodput - advice.goodput;
        (gain >= 0.001).then(|| {
            format!(
                "saves its work every {}; every {} would gain {:.1} % goodput (Daly 2006)",
                write_duration(advice.configured),
                write_duration(roughly(advice.daly)),
                100.0 * gain
            )
        })
    }

    fn why_placed(&self, id: u64, record: &Record, placed: &Placed, why: &mut Why) {
        let fleet = self.state.fleet();
        let nodes: u64 = placed.nodes.iter().map(|range| u64::from(range.count)).sum();
        let place = match placed.domain {
            Some(domain) => {
                let entry = &fleet.domains[domain.ix()];
                format!("{} {}", fleet.levels[entry.level.ix()], fleet.path(domain))
            }
            None => "several sites".to_owned(),
        };
        let names = record.current().map(|attempt| {
            let names = attempt.shares.iter().take(MOST_NAMED).map(|share| share.node.to_string());
            names.collect::<Vec<_>>().join(", ")
        });
        why.summary = format!("Job {id} is {} on {} in {place}.", why.state.word(), count(nodes, "node"));
        why.placed.push(format!("nodes: {}{}", names.unwrap_or_default(), if nodes > 5 { ", …" } else { "" }));
        for topology in &placed.topology {
            why.placed.push(match topology {
                Some((level, Strength::Required)) => {
                    format!("all workers must lie in one {}", fleet.levels[level.ix()])
                }
                Some((level, Strength::Preferred)) => {
                    format!("all workers should lie in one {}", fleet.levels[level.ix()])
                }
                None => "workers may lie anywhere in a site".to_owned(),
            });
        }
        if let Some((crossed, speed)) = placed.levels {
            why.levels = Some(Levels { crossed, speed_ppm: Some(speed.parts()), crosses_ms: None });
            why.placed.push(match crossed {
                0 => "it lies no wider than it prefers".to_owned(),
                _ => {
                    let wider = count(u64::from(crossed), "level");
                    format!("it lies {wider} wider than it prefers, at {:.1}% of its speed", 100.0 * speed.as_f64())
                }
            });
        }
        why.placed.extend(self.checkpoint_advice(record, placed));
        why.placed.push(format!(
            "{} of the {} there are wholly free now",
            placed.domain_free,
            count(u64::from(placed.domain_nodes), "node")
        ));
        why.placed.push(match placed.ends {
            Timestamp::NEVER => "it has no time limit, so nobody can count on its nodes".to_owned(),
            ends if why.planned.is_some() => format!("it is expected to end at {}", instant(ends)),
            ends => format!("its time limit is reached at {}", instant(ends)),
        });
    }
}

fn describe_gang(gang: &Gang) -> String {
    let each = match gang.chips {
        ChipRequest::None => cores(gang),
        ChipRequest::Share(share) => format!("{share} and {}", cores(gang)),
        ChipRequest::Whole(chips) => format!("{} and {}", count(u64::from(chips), "chip"), cores(gang)),
    };
    let memory = if gang.memory.get() > 0 { format!(", {}", gang.memory) } else { String::new() };
    let of =
        if gang.accelerators.is_empty() { String::new() } else { format!(" of {}", gang.accelerators.join(" or ")) };
    let topology = gang.topology.as_ref().map_or_else(String::new, |topology| match topology.strength {
        Strength::Required => format!(", all in one {}", topology.level),
        Strength::Preferred => format!(", preferably in one {}", topology.level),
    });
    let groups = gang
        .groups
        .as_ref()
        .map_or_else(String::new, |groups| format!(", {} of them together in one {}", groups.workers, groups.level));
    let slice = gang.slice.map_or_else(String::new, |slice| format!(", as a slice of {slice}"));
    let spares = match gang.room() - gang.workers {
        0 => String::new(),
        spares => format!(", and {spares} that stand by"),
    };
    let spread = gang.per_node.map_or_else(String::new, |most| format!(", at most {most} on a node"));
    let swing = gang.swing.map_or_else(String::new, |swing| {
        format!(", swinging by {:.0} % every {}", swing.share.as_f64() * 100.0, swing.period)
    });
    let with = if gang.workers == 1 { "with" } else { "each with" };
    format!(
        "{} {with} {each}{memory}{of}{topology}{groups}{slice}{spread}{spares}{swing}",
        count(u64::from(gang.workers), "worker")
    )
}

fn cores(gang: &Gang) -> String {
    let milli = gang.cpu.get();
    if milli.is_multiple_of(1000) {
        count(u64::from(milli / 1000), "core")
    } else {
        format!("{milli} thousandths of a core")
    }
}

/// Whole minutes, one at least, or whole hours from ten on: nobody needs it finer.
fn roughly(span: Duration) -> Duration {
    let unit = if span.as_millis() < 10 * Duration::HOUR.as_millis() { Duration::MINUTE } else { Duration::HOUR };
    Duration::from_millis((span.as_millis() / unit.as_millis()).max(1) * unit.as_millis())
}

pub(super) fn instant(at: Timestamp) -> String {
    write_timestamp(at).unwrap_or_else(|| format!("{} ms", at.as_millis()))
}

/// A span in at most two units: nobody reads more in a sentence.
pub(super) fn span(of: offtake_units::Duration) -> String {
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let seconds = (of.as_millis() / 1000).max(1);
    let first = UNITS.iter().position(|(length, _)| seconds >= *length).unwrap_or(UNITS.len() - 1);
    let (length, unit) = UNITS[first];
    let (whole, rest) = (seconds / length, seconds % length);
    match UNITS.get(first + 1).map(|(next, unit)| (rest / next, unit)) {
        Some((more, next)) if more > 0 => format!("{whole} {unit} {more} {next}"),
        _ => format!("{whole} {unit}"),
    }
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {}", plural(number, noun))
}

fn plural(number: u64, noun: &str) -> String {
    if number == 1 { noun.to_owned() } else { format!("{noun}s") }
}
