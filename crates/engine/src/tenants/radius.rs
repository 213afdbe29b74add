//! Blast radius: what share of a tenant's chips may run in one domain of a level, or under one circuit, so that the loss
//! of one takes no more of its work.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_fleet::{CircuitIx, DomainIx, Fleet, LevelIx, NodeIx};
use offtake_units::Ppm;

use super::{Footprint, TenantIx, TenantTree, Tenants};
use crate::fact::NodeRange;

/// What is lost at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// A domain.
    Domain(DomainIx),
    /// All that a circuit feeds.
    Circuit(CircuitIx),
}

impl Area {
    /// Its name.
    pub fn name(self, fleet: &Fleet) -> String {
        match self {
            Self::Domain(domain) => fleet.path(domain),
            Self::Circuit(circuit) => fleet.circuits[circuit.ix()].name.clone(),
        }
    }

    /// Its nodes, in stretches.
    pub fn nodes(self, fleet: &Fleet) -> Vec<std::ops::Range<u32>> {
        let of = |domain: DomainIx| fleet.domains[domain.ix()].nodes.clone();
        match self {
            Self::Domain(domain) => vec![of(domain)],
            Self::Circuit(circuit) => fleet.circuits[circuit.ix()].feeds.iter().map(|feed| of(feed.domain)).collect(),
        }
    }
}

/// What every area of a kind may hold of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Radius {
    /// Domains of this level; circuits where there is none.
    level: Option<LevelIx>,
    /// Thousandths of chips.
    most: u64,
    /// What runs in each area that has any.
    used: BTreeMap<Area, u64>,
}

impl Radius {
    /// Nothing runs.
    pub fn clear(&mut self) {
        self.used.clear();
    }
}

/// More of a tenant's work in one area than may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose radius.
    pub tenant: TenantIx,
    /// Where.
    pub area: Area,
    /// The most, in thousandths of chips.
    pub most: u64,
    /// What is left of that without the work that was looked at.
    pub left: u64,
}

/// Finds the areas around nodes.
#[derive(Clone, Debug)]
pub struct Areas {
    fleet: Arc<Fleet>,
    /// The circuits that feed a domain or one around it.
    circuits: Vec<Vec<CircuitIx>>,
}

impl Areas {
    fn new(fleet: &Arc<Fleet>) -> Self {
        let mut circuits: Vec<Vec<CircuitIx>> = vec![Vec::new(); fleet.domains.len()];
        for (number, circuit) in fleet.circuits.iter().enumerate() {
            for feed in &circuit.feeds {
                circuits[feed.domain.ix()].push(CircuitIx(number as u32));
            }
        }
        // Parents come before those below them.
        for (place, domain) in fleet.domains.iter().enumerate() {
            if let Some(parent) = domain.parent {
                let around = circuits[parent.ix()].clone();
                circuits[place].extend(around);
            }
        }
        Self { fleet: Arc::clone(fleet), circuits }
    }

    fn around(&self, node: NodeIx, level: Option<LevelIx>, mut each: impl FnMut(Area)) {
        match level {
            Some(level) => each(Area::Domain(self.fleet.around(node, level))),
            None => {
                let domain = self.fleet.nodes[node.ix()].domain;
                self.circuits[domain.ix()].iter().for_each(|circuit| each(Area::Circuit(*circuit)));
            }
        }
    }

    /// What some nodes hold of each area, in thousandths of chips.
    fn shares(&self, level: Option<LevelIx>, nodes: &[(NodeRange, u64)]) -> BTreeMap<Area, u64> {
        let mut shares = BTreeMap::new();
        for (range, milli) in nodes {
            for node in range.numbers().map(NodeIx) {
                self.around(node, level, |area| *shares.entry(area).or_default() += milli);
            }
        }
        shares
    }
}

impl Tenants {
    /// Takes over what a policy declares, once quotas are known.
    pub(super) fn declare_radii(&mut self, tree: &TenantTree, fleet: &Arc<Fleet>) {
        let mut has_any = false;
        for tenant in self.all() {
            let declared = tree.tenants.get(self.name(tenant)).map(|tenant| &tenant.blast_radius);
            let below = |other: &TenantIx| self.path(*other).any(|at| at == tenant);
            let own = self.all().filter(below).map(|other| self.nominal(other)).sum::<u64>();
            let level = |name: &str| match name {
                TenantTree::CIRCUIT => Some(None),
                name => fleet.level(name).map(Some),
            };
            let share = |share: Ppm| (u128::from(own) * u128::from(share.parts()) / 1_000_000) as u64;
            let radii: Vec<Radius> = declared
                .into_iter()
                .flatten()
                .filter_map(|(name, most)| {
                    Some(Radius { level: level(name)?, most: share(*most), used: BTreeMap::new() })
                })
                .collect();
            has_any |= !radii.is_empty();
            self.entries[tenant.ix()].radii = radii;
        }
        self.areas = has_any.then(|| Arc::new(Areas::new(fleet)));
    }

    /// A tenant's own chips of all kinds, in thousandths.
    fn nominal(&self, tenant: TenantIx) -> u64 {
        self.entries[tenant.ix()].quota.iter().map(|account| account.nominal).sum()
    }

    /// Whether it matters where work of some tenant runs.
    pub const fn have_radii(&self) -> bool {
        self.areas.is_some()
    }

    /// Whether it matters where a tenant's work runs.
    pub fn has_radius(&self, tenant: TenantIx) -> bool {
        self.have_radii() && self.path(tenant).any(|at| !self.entries[at.ix()].radii.is_empty())
    }

    pub(super) fn change_radii(&mut self, tenant: TenantIx, footprint: &Footprint, comes: bool) {
        let Some(areas) = self.areas.clone() else { return };
        let path: Vec<TenantIx> = self.path(tenant).collect();
        for at in path {
            for radius in &mut self.entries[at.ix()].radii {
                for (area, milli) in areas.shares(radius.level, &footprint.nodes) {
                    let used = radius.used.entry(area).or_default();
                    *used = super::changed(*used, milli, comes);
                    if *used == 0 {
                        radius.used.remove(&area);
                    }
                }
            }
        }
    }

    /// Where more of a tenant's work would be than may be there, with some more that is not counted yet.
    pub fn exceeded_by(&self, tenant: TenantIx, footprint: &Footprint) -> Vec<Exceeded> {
        let Some(areas) = self.areas.as_ref().filter(|_| !self.is_lifted) else { return Vec::new() };
        let mut exceeded = Vec::new();
        for at in self.path(tenant) {
            for radius in &self.entries[at.ix()].radii {
                for (area, milli) in areas.shares(radius.level, &footprint.nodes) {
                    let left = radius.most.saturating_sub(radius.used.get(&area).copied().unwrap_or_default());
                    if milli > left {
                        exceeded.push(Exceeded { tenant: at, area, most: radius.most, left });
                    }
                }
            }
        }
        exceeded
    }
}
