//! How many racks of a site's own mix fit behind its caps, by the accounts that the engine keeps of them.

use std::collections::{BTreeMap, BTreeSet};

use offtake_engine::{Capacity, Draw};
use offtake_fleet::{CapTarget, Fleet, MAX_NODES, NodeKindIx, Rack};
use offtake_units::{Ppm, Watts};

/// How a rack is counted against a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// As the engine counts work on this share of its chips: what is expected under a contract, what can be enforced under
    /// a breaker. Of the nodes of a kind under the same caps, so many are at work, rounded up; the others are idle.
    Draw {
        /// The share.
        busy: Ppm,
    },
    /// As if all its chips drew their peak under every cap: what its rating plate says.
    Nameplate,
}

/// How far racks fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// How often each rack of the site is there, in the order of [`offtake_fleet::racks`].
    pub counts: Vec<u32>,
    /// The same with one rack more: the first that does not fit.
    pub one_more: Vec<u32>,
    /// The cap that cannot power it, by its place in the fleet.
    pub refuses: usize,
}

/// Why no number of racks can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundless {
    /// No cap limits how many.
    NoCap,
    /// More nodes fit than a fleet may have.
    TooMany,
}

/// Racks that are alike: the same nodes under the same caps.
pub struct Alike {
    /// Their places among the racks.
    pub members: Vec<usize>,
    /// The nodes of each of them, by kind.
    pub nodes: Vec<(NodeKindIx, u32)>,
    /// Caps that they share with others, by their place, with the share of the draw that counts.
    shared: Vec<(usize, Ppm)>,
    /// The same of caps on the rack itself, which each brings along.
    own: Vec<(usize, Ppm)>,
    racks: u32,
}

/// Adds racks, all sorts alike, until the next does not fit.
///
/// Whose turn it is goes by the divisor method of Sainte-Laguë: the sort with the least (2 × racks so far + 1) / (racks in
/// the file). So the mix stays as close to the file's as whole racks allow, and one rack more never takes another away.
///
/// # Errors
/// When nothing limits how many there can be.
pub fn fit(capacity: &Capacity, racks: &[Rack], count: Count) -> Result<Fit, Boundless> {
    let mut sorts = alike(capacity, racks);
    let limits = capacity.limits();
    let mut used = vec![0_i128; limits.len()];
    let has_bound = |sort: &Alike| {
        let most = sort.members.len() as u32 + racks.len() as u32;
        sort.shared.iter().any(|(cap, factor)| drawn(capacity, sort, *cap, *factor, count, most) > 0)
    };
    if !sorts.iter().any(has_bound) {
        return Err(Boundless::NoCap);
    }
    let turn = |sort: &Alike| ((u64::from(sort.racks) * 2 + 1) << 32) / sort.members.len() as u64;
    let mut turns: BTreeSet<(u64, usize)> = sorts.iter().enumerate().map(|(ix, sort)| (turn(sort), ix)).collect();
    let mut nodes = 0;
    while let Some((_, ix)) = turns.pop_first() {
        let sort = &sorts[ix];
        let allows = |cap: usize| i128::from(limits[cap].capacity_micro());
        let more = |cap: usize, factor: Ppm| {
            drawn(capacity, sort, cap, factor, count, sort.racks + 1)
                - drawn(capacity, sort, cap, factor, count, sort.racks)
        };
        let alone = |cap: usize, factor: Ppm| drawn(capacity, sort, cap, factor, count, 1);
        let full = sort.shared.iter().find(|(cap, factor)| used[*cap] + more(*cap, *factor) > allows(*cap));
        let own = || sort.own.iter().find(|(cap, factor)| alone(*cap, *factor) > allows(*cap));
        if let Some((refuses, _)) = full.or_else(own) {
            let counts = counts(&sorts, racks.len());
            let refuses = *refuses;
            sorts[ix].racks += 1;
            return Ok(Fit { counts, one_more: self::counts(&sorts, racks.len()), refuses });
        }
        for (cap, factor) in &sort.shared {
            used[*cap] += more(*cap, *factor);
        }
        nodes += sort.nodes.iter().map(|(_, nodes)| u64::from(*nodes)).sum::<u64>();
        if nodes > u64::from(MAX_NODES) {
            return Err(Boundless::TooMany);
        }
        sorts[ix].racks += 1;
        turns.insert((turn(&sorts[ix]), ix));
    }
    Err(Boundless::NoCap)
}

