//! Reservations and maintenance windows: made where their nodes can be had, and shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{Event as EngineEvent, ReservationId, Reserved, Unmet};
use offtake_fleet::NodeIx;
use offtake_protocol::rest::{JobState, Problem, ReservationState, ReservationView};
use offtake_workload::{Job, Purpose, Reservation};

use super::access::problem;
use super::submit::of_fault;
use super::why::instant;
use super::{Answer, Caller, Core};

/// Reservations at one time: each is looked at where work is placed.
const MOST_RESERVATIONS: usize = 1000;

/// Jobs that name a reservation: those that run, and those that wait.
type Counts = (u64, u64);

impl Core {
    /// The reservations that a caller may use or has to expect, by name.
    pub fn reservations(&self, caller: &Caller) -> Vec<ReservationView> {
        let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
        for (id, record) in self.records.iter().filter(|(_, record)| record.end.is_none()) {
            let Some(name) = record.spec.reservation.as_deref().filter(|_| caller.sees(&record.spec.tenant)) else {
                continue;
            };
            let (running, pending) = counts.entry(name).or_default();
            match self.job_state(*id, record) {
                JobState::Pending | JobState::Held => *pending += 1,
                _ => *running += 1,
            }
        }
        let concerns = |spec: &Reservation| {
            spec.purpose == Purpose::Maintenance
                || spec.tenants.is_empty()
                || spec.tenants.iter().any(|tenant| caller.sees(tenant))
        };
        let shown = self.state.reservations().iter().filter(|(_, reserved)| concerns(&reserved.spec));
        let mut views: Vec<ReservationView> = shown
            .map(|(id, reserved)| {
                let counts = counts.get(reserved.spec.name.as_str()).copied().unwrap_or_default();
                self.show_reservation(*id, reserved, counts)
            })
            .collect();
        views.sort_by(|a, b| a.asked.name.cmp(&b.asked.name));
        views
    }

    fn show_reservation(&self, id: ReservationId, reserved: &Reserved, counts: Counts) -> ReservationView {
        let window = self.state.window(id);
        let nodes = window.into_iter().flat_map(|window| &window.nodes).flat_map(|range| range.numbers());
        let names = nodes.filter_map(|node| self.names.get(NodeIx(node).ix())).map(|name| name.to_string());
        let state = match reserved.end {
            Some(_) if reserved.start <= self.state.now() => ReservationState::Active,
            Some(_) => ReservationState::Planned,
            None => ReservationState::Waiting,
        };
        let end = reserved.end.unwrap_or(reserved.start.saturating_add(reserved.spec.length));
        ReservationView {
            asked: (*reserved.spec).clone(),
            state,
            start_ms: reserved.start.as_millis(),
            end_ms: end.as_millis(),
            nodes: names.collect(),
            running_jobs: counts.0,
            pending_jobs: counts.1,
        }
    }

    /// How many reservations stand where, and how many nodes the windows have that last.
    pub(super) fn reservation_figures(&self) -> (BTreeMap<&'static str, u64>, u64) {
        let mut states: BTreeMap<&'static str, u64> =
            ReservationState::ALL.into_iter().map(|state| (state.word(), 0)).collect();
        let mut nodes = 0;
        for (id, reserved) in self.state.reservations() {
            let view = self.show_reservation(*id, reserved, (0, 0));
            *states.entry(view.state.word()).or_default() += 1;
            if view.state == ReservationState::Active {
                nodes += view.nodes.len() as u64;
            }
        }
        (states, nodes)
    }

    fn reservation_called(&self, name: &str) -> Option<(ReservationId, &Reserved)> {
        let all = self.state.reservations().iter();
        all.map(|(id, reserved)| (*id, reserved)).find(|(_, reserved)| reserved.spec.name == name)
    }

