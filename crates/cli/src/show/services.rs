//! Services, one a line.

use offtake_protocol::rest::ListedService;

use crate::terminal::{Align, listing};

/// What is said where there is nothing to list.
pub const NONE: &str = "No service is there. A job file with a table [service] asks for one.\n";

/// Domains that are named; the rest is counted.
const SHOWN: usize = 3;

const COLUMNS: [(&str, Align); 11] = [
    ("service", Align::Right),
    ("name", Align::Left),
    ("tenant", Align::Left),
    ("wanted", Align::Right),
    ("placed", Align::Right),
    ("running", Align::Right),
    ("bounds", Align::Left),
    ("demand", Align::Left),
    ("budget", Align::Right),
    ("spread over", Align::Left),
    ("waits for", Align::Left),
];

/// A table of services.
pub fn services(all: &[ListedService], width: Option<usize>) -> String {
    listing(&COLUMNS, &all.iter().map(row).collect::<Vec<_>>(), width)
}

fn row(service: &ListedService) -> Vec<String> {
    let view = &service.service;
    let placed = view.running + service.starting + service.stopping;
    vec![
        service.id.to_string(),
        service.name.clone(),
        service.tenant.clone(),
        view.replicas.to_string(),
        placed.to_string(),
        view.running.to_string(),
        match (view.minimum, view.maximum) {
            (least, most) if least == most => least.to_string(),
            (least, most) => format!("{least} to {most}"),
        },
        format!("{}{}", service.demand, if service.has_curve { " by its curve" } else { "" }),
        view.disruption_budget.map_or_else(|| "any".to_owned(), |budget| budget.to_string()),
        spread(service),
        waits_for(service),
    ]
}

/// The domains with the most replicas, and how many more; nothing for what is not spread.
fn spread(service: &ListedService) -> String {
    let Some(level) = &service.service.spread else { return String::new() };
    let named = service.domains.iter().take(SHOWN).map(|domain| format!("{} on {}", domain.replicas, domain.domain));
    let named: Vec<String> = named.collect();
    match (named.is_empty(), service.domains.len().saturating_sub(SHOWN)) {
        (true, _) => format!("no {level} yet"),
        (false, 0) => named.join(", "),
        (false, more) => format!("{} and {more} more", named.join(", ")),
    }
}

fn waits_for(service: &ListedService) -> String {
    let leaving = match service.on_drained {
        0 => None,
        replicas => Some(format!("{replicas} to leave drained nodes")),
    };
    service.waits_for.iter().cloned().chain(leaving).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use offtake_protocol::rest::{JobState, ReplicasIn, ServiceView};
    use offtake_workload::Tier;

    use super::*;

    #[test]
    fn each_kind() {
        let view =
            ServiceView { running: 3, replicas: 3, minimum: 3, maximum: 3, spread: None, disruption_budget: None };
        let plain = ListedService {
            id: 17,
            name: "embed".to_owned(),
            state: JobState::Running,
            tenant: "search".to_owned(),
            tier: Tier::Standard,
            service: view.clone(),
            starting: 0,
            waiting: 0,
            stopping: 0,
            on_drained: 0,
            demand: 3,
            has_curve: false,
            domains: Vec::new(),
            waits_for: None,
        };
        let racks = |racks: &[(&str, u32)]| {
            let of =
                |(domain, replicas): &(&str, u32)| ReplicasIn { domain: (*domain).to_owned(), replicas: *replicas };
            racks.iter().map(of).collect::<Vec<_>>()
        };
        let spread = ServiceView {
            minimum: 2,
            maximum: 40,
            spread: Some("rack".to_owned()),
            disruption_budget: Some(1),
            ..view
        };
        let listed = [
            plain.clone(),
            ListedService {
                id: 40,
                name: "chat".to_owned(),
                service: ServiceView { running: 5, replicas: 8, ..spread.clone() },
                starting: 1,
                waiting: 2,
                stopping: 1,
                on_drained: 2,
                demand: 8,
                has_curve: true,
                domains: racks(&[("hall/rack-2", 3), ("hall/rack-1", 2), ("hall/rack-3", 1), ("hall/rack-7", 1)]),
                waits_for: Some("room".to_owned()),
                ..plain.clone()
            },
            ListedService {
                id: 41,
                service: ServiceView { running: 0, replicas: 2, ..spread },
                waiting: 2,
                waits_for: Some("the quota of its tenant for h100".to_owned()),
                ..plain
            },
        ];
        insta::assert_snapshot!(services(&listed, None));
    }
}
