//! Caps and grid events: what caps allow, and what is asked of them for a time.

use offtake_engine::{Announced, Curtailment, CurtailmentId, Event as EngineEvent, LEAST_NOTICE, LimitIx, State};
use offtake_fleet::{Circuit, Feed, Fleet};
use offtake_protocol::rest::{
    CapView, CircuitView, DomainView, FeedView, GridEvent, GridEventState, GridEventView, Problem,
};
use offtake_units::{Duration, Ppm, Watts};

use super::access::problem;
use super::views::whole;
use super::{Answer, Core};

/// More than any cap allows: a terawatt.
pub(super) const MOST_WATTS: i64 = 1_000_000_000_000;

/// Grid events at one time: each is looked at where work is placed.
const MOST_EVENTS: usize = 1000;

/// Bytes of a name that someone gives.
const LONGEST_NAME: usize = 200;

/// A clock that asks for something in the past may be so much behind.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

/// What the circuits of a fleet carry where its domains draw so much.
pub(super) fn circuits(fleet: &Fleet, domains: &[DomainView]) -> Vec<CircuitView> {
    let view = |circuit: &Circuit| {
        let watts = |feed: &Feed| u128::from(domains[feed.domain.ix()].power_w) * u128::from(feed.share.parts());
        let micro_watts: u128 = circuit.feeds.iter().map(watts).sum();
        let apparent = |micro_watts: u128| {
            let volt_amperes = micro_watts.div_ceil(u128::from(circuit.power_factor.parts().max(1)));
            u64::try_from(volt_amperes).unwrap_or(u64::MAX)
        };
        let allowed = i128::from(circuit.rating.get()) * i128::from(circuit.continuous_load_factor.parts()) / 1_000_000;
        let site = circuit.feeds.first().map(|feed| fleet.domains[feed.domain.ix()].site);
        CircuitView {
            name: circuit.name.clone(),
            site: site.map_or_else(String::new, |site| fleet.sites[site.ix()].name.clone()),
            allows_va: u64::try_from(allowed).unwrap_or_default(),
            used_va: apparent(micro_watts),
            redundancy_group: circuit.redundancy_group.clone(),
            feeds: circuit
                .feeds
                .iter()
                .map(|feed| FeedView { domain: fleet.path(feed.domain), share_ppm: feed.share.parts() })
                .collect(),
        }
    };
    fleet.circuits.iter().map(view).collect()
}

impl Core {
    /// All caps of the fleet.
    pub(super) fn caps(&self) -> Vec<CapView> {
        (0..self.state.fleet().caps.len()).map(|place| self.cap_at(place)).collect()
    }

    fn cap_at(&self, place: usize) -> CapView {
        let (cap, limit) = (&self.state.fleet().caps[place], &self.state.capacity().limits()[place]);
        CapView {
            name: cap.name.clone(),
            watts: whole(limit.capacity()),
            declared_w: (limit.capacity() != cap.watts).then(|| whole(cap.watts)),
            used_w: whole(self.state.metered(LimitIx(place as u32))),
        }
    }

    pub(super) fn cap_answer(&self, name: &str) -> Result<Answer, Problem> {
        Ok(Answer::Cap(self.cap_at(cap_called(&self.state, name)?.ix())))
    }

    pub(super) fn set_cap(&mut self, name: &str, watts: Option<u64>) -> Result<(), Problem> {
        let cap = cap_called(&self.state, name)?;
        let watts = match watts {
            None => self.state.fleet().caps[cap.ix()].watts,
            Some(watts) => allowed(watts)?,
        };
        self.emit_engine(EngineEvent::CapSet { cap, watts });
        Ok(())
    }

    /// Grid events that are not over, in the order in which they begin.
    pub fn grid_events(&self) -> Vec<GridEventView> {
        let mut events: Vec<&Announced> = self.state.curtailments().values().collect();
        events.sort_by(|a, b| (a.spec.from, &a.spec.name).cmp(&(b.spec.from, &b.spec.name)));
        events.into_iter().map(|announced| self.show_grid_event(announced)).collect()
    }

    fn show_grid_event(&self, announced: &Announced) -> GridEventView {
        let Curtailment { name, cap, watts, from, until } = &announced.spec;
        let limit = &self.state.capacity().limits()[cap.ix()];
        GridEventView {
            name: name.clone(),
            cap: self.state.fleet().caps[cap.ix()].name.clone(),
            watts: whole(*watts),
            from_ms: from.as_millis(),
            until_ms: until.as_millis(),
            state: if announced.begun { GridEventState::Active } else { GridEventState::Announced },
            used_w: whole(self.state.metered(*cap)),
            // What the engine declares in its next pass.
            least_w: Some(limit.idle()).filter(|idle| idle > watts).map(whole),
        }
    }