    /// Sets capacity aside, with its first window, or says why that cannot be.
    pub(super) fn reserve(&mut self, caller: &Caller, spec: &Reservation, repeated: bool) -> Result<Answer, Problem> {
        if !repeated {
            spec.check().map_err(|fault| Problem { code: "invalid_reservation".to_owned(), ..of_fault(&fault) })?;
            if self.reservation_called(&spec.name).is_some() {
                let detail =
                    format!("there is a reservation `{}` already; withdraw it or take another name", spec.name);
                return Err(problem(409, "reservation_exists", detail));
            }
            if self.state.reservations().len() >= MOST_RESERVATIONS {
                let detail = format!("there are {MOST_RESERVATIONS} reservations, the most there may be: withdraw one");
                return Err(problem(409, "too_many_reservations", detail));
            }
            let window = self.state.window_of_new(spec).map_err(|unmet| self.unmet_reservation(caller, &unmet))?;
            let reservation = ReservationId(self.next_reservation);
            self.emit_engine(EngineEvent::ReservationMade { reservation, spec: Arc::new(spec.clone()) });
            let (start, end, nodes) = (window.start, window.end, window.nodes);
            self.emit_engine(EngineEvent::WindowPlaced { reservation, start, end, nodes });
        }
        let view = self.reservations(caller).into_iter().find(|view| view.asked.name == spec.name);
        view.map(|view| Answer::Reservation(Box::new(view))).ok_or_else(|| unknown_reservation(&spec.name))
    }

    fn unmet_reservation(&self, caller: &Caller, unmet: &Unmet) -> Problem {
        let wrong = |field: &str| {
            let problem = problem(422, "invalid_reservation", unmet.to_string());
            Problem { field: Some(field.to_owned()), ..problem }
        };
        match unmet {
            Unmet::UnknownDomain { .. } => wrong("domain"),
            Unmet::UnknownLevel { .. } => wrong("level"),
            Unmet::TooLarge => wrong("nodes"),
            Unmet::Over => wrong("start"),
            Unmet::Busy { earliest, in_the_way } => {
                let named = in_the_way.iter().filter(|job| self.may_name(caller, **job));
                let named: Vec<String> = named.map(|job| job.0.to_string()).collect();
                let when = match earliest {
                    Some(at) => format!("the earliest start is {}", instant(*at)),
                    None => "work without a time limit is in the way".to_owned(),
                };
                let detail = format!(
                    "not enough nodes are free in time: {when}; jobs that would have to go: {}. Ask for another start, \
                     or let it begin later with `flexible`",
                    named.join(", ")
                );
                problem(409, "reservation_unmet", detail)
            }
        }
    }

    /// Withdraws a reservation. Jobs that run on its nodes go on.
    pub(super) fn unreserve(&mut self, name: &str) -> Result<(), Problem> {
        let Some((reservation, _)) = self.reservation_called(name) else { return Err(unknown_reservation(name)) };
        self.emit_engine(EngineEvent::ReservationCancelled { reservation });
        Ok(())
    }

    /// # Errors
    /// When a job names a reservation that is not there, or is not for its tenant.
    pub(super) fn may_use_reservation(&self, job: &Job) -> Result<(), Problem> {
        let Some(name) = &job.reservation else { return Ok(()) };
        let admitting = || {
            let all = self.state.reservations().values();
            all.filter(|reserved| reserved.spec.admits(&job.tenant)).map(|reserved| reserved.spec.name.as_str())
        };
        if admitting().any(|known| known == name) {
            return Ok(());
        }
        const MOST_NAMED: usize = 16;
        let known: Vec<&str> = admitting().take(MOST_NAMED).collect();
        let known =
            if known.is_empty() { "there is none".to_owned() } else { format!("there is {}", known.join(", ")) };
        let detail = format!("there is no reservation `{name}` for work of `{}`: {known}", job.tenant);
        Err(Problem { field: Some("reservation".to_owned()), ..problem(422, "unknown_reservation", detail) })
    }
}

fn unknown_reservation(name: &str) -> Problem {
    problem(404, "unknown_reservation", format!("there is no reservation `{name}`"))
}
