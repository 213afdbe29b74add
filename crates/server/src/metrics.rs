//! Figures for Prometheus.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::core::Figures;

/// What the server counts and measures as it goes. What the core knows is asked for when somebody wants to see it.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    placement_pass: Histogram,
    journal_commit: Histogram,
    requests: Family<Request, Counter>,
    request_seconds: Family<Route, Histogram, fn() -> Histogram>,
    agent_reports: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
    method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tier {
    tier: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Meter {
    site: String,
    meter: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cap {
    cap: String,
}

/// Methods that are told apart; a request may name any.
const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "HEAD"];

const TIERS: [&str; 4] = ["reserved", "guaranteed", "standard", "spot"];

/// From 10 µs to 10 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(1e-5, 10f64.sqrt(), 13))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            placement_pass: seconds(),
            journal_commit: seconds(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(seconds),
            agent_reports: Counter::default(),
        }
    }

    pub(crate) fn placement_pass(&self, took: Duration) {
        self.placement_pass.observe(took.as_secs_f64());
    }

    pub(crate) fn journal_commit(&self, took: Duration) {
        self.journal_commit.observe(took.as_secs_f64());
    }

    pub(crate) fn http_request(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
        let labels = Route { route: route.to_owned(), method: method.to_owned() };
        self.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        let Route { route, method } = labels;
        self.requests.get_or_create(&Request { route, method, status: status.as_u16() }).inc();
    }

    pub(crate) fn agent_report(&self) {
        self.agent_reports.inc();
    }

    /// All figures as OpenMetrics has them.
    pub(crate) fn encode(&self, figures: &Figures, sequence: u64, read_only: bool) -> String {
        let mut registry = Registry::with_prefix("offtake");
        self.register(&mut registry);
        tell(&mut registry, figures, sequence, read_only);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes any text");
        text
    }

    fn register(&self, registry: &mut Registry) {
        let build = Info::new([("version", crate::VERSION)]);
        registry.register("build", "The server's release", build);
        registry.register_with_unit(
            "placement_pass",
            "Time of a pass over what may start",
            Unit::Seconds,
            self.placement_pass.clone(),
        );
        registry.register_with_unit(
            "journal_commit",
            "Time from handing facts to the journal until they are on disk",
            Unit::Seconds,
            self.journal_commit.clone(),
        );
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "http_request",
            "Time until a request was answered; long polls count as long as they wait",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register("agent_reports", "Reports of agents", self.agent_reports.clone());
    }
}

/// What the core knows.
fn tell(registry: &mut Registry, figures: &Figures, sequence: u64, read_only: bool) {
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let by_state = |values: &std::collections::BTreeMap<&'static str, u64>| {
        let family = Family::<State, Gauge>::default();
        for (state, value) in values {
            family.get_or_create(&State { state }).set(whole(*value));
        }
        family
    };
    let position = Gauge::<i64>::default();
    position.set(whole(sequence));
    registry.register("journal_sequence", "The last fact on disk", position);
    let refuses = Gauge::<i64>::default();
    refuses.set(i64::from(read_only));
    registry.register("journal_read_only", "1 while the journal takes nothing and writes are refused", refuses);
    registry.register("jobs", "Jobs that are not over", by_state(&figures.jobs));
    registry.register("nodes", "Nodes", by_state(&figures.nodes));
    registry.register("reservations", "Reservations and maintenance windows", by_state(&figures.reservations));
    let reserved = Gauge::<i64>::default();
    reserved.set(whole(figures.reserved_nodes));
    registry.register("reserved_nodes", "Nodes of reservations whose windows last", reserved);
    let ended = Family::<State, Counter>::default();
    for (state, value) in &figures.ended {
        ended.get_or_create(&State { state }).inc_by(*value);
    }
    registry.register("jobs_ended", "Jobs that have ended", ended);
    let expired = Counter::<u64>::default();
    expired.inc_by(figures.leases_expired);
    registry.register("lease_expired", "Leases of agents that ran out: their nodes are lost", expired);

    let chips = |milli: u64| milli as f64 / 1000.0;
    let by_tier = |values: [u64; 4]| {
        let family = Family::<Tier, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
        for (tier, milli) in TIERS.into_iter().zip(values) {
            family.get_or_create(&Tier { tier }).set(chips(milli));
        }
        family
    };
    registry.register("queue_chips", "Chips that waiting jobs ask for", by_tier(figures.waiting_chip_milli));
    let all = Gauge::<i64>::default();
    all.set(whole(figures.chips));
    registry.register("chips", "Chips of the fleet", all);
    registry.register("chips_in_use", "Chips in use", by_tier(figures.chip_milli_in_use));

    let power = Family::<Meter, Gauge>::default();
    for (site, it, facility) in &figures.power {
        for (meter, watts) in [("it", *it), ("facility", *facility)] {
            power.get_or_create(&Meter { site: site.clone(), meter }).set(whole(watts));
        }
    }
    registry.register("power_watts", "Draw at the servers and at the grid connection", power);
    let (allowed, used) = (Family::<Cap, Gauge>::default(), Family::<Cap, Gauge>::default());
    for (cap, allows, uses) in &figures.caps {
        allowed.get_or_create(&Cap { cap: cap.clone() }).set(whole(*allows));
        used.get_or_create(&Cap { cap: cap.clone() }).set(whole(*uses));
    }
    registry.register("cap_watts", "What a cap allows", allowed);
    registry.register("cap_used_watts", "What is counted under a cap", used);
}