    fn grid_event_called(&self, name: &str) -> Option<(CurtailmentId, &Announced)> {
        let mut all = self.state.curtailments().iter();
        all.find(|(_, announced)| announced.spec.name == name).map(|(id, announced)| (*id, announced))
    }

    pub(super) fn grid_event_answer(&self, name: &str) -> Result<Answer, Problem> {
        let found = self.grid_event_called(name).map(|(_, announced)| self.show_grid_event(announced));
        found.map(|view| Answer::GridEvent(Box::new(view))).ok_or_else(|| unknown_event(name))
    }

    /// Everybody learns of a grid event; one that is known already, just so, is left as it is.
    pub(super) fn announce(&mut self, name: &str, event: &GridEvent) -> Result<(), Problem> {
        if let Some((_, known)) = self.grid_event_called(name) {
            let known = &known.spec;
            let is_as_deep = event.cut_ppm.is_none() && event.watts == Some(whole(known.watts));
            let is_then = event.at == Some(known.from) && known.until == known.from.saturating_add(event.hold);
            if is_then && is_as_deep && self.state.fleet().caps[known.cap.ix()].name == event.cap {
                return Ok(());
            }
            let detail = format!("there is another grid event `{name}`; withdraw it first, or take another name");
            return Err(problem(409, "grid_event_exists", detail));
        }
        if self.state.curtailments().len() >= MOST_EVENTS {
            let detail = format!("there are {MOST_EVENTS} grid events, the most there may be: withdraw one");
            return Err(problem(409, "too_many_grid_events", detail));
        }
        let spec = curtailment(&self.state, name, event)?;
        let curtailment = CurtailmentId(self.next_curtailment);
        self.emit_engine(EngineEvent::CurtailmentAnnounced { curtailment, spec });
        Ok(())
    }

    /// A grid event is over at once.
    pub(super) fn withdraw(&mut self, name: &str) -> Result<(), Problem> {
        let Some((curtailment, _)) = self.grid_event_called(name) else { return Err(unknown_event(name)) };
        self.emit_engine(EngineEvent::CurtailmentEnded { curtailment });
        Ok(())
    }
}

/// What a grid event that is announced now asks for.
///
/// # Errors
/// When it makes no sense.
pub(super) fn curtailment(state: &State, name: &str, event: &GridEvent) -> Result<Curtailment, Problem> {
    let nonsense = |field: &str, detail: &str| Err(wrong(field, "invalid_grid_event", detail.to_owned()));
    if name.trim().is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return nonsense("name", &format!("a grid event is named in at most {LONGEST_NAME} bytes on one line"));
    }
    let cap = cap_called(state, &event.cap)?;
    let now = state.now();
    let at = event.at.unwrap_or(now);
    if at < now - CLOCKS_DIFFER {
        return nonsense("at", "it would have begun in the past; leave `at` out for an event that begins at once");
    }
    if event.hold <= Duration::ZERO {
        return nonsense("hold", "it lasts for no time; say how long, such as `3h`");
    }
    let load = state.metered(cap);
    let watts = match (event.watts, event.cut_ppm) {
        (Some(watts), None) => allowed(watts)?,
        (None, Some(cut @ 1..=1_000_000)) => load - load.share_up(Ppm::new(cut)),
        (None, Some(_)) => {
            return nonsense("cut_ppm", "a cut is a share of what is drawn: more than 0, and at most 1000000");
        }
        _ => return nonsense("watts", "say how much may be drawn with `watts`, or how much less with `cut_ppm`"),
    };
    let from = at.max(now.saturating_add(LEAST_NOTICE));
    Ok(Curtailment { name: name.to_owned(), cap, watts, from, until: from.saturating_add(event.hold) })
}

fn cap_called(state: &State, name: &str) -> Result<LimitIx, Problem> {
    let place = state.fleet().caps.iter().position(|cap| cap.name == name);
    let unknown = || {
        let detail = format!("the fleet has no cap `{name}`; `offtake grid` lists those it has");
        problem(404, "unknown_cap", detail)
    };
    place.map(|place| LimitIx(place as u32)).ok_or_else(unknown)
}

fn allowed(watts: u64) -> Result<Watts, Problem> {
    let allowed = i64::try_from(watts).ok().filter(|watts| *watts <= MOST_WATTS).map(Watts::new);
    allowed.ok_or_else(|| wrong("watts", "invalid_watts", format!("a cap allows at most {MOST_WATTS} W")))
}

fn wrong(field: &str, code: &str, detail: String) -> Problem {
    Problem { field: Some(field.to_owned()), ..problem(422, code, detail) }
}

fn unknown_event(name: &str) -> Problem {
    problem(
        404,
        "unknown_grid_event",
        format!("there is no grid event `{name}`; `offtake grid events` lists those there are"),
    )
}
