//! The fleet as a picture: what each part of it was used for at one instant.

use offtake_engine::{Phase, State};
use offtake_fleet::{DomainIx, Fleet, LevelIx};
use offtake_units::Timestamp;

use crate::report::{Area, Picture};

/// A page shows at most about this many parts.
const MOST_AREAS: usize = 1_500;

/// Use of the fleet at an instant, by part: the domains of the narrowest level that is still few enough, each split by
/// node kind where nodes hang directly below.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    at: Timestamp,
    /// Thousandths of chips in use per part and tier.
    by_tier: Vec<[u64; 4]>,
    /// Whether a cap on each domain leaves no power for one more chip.
    at_cap: Vec<bool>,
}

impl Snapshot {
    /// Nothing known yet.
    pub const fn empty(at: Timestamp) -> Self {
        Self { at, by_tier: Vec::new(), at_cap: Vec::new() }
    }

    /// The use of the fleet now.
    pub fn take(state: &State) -> Self {
        let fleet = state.fleet();
        let parts = Parts::of(fleet);
        let mut by_tier = vec![[0; 4]; parts.keys.len()];
        for (_, work) in state.jobs() {
            let Phase::Running { placement, .. } = &work.phase else { continue };
            for (gang, slots) in work.spec.gangs.iter().zip(&placement.gangs) {
                for slot in slots {
                    for node in slot.nodes.numbers() {
                        let part = parts.of_node[node as usize] as usize;
                        by_tier[part][work.spec.tier as usize] += gang.chips.milli() * u64::from(slot.workers);
                    }
                }
            }
        }
        let domains = 0..fleet.domains.len() as u32;
        let at_cap = domains.map(|domain| state.capacity().is_at_cap(DomainIx(domain))).collect();
        Self { at: state.now(), by_tier, at_cap }
    }

    /// The picture of the report.
    pub fn picture(&self, fleet: &Fleet, start: Timestamp) -> Picture {
        let parts = Parts::of(fleet);
        let sites = (0..fleet.sites.len() as u32).map(|site| self.area(fleet, &parts, DomainIx(site)));
        let mut root =
            Area { name: fleet.name.clone(), level: "fleet".to_owned(), children: sites.collect(), ..Area::default() };
        sum_up(&mut root);
        Picture { at_s: (self.at - start).as_millis() / 1000, root }
    }

    fn area(&self, fleet: &Fleet, parts: &Parts, domain: DomainIx) -> Area {
        let entry = &fleet.domains[domain.ix()];
        let mut area = Area {
            name: entry.name.clone(),
            level: fleet.levels[entry.level.ix()].clone(),
            cap_binds: self.at_cap.get(domain.ix()).copied().unwrap_or_default(),
            ..Area::default()
        };
        if entry.level < parts.level && !entry.children.is_empty() {
            area.children = entry.children.clone().map(|child| self.area(fleet, parts, DomainIx(child))).collect();
            sum_up(&mut area);
            return area;
        }
        let own = |(_, (key, _)): &(usize, &((DomainIx, u32), u64))| key.0 == domain;
        let kinds = parts.keys.iter().enumerate().filter(own).map(|(part, ((_, kind), chips))| Area {
            name: fleet.node_kinds[*kind as usize].name.clone(),
            level: "node kind".to_owned(),
            chips: *chips as f64,
            by_tier: self.by_tier.get(part).map_or([0.0; 4], |tiers| tiers.map(|milli| milli as f64 / 1000.0)),
            ..Area::default()
        });
        area.children = kinds.collect();
        sum_up(&mut area);
        if area.children.len() == 1 {
            area.children.clear();
        }
        area
    }
}

fn sum_up(area: &mut Area) {
    area.chips = area.children.iter().map(|child| child.chips).sum();
    for tier in 0..4 {
        area.by_tier[tier] = area.children.iter().map(|child| child.by_tier[tier]).sum();
    }
}

/// The parts of a fleet's picture.
struct Parts {
    level: LevelIx,
    /// Domain and node kind of each part, with its chips.
    keys: Vec<((DomainIx, u32), u64)>,
    of_node: Vec<u32>,
}

impl Parts {
    fn of(fleet: &Fleet) -> Self {
        let levels = (0..fleet.levels.len() as u32).map(LevelIx);
        let few = |level: &LevelIx| fleet.domains_at(*level).len() <= MOST_AREAS;
        let level = levels.take_while(few).last().unwrap_or_default();
        let mut numbers = std::collections::BTreeMap::new();
        let mut keys = Vec::new();
        let mut of_node = Vec::with_capacity(fleet.nodes.len());
        for node in &fleet.nodes {
            let mut domain = node.domain;
            while fleet.domains[domain.ix()].level > level {
                domain = fleet.domains[domain.ix()].parent.unwrap_or(domain);
            }
            let key = (domain, node.kind.0);
            let number = *numbers.entry(key).or_insert_with(|| {
                keys.push((key, 0));
                keys.len() - 1
            });
            keys[number].1 += u64::from(fleet.kind(*node).chips);
            of_node.push(number as u32);
        }
        Self { level, keys, of_node }
    }
}