/// What so many racks of a sort draw under a cap, in millionths of a watt, as its account counts them.
fn drawn(capacity: &Capacity, sort: &Alike, cap: usize, factor: Ppm, count: Count, racks: u32) -> i128 {
    let fleet = capacity.fleet();
    let of_kind = |(kind, nodes): &(NodeKindIx, u32)| {
        let (host, nodes) = (&fleet.node_kinds[kind.ix()], u64::from(*nodes) * u64::from(racks));
        let chips = i128::from(host.chips);
        let idle = fleet.accelerator(host).map_or(Watts::ZERO, |chip| chip.idle);
        let chip: Draw = capacity.chip_draw(*kind);
        let (busy, each) = match count {
            Count::Draw { busy } => (at_work(nodes, busy), capacity.limits()[cap].counted(chip)),
            Count::Nameplate => (nodes, chip.enforceable),
        };
        let powered = i128::from(host.base.get()) + chips * i128::from(idle.get());
        i128::from(nodes) * powered + i128::from(busy) * chips * i128::from(each.get())
    };
    sort.nodes.iter().map(of_kind).sum::<i128>() * i128::from(factor.parts())
}

/// How many of so many nodes are at work, rounded up.
pub fn at_work(nodes: u64, busy: Ppm) -> u64 {
    (u128::from(nodes) * u128::from(busy.parts())).div_ceil(1_000_000) as u64
}

/// Of each sort, so many of each of its racks, and one more of some, evenly among them.
fn counts(sorts: &[Alike], racks: usize) -> Vec<u32> {
    let mut counts = vec![0; racks];
    for sort in sorts {
        let (all, members) = (u64::from(sort.racks), sort.members.len() as u64);
        for (place, rack) in (0..).zip(&sort.members) {
            counts[*rack] = ((place + 1) * all / members - place * all / members) as u32;
        }
    }
    counts
}

/// The sorts of racks, in the order of the first of each.
pub fn alike(capacity: &Capacity, racks: &[Rack]) -> Vec<Alike> {
    let fleet = capacity.fleet();
    let mut on_domain: BTreeMap<u32, Vec<(usize, Ppm)>> = BTreeMap::new();
    for (cap, limit) in capacity.limits().iter().enumerate() {
        for (domain, factor) in &limit.domains {
            on_domain.entry(domain.0).or_default().push((cap, *factor));
        }
    }
    let mut sorts: Vec<Alike> = Vec::new();
    let mut places = BTreeMap::new();
    for (place, rack) in racks.iter().enumerate() {
        let (mut shared, mut own) = (Vec::new(), Vec::new());
        let mut around = Some(rack.domain);
        while let Some(domain) = around {
            for (cap, factor) in on_domain.get(&domain.0).into_iter().flatten() {
                let is_own = rack.own.contains(&domain) && matches!(fleet.caps[*cap].target, CapTarget::Domain(_));
                if is_own { &mut own } else { &mut shared }.push((*cap, *factor));
            }
            around = fleet.domains[domain.ix()].parent;
        }
        let nodes = kinds(fleet, rack);
        let own_rating: Vec<_> =
            own.iter().map(|(cap, factor)| (fleet.caps[*cap].watts, fleet.caps[*cap].kind as u8, *factor)).collect();
        let sort = *places.entry((nodes.clone(), shared.clone(), own_rating)).or_insert(sorts.len());
        match sorts.get_mut(sort) {
            Some(sort) => sort.members.push(place),
            None => sorts.push(Alike { members: vec![place], nodes, shared, own, racks: 0 }),
        }
    }
    sorts
}

fn kinds(fleet: &Fleet, rack: &Rack) -> Vec<(NodeKindIx, u32)> {
    let mut kinds: BTreeMap<NodeKindIx, u32> = BTreeMap::new();
    for node in &fleet.nodes[rack.nodes.start as usize..rack.nodes.end as usize] {
        *kinds.entry(node.kind).or_default() += 1;
    }
    kinds.into_iter().collect()
}
