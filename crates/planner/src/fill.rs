//! A fleet on which the engine has placed as much work as there is to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{Event, Fact, JobId, Policy, State, decide};
use offtake_fleet::{Fleet, NodeKind, NodeKindIx, SiteIx, racks};
use offtake_units::{Ppm, Timestamp};
use offtake_workload::{ChipRequest, Gang, Job};

use crate::growth::{alike, at_work};

/// The attribute that tells nodes of one kind under the same caps from all others.
const SORT: &str = "planner/sort";

/// A fleet with its work.
pub struct Filled {
    /// How the engine sees it.
    pub state: State,
    /// Chips at work, by the kind of their node in the fleet that was to be filled.
    pub working: BTreeMap<NodeKindIx, u64>,
    /// Nodes for which work was submitted.
    pub asked: u64,
    /// Nodes on which it was placed.
    pub placed: u64,
}

impl Filled {
    /// Of the nodes of each kind under the same caps, submits work for this share, a job for each whole node, and lets the
    /// engine decide once. Jobs stay with the caps that they are meant for: were they free, those that come first could
    /// pack one hall to its cap with nodes of one kind, where the others of the hall are to be at work too.
    pub fn of(mut fleet: Fleet, busy: Ppm) -> Self {
        let kinds = tell_sorts_apart(&mut fleet);
        // It is about what can be at work together, however long that takes to start.
        fleet.sites.iter_mut().for_each(|site| site.ramp = None);
        let mut nodes = vec![0_u64; fleet.node_kinds.len()];
        for node in &fleet.nodes {
            nodes[node.kind.ix()] += u64::from(fleet.kind(*node).chips > 0);
        }
        let fleet = Arc::new(fleet);
        let mut state = loaded(Arc::clone(&fleet));
        let mut tell = |event| state.apply(&Fact { at: Timestamp::EPOCH, event });
        if let Some(policy) = Policy::named("backfill", 0) {
            tell(Event::PolicySet { policy });
        }
        let mut wanted = Vec::new();
        for (sort, nodes) in nodes.into_iter().enumerate() {
            let spec = Arc::new(whole_node(&fleet.node_kinds[sort]));
            for _ in 0..at_work(nodes, busy) {
                tell(Event::JobSubmitted { job: JobId(wanted.len() as u64), spec: Arc::clone(&spec) });
                wanted.push(sort);
            }
        }
        let mut facts = Vec::new();
        decide(&mut state, Timestamp::EPOCH, &mut facts);
        let (mut working, mut placed) = (BTreeMap::new(), 0);
        for fact in facts {
            if let Event::JobPlaced { job, .. } = fact.event {
                let sort = wanted[job.0 as usize];
                *working.entry(kinds[sort]).or_default() += u64::from(fleet.node_kinds[sort].chips);
                placed += 1;
            }
        }
        Self { state, working, asked: wanted.len() as u64, placed }
    }
}

/// The engine's state with a fleet and nothing else.
pub fn loaded(fleet: Arc<Fleet>) -> State {
    let mut state = State::default();
    state.apply(&Fact { at: Timestamp::EPOCH, event: Event::FleetLoaded { fleet } });
    state
}

/// Makes the nodes of one kind under the same caps a kind of their own; which kind each was made of.
fn tell_sorts_apart(fleet: &mut Fleet) -> Vec<NodeKindIx> {
    let site = racks(fleet, SiteIx(0));
    let account = loaded(Arc::new(fleet.clone()));
    let (mut made, mut kinds) = (Vec::new(), Vec::new());
    for sort in alike(account.capacity(), &site) {
        let first = made.len();
        for (kind, _) in &sort.nodes {
            let NodeKind { name, attributes, .. } = &fleet.node_kinds[kind.ix()];
            let mut attributes = attributes.clone();
            attributes.insert(SORT.to_owned(), made.len().to_string());
            made.push(NodeKind {
                name: format!("{name}+{}", made.len()),
                attributes,
                ..fleet.node_kinds[kind.ix()].clone()
            });
            kinds.push(*kind);
        }
        for rack in sort.members {
            for node in &mut fleet.nodes[site[rack].nodes.start as usize..site[rack].nodes.end as usize] {
                let place = sort.nodes.iter().position(|(kind, _)| *kind == node.kind).unwrap_or_default();
                node.kind = NodeKindIx((first + place) as u32);
            }
        }
    }
    fleet.node_kinds = made;
    kinds
}

/// Work that takes one whole node of a kind, and no other.
fn whole_node(kind: &NodeKind) -> Job {
    let gang = Gang {
        workers: 1,
        chips: ChipRequest::Whole(kind.chips),
        attributes: kind.attributes.clone(),
        ..Gang::default()
    };
    Job { name: kind.name.clone(), gangs: vec![gang], ..Job::default() }
}
