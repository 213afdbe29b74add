//! Tenants: who pays, as a tree. What each has had of the fleet, what it may have, and what waits for quota.
//!
//! A policy names the tenants of the tree ([`TenantTree`]). Others that ask for work hang below the root. All have a
//! number, given when they are first met and kept, also over a change of the policy.

mod lent;
mod promise;
mod quota;
mod radius;
mod share;
mod single;
mod tree;
mod view;

use std::sync::Arc;

use offtake_fleet::{AcceleratorKindIx, Fleet};
use offtake_units::{Duration, Ppm, Timestamp};
use offtake_workload::fixed::times_power_of_2;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use self::quota::Account;
use self::radius::{Areas, Radius};
use self::share::{Average, Holding, counted_now, part_of};
use crate::fact::{JobId, NodeRange, Placement, Slot};
use crate::policy::Policy;
use crate::request::{Needs, Request, Shape};

pub use self::promise::Promise;
pub use self::radius::{Area, Exceeded};
pub use self::share::SHARE_BITS;
pub use self::single::{Tenancy, TenancyImage};
pub use self::tree::{Limits, Quota, Tenant, TenantTree};
pub use self::view::{Entitled, QuotaView, TenantView};

/// A tenant by number; [`TenantIx::ROOT`] stands for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantIx(u32);

impl TenantIx {
    /// Whom all tenants hang below.
    pub const ROOT: Self = Self(0);

    const fn ix(self) -> usize {
        self.0 as usize
    }
}

/// Shares of a tenant and those that it hangs below, from the root down: siblings are compared level by level.
pub type Rank = [u64; TenantTree::MOST_LEVELS + 1];

/// What a job takes, or would take, of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Thousandths of chips, by accelerator kind.
    pub chips: Vec<(AcceleratorKindIx, u64)>,
    cpu_milli: u64,
    memory_mib: u64,
    /// Nodes, and thousandths of chips on each; only where it matters where a tenant's work runs.
    nodes: Vec<(NodeRange, u64)>,
}

/// Jobs and chips of a tenant and all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Jobs that run.
    pub running_jobs: u64,
    /// Their chips, in thousandths.
    pub running_chip_milli: u64,
    /// Jobs that wait, those on hold included.
    pub pending_jobs: u64,
    /// Their chips, in thousandths.
    pub pending_chip_milli: u64,
}

/// What quota and limits leave to a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Headroom {
    /// Thousandths of chips, by accelerator kind; any number where the kind is not under quota.
    chips: Vec<u64>,
    running_jobs: u64,
    running_chip_milli: u64,
}

impl Headroom {
    /// Whether more is left than another says, of anything.
    pub fn exceeds(&self, other: &Self) -> bool {
        self.running_jobs > other.running_jobs
            || self.running_chip_milli > other.running_chip_milli
            || self.chips.iter().zip(&other.chips).any(|(ours, theirs)| ours > theirs)
    }

    /// Whether quota and limits keep whoever has needs from running anywhere.
    pub fn lacks(&self, needs: &Needs) -> bool {
        let is_full = self.running_jobs == 0 || self.running_chip_milli < needs.least;
        is_full || needs.stuck_on(|kind| self.chips[kind.ix()]).is_some()
    }

    /// Whether somebody who wanted more than was left before could use what is left now.
    pub fn helps(&self, needs: &Needs, before: &Self) -> bool {
        let lacked = before.running_jobs == 0
            || before.running_chip_milli < needs.most
            || needs.could_use_more(|kind| before.chips[kind.ix()]);
        lacked && !self.lacks(needs)
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Jobs that run.
    RunningJobs,
    /// Chips of jobs that run.
    RunningChips,
    /// Jobs that wait.
    PendingJobs,
    /// Chips of jobs that wait.
    PendingChips,
}

impl Counted {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::RunningJobs => "running jobs",
            Self::RunningChips => "chips of running jobs",
            Self::PendingJobs => "waiting jobs",
            Self::PendingChips => "chips of waiting jobs",
        }
    }
}

/// A limit that leaves no room for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Whose limit.
    pub tenant: TenantIx,
    /// What it counts.
    pub counted: Counted,
    /// The most.
    pub limit: u32,
    /// What there is, chips in thousandths.
    pub now: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    name: String,
    parent: TenantIx,
    level: usize,
    weight: u32,
    has_children: bool,
    limits: Limits,
    load: Load,
    /// By accelerator kind.
    quota: Vec<Account>,
    radii: Vec<Radius>,
    /// What it has itself, by resource: accelerator kinds, processor, memory.
    own: Vec<Holding>,
    /// What counts in its share, and that of those below it; as of [`Tenants::ranked_at`].
    counted: Vec<u128>,
    share: u64,
    /// Its share without those below it.
    own_share: u64,
}

/// All tenants.
#[derive(Clone, Debug, Default)]
pub struct Tenants {
    entries: Vec<Entry>,
    numbers: FxHashMap<String, TenantIx>,
    is_active: bool,
    half_life: Duration,
    /// What the fleet has, by resource.
    capacity: Vec<u64>,
    /// Which accelerator kinds are under quota.
    under_quota: Vec<bool>,
    /// Where it matters where work runs.
    areas: Option<Arc<Areas>>,
    ranked_at: Option<Timestamp>,
    changes: u64,
    /// Quota kept for a job that has waited too long for it.
    promise: Option<Promise>,
    /// Whether quota and limits are out of the way, in a trial.
    pub is_lifted: bool,
}

/// What one tenant held in the past, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantImage {
    name: String,
    /// By the name of the accelerator kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    accelerators: Vec<(String, Average)>,
    #[serde(default)]
    cpu: Average,
    #[serde(default)]
    memory: Average,
}

impl Footprint {
    /// Of a placement of a shape.
    pub fn of(shape: &Shape, placement: &Placement, fleet: &Fleet) -> Self {
        let mut footprint = Self::default();
        for (gang, slots) in shape.gangs.iter().zip(&placement.gangs) {
            footprint.take(gang, slots, fleet);
        }
        footprint
    }

    /// The same, with the nodes.
    pub fn with_nodes(self, shape: &Shape, placement: &Placement) -> Self {
        Self { nodes: shape.footprint_nodes(placement), ..self }
    }

    /// Adds what a gang takes in some slots. The workers that do not fill a node may be on another kind of accelerator.
    pub fn take(&mut self, gang: &Request, slots: &[Slot], fleet: &Fleet) {
        for slot in slots {
            let workers = u64::from(slot.workers) * u64::from(slot.nodes.count);
            self.cpu_milli += workers * u64::from(gang.cpu.get());
            self.memory_mib += workers * gang.memory.get();
            let each = u64::from(slot.workers) * gang.chips.milli();
            let nodes = &fleet.nodes[slot.nodes.numbers().start as usize..slot.nodes.numbers().end as usize];
            for alike in nodes.chunk_by(|node, next| node.kind == next.kind).filter(|_| each > 0) {
                if let Some(accelerator) = alike.first().and_then(|node| fleet.kind(*node).accelerator) {
                    self.add(accelerator, each * alike.len() as u64);
                }
            }
        }
    }

    fn add(&mut self, accelerator: AcceleratorKindIx, milli: u64) {
        match self.chips.iter_mut().find(|(other, _)| *other == accelerator) {
            Some((_, sum)) => *sum += milli,
            None => self.chips.push((accelerator, milli)),
        }
    }

    /// Thousandths of chips of all kinds.
    pub fn chip_milli(&self) -> u64 {
        self.chips.iter().map(|(_, milli)| milli).sum()
    }
}

impl Tenants {
    /// Whether shares, quotas or limits matter: otherwise nothing is counted.
    pub const fn is_active(&self) -> bool {
        self.is_active
    }

    /// The number of a tenant, given when it is first asked for.
    pub fn number(&mut self, name: &str) -> TenantIx {
        if let Some(known) = self.numbers.get(name) {
            return *known;
        }
        if self.entries.is_empty() {
            self.entries.push(Entry { weight: 1, ..Entry::default() });
        }
        let number = TenantIx(self.entries.len() as u32);
        let mut entry = Entry { name: name.to_owned(), weight: 1, level: 1, ..Entry::default() };
        self.fit(&mut entry);
        self.entries.push(entry);
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// The number of a tenant that has one.
    pub fn known(&self, name: &str) -> Option<TenantIx> {
        self.numbers.get(name).copied()
    }

    /// A tenant's name; the root has none.
    pub fn name(&self, tenant: TenantIx) -> &str {
        &self.entries[tenant.ix()].name
    }

    /// All tenants but the root.
    pub fn all(&self) -> impl Iterator<Item = TenantIx> + use<> {
        (1..self.entries.len() as u32).map(TenantIx)
    }

    /// The tenant that one hangs below.
    pub fn parent(&self, tenant: TenantIx) -> TenantIx {
        self.entries[tenant.ix()].parent
    }

    /// A tenant and those that it hangs below, the root last.
    pub fn path(&self, tenant: TenantIx) -> impl Iterator<Item = TenantIx> + '_ {
        std::iter::successors(Some(tenant), |at| (*at != TenantIx::ROOT).then(|| self.parent(*at)))
    }

    fn fit(&self, entry: &mut Entry) {
        entry.quota.resize(self.under_quota.len(), Account::default());
        entry.own.resize(self.capacity.len(), Holding::default());
        entry.counted.resize(self.capacity.len(), 0);
    }

    /// Takes over a policy and a fleet: the tree, quotas and limits. Nobody runs or waits until that is counted anew;
    /// what was held in the past stays.
    pub fn declare(&mut self, policy: &Policy, fleet: &Arc<Fleet>, now: Timestamp) {
        self.declare_as(policy, fleet, now, !policy.tenants.is_empty() || policy.order.needs_shares());
    }

    /// The same, whether they matter or not.
    pub fn declare_as(&mut self, policy: &Policy, fleet: &Arc<Fleet>, now: Timestamp, is_active: bool) {
        let tree = &policy.tenants;
        let was_active = std::mem::replace(&mut self.is_active, is_active);
        self.ranked_at = None;
        self.promise = None;
        if !self.is_active && !was_active {
            return;
        }
        let accelerators = fleet.accelerators.len();
        for entry in &mut self.entries {
            entry.own.resize(accelerators + 2, Holding::default());
            for holding in &mut entry.own {
                holding.set(0, now, self.half_life);
            }
        }
        self.half_life = policy.fairness.half_life;
        self.capacity = capacity_of(fleet);
        self.under_quota = vec![false; accelerators];
        if self.entries.is_empty() {
            self.entries.push(Entry { weight: 1, ..Entry::default() });
        }
        if self.is_active {
            for name in tree.tenants.keys() {
                self.number(name);
            }
        }
        let kind_named = |name: &str| fleet.accelerators.iter().position(|kind| kind.name == name);
        for (_, kind, _) in tree.quotas() {
            if let Some(kind) = kind_named(kind) {
                self.under_quota[kind] = true;
            }
        }
        for place in 0..self.entries.len() {
            let name = std::mem::take(&mut self.entries[place].name);
            let declared = tree.tenants.get(&name).cloned().unwrap_or_default();
            let declared_parent = declared.parent.as_deref().and_then(|parent| self.known(parent));
            let is_root = place == 0;
            let entry = &mut self.entries[place];
            // Where tenants hang in a circle, or too deep, they hang below the root instead.
            let level = tree.path(&name).count();
            let fits = level <= TenantTree::MOST_LEVELS;
            entry.parent = declared_parent.filter(|_| fits && !is_root).unwrap_or_default();
            entry.level = if is_root {
                0
            } else if fits {
                level
            } else {
                1
            };
            entry.weight = declared.weight.max(1);
            entry.limits = if is_root { tree.limits } else { declared.limits };
            entry.load = Load::default();
            entry.has_children = false;
            entry.quota = vec![Account::default(); accelerators];
            for (kind, quota) in if is_root { &tree.quota } else { &declared.quota } {
                if let Some(kind) = kind_named(kind) {
                    entry.quota[kind] = Account::of(*quota);
                }
            }
            if !self.is_active {
                entry.own.clear();
            }
            entry.own.resize(accelerators + 2, Holding::default());
            entry.counted = vec![0; accelerators + 2];
            entry.name = name;
        }
        for (place, kind) in fleet.accelerators.iter().enumerate() {
            if !tree.quota.contains_key(&kind.name) {
                self.lend_the_rest(place);
            }
        }
        self.sum_quotas();
        self.declare_radii(tree, fleet);
    }

    /// Whatever no tenant has is the root's to lend.
    fn lend_the_rest(&mut self, kind: usize) {
        let named: u64 = self.entries[1..].iter().map(|entry| entry.quota[kind].nominal).sum();
        let root = &mut self.entries[0].quota[kind];
        root.nominal = self.capacity[kind].saturating_sub(named);
        root.subtree = root.nominal;
    }

    /// What each tenant has with what those below it lend.
    fn sum_quotas(&mut self) {
        let mut deepest_first: Vec<TenantIx> = self.all().collect();
        deepest_first.sort_by_key(|tenant| std::cmp::Reverse(self.entries[tenant.ix()].level));
        for tenant in deepest_first {
            let parent = self.parent(tenant);
            self.entries[parent.ix()].has_children |= parent != TenantIx::ROOT;
            for kind in 0..self.under_quota.len() {
                let lent = self.entries[tenant.ix()].quota[kind].lendable();
                self.entries[parent.ix()].quota[kind].subtree += lent;
            }
        }
    }

    // Work comes and goes.

    /// A job waits, or no longer does.
    pub fn wait(&mut self, tenant: TenantIx, chip_milli: u64, comes: bool) {
        self.change_loads(tenant, |load| {
            load.pending_jobs = changed(load.pending_jobs, 1, comes);
            load.pending_chip_milli = changed(load.pending_chip_milli, chip_milli, comes);
        });
    }

    /// A job comes to run.
    pub fn enter(&mut self, tenant: TenantIx, footprint: &Footprint, now: Timestamp) {
        self.take(tenant, footprint);
        self.hold(tenant, footprint, now, true);
    }

    /// A job runs no more.
    pub fn leave(&mut self, tenant: TenantIx, footprint: &Footprint, now: Timestamp) {
        self.give(tenant, footprint);
        self.hold(tenant, footprint, now, false);
    }

    /// Quota and limits are used by a job; its share is not touched, so that a trial can take it out and put it back.
    pub fn take(&mut self, tenant: TenantIx, footprint: &Footprint) {
        self.change_loads(tenant, |load| {
            load.running_jobs += 1;
            load.running_chip_milli += footprint.chip_milli();
        });
        footprint.chips.iter().for_each(|(kind, milli)| self.change_quota(tenant, *kind, *milli, true));
        self.change_radii(tenant, footprint, true);
    }

    /// Quota and limits are no more used by a job.
    pub fn give(&mut self, tenant: TenantIx, footprint: &Footprint) {
        self.change_loads(tenant, |load| {
            load.running_jobs = load.running_jobs.saturating_sub(1);
            load.running_chip_milli = load.running_chip_milli.saturating_sub(footprint.chip_milli());
        });
        footprint.chips.iter().for_each(|(kind, milli)| self.change_quota(tenant, *kind, *milli, false));
        self.change_radii(tenant, footprint, false);
    }

    fn change_loads(&mut self, tenant: TenantIx, change: impl Fn(&mut Load)) {
        let mut at = tenant;
        loop {
            change(&mut self.entries[at.ix()].load);
            if at == TenantIx::ROOT {
                return;
            }
            at = self.parent(at);
        }
    }

    fn change_quota(&mut self, tenant: TenantIx, kind: AcceleratorKindIx, milli: u64, comes: bool) {
        if !self.under_quota[kind.ix()] {
            return;
        }
        let (mut at, mut milli) = (tenant, milli);
        while milli > 0 {
            let account = &mut self.entries[at.ix()].quota[kind.ix()];
            let before = account.at_parent();
            account.used = changed(account.used, milli, comes);
            milli = account.at_parent().abs_diff(before);
            if at == TenantIx::ROOT {
                return;
            }
            at = self.parent(at);
        }
    }

    fn hold(&mut self, tenant: TenantIx, footprint: &Footprint, now: Timestamp, comes: bool) {
        self.changes += 1;
        let kinds = self.under_quota.len();
        let both = [(kinds, footprint.cpu_milli), (kinds + 1, footprint.memory_mib)];
        let chips = footprint.chips.iter().map(|(kind, milli)| (kind.ix(), *milli));
        let ranked = self.ranked_at == Some(now);
        for (resource, amount) in chips.chain(both) {
            let holding = &mut self.entries[tenant.ix()].own[resource];
            holding.set(changed(holding.held, amount, comes), now, self.half_life);
            let mut at = tenant;
            while ranked && at != TenantIx::ROOT {
                let counted = &mut self.entries[at.ix()].counted[resource];
                *counted =
                    if comes { *counted + counted_now(amount) } else { counted.saturating_sub(counted_now(amount)) };
                at = self.parent(at);
            }
        }
        if ranked {
            self.weigh_path(tenant, now);
        } else {
            self.ranked_at = None;
        }
    }

    // Shares.

    /// Works out all shares as of an instant.
    pub fn rank_at(&mut self, now: Timestamp) {
        if !self.is_active || self.ranked_at == Some(now) {
            return;
        }
        self.ranked_at = Some(now);
        self.entries.iter_mut().for_each(|entry| entry.counted.fill(0));
        for tenant in self.all() {
            for resource in 0..self.capacity.len() {
                let counted = self.entries[tenant.ix()].own[resource].counted(now, self.half_life);
                if counted == 0 {
                    continue;
                }
                let mut at = tenant;
                while at != TenantIx::ROOT {
                    self.entries[at.ix()].counted[resource] += counted;
                    at = self.parent(at);
                }
            }
        }
        for tenant in self.all() {
            self.weigh(tenant, now);
        }
    }

    fn weigh_path(&mut self, tenant: TenantIx, now: Timestamp) {
        let mut at = tenant;
        while at != TenantIx::ROOT {
            self.weigh(at, now);
            at = self.parent(at);
        }
    }

    fn weigh(&mut self, tenant: TenantIx, now: Timestamp) {
        let entry = &self.entries[tenant.ix()];
        let parts = entry.counted.iter().zip(&self.capacity);
        let share = parts.map(|(counted, capacity)| part_of(*counted, *capacity, entry.weight)).max().unwrap_or(0);
        let own_share = if entry.has_children { self.own_share(entry, now) } else { 0 };
        let entry = &mut self.entries[tenant.ix()];
        (entry.share, entry.own_share) = (share, own_share);
    }

    fn own_share(&self, entry: &Entry, now: Timestamp) -> u64 {
        let parts = entry.own.iter().zip(&self.capacity);
        let part = |(own, capacity): (&Holding, &u64)| part_of(own.counted(now, self.half_life), *capacity, 1);
        parts.map(part).max().unwrap_or(0)
    }

    /// The weighted dominant shares that order a tenant's work, as of when they were last worked out.
    pub fn rank(&self, tenant: TenantIx) -> Rank {
        let mut rank = Rank::default();
        let entry = &self.entries[tenant.ix()];
        // The own work of a tenant with others below stands beside them, as if it had weight 1.
        rank[entry.level.min(TenantTree::MOST_LEVELS)] = entry.own_share;
        let mut at = tenant;
        while at != TenantIx::ROOT {
            let entry = &self.entries[at.ix()];
            rank[entry.level - 1] = entry.share;
            at = entry.parent;
        }
        rank
    }

    /// How often shares have changed because work came or went.
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// A tenant's share of the fleet over its weight, those below it included.
    pub fn share(&self, tenant: TenantIx) -> Ppm {
        let ppm = (u128::from(self.entries[tenant.ix()].share) * 1_000_000) >> SHARE_BITS;
        Ppm::new(u32::try_from(ppm).unwrap_or(u32::MAX))
    }

    /// A tenant's weight among its siblings.
    pub fn weight(&self, tenant: TenantIx) -> u32 {
        self.entries[tenant.ix()].weight
    }

    /// Slurm's fair-share factor, 2^(−use / share): what a tenant itself had of all chips that anybody had, against its
    /// part by weight. As of when shares were last worked out.
    pub fn fair_factor(&self, tenant: TenantIx) -> Ppm {
        let Some(now) = self.ranked_at else { return Ppm::ONE };
        let chips = |entry: &Entry| -> u128 {
            let own = entry.own.iter().take(self.under_quota.len());
            own.map(|holding| u128::from(holding.past(now, self.half_life))).sum()
        };
        let all: u128 = self.entries.iter().map(chips).sum();
        let had = chips(&self.entries[tenant.ix()]);
        let parts = self.path(tenant).filter(|at| *at != TenantIx::ROOT).map(|at| {
            let is_sibling = |other: &TenantIx| self.parent(*other) == self.parent(at);
            (self.weight(at), self.all().filter(is_sibling).map(|other| u128::from(self.weight(other))).sum::<u128>())
        });
        // (had / all) / (weight / siblings …), multiplied out.
        let over = parts.fold(had << 32, |over, (weight, siblings)| over / u128::from(weight) * siblings);
        let exponent_q32 = over.checked_div(all).map_or(0, |over| i64::try_from(over).unwrap_or(i64::MAX));
        Ppm::new(times_power_of_2(u64::from(Ppm::ONE.parts()), -exponent_q32, u64::MAX) as u32)
    }

    // Quota and limits.

    /// Whether chips of a kind are under quota.
    pub fn is_under_quota(&self, kind: AcceleratorKindIx) -> bool {
        self.under_quota.get(kind.ix()).copied().unwrap_or(false)
    }

    /// A tenant's account of a kind.
    pub fn account(&self, tenant: TenantIx, kind: AcceleratorKindIx) -> Account {
        self.entries[tenant.ix()].quota[kind.ix()]
    }

    /// Thousandths of chips that a tenant may still use; any number where the kind is not under quota.
    pub fn available(&self, tenant: TenantIx, kind: AcceleratorKindIx) -> u64 {
        self.available_to(JobId(u64::MAX), tenant, kind)
    }

    /// The same for a job of the tenant, for which some may be kept.
    pub fn available_to(&self, job: JobId, tenant: TenantIx, kind: AcceleratorKindIx) -> u64 {
        if self.is_lifted || !self.is_under_quota(kind) {
            return u64::MAX;
        }
        let mut account = self.account(tenant, kind);
        account.used = account.used.saturating_sub(self.kept_at(tenant, kind, job));
        let parent = (tenant != TenantIx::ROOT).then(|| self.available_to(job, self.parent(tenant), kind));
        account.available(parent)
    }

    /// What is left to a tenant.
    pub fn headroom(&self, tenant: TenantIx) -> Headroom {
        let kinds = (0..self.under_quota.len() as u32).map(AcceleratorKindIx);
        let left = |limit: fn(&Limits) -> Option<u32>, now: fn(&Load) -> u64, unit: u64| {
            let at = |at: TenantIx| {
                let Entry { limits, load, .. } = &self.entries[at.ix()];
                limit(limits).map(|most| (u64::from(most) * unit).saturating_sub(now(load)))
            };
            self.path(tenant).filter_map(at).min().unwrap_or(u64::MAX)
        };
        Headroom {
            chips: kinds.map(|kind| self.available(tenant, kind)).collect(),
            running_jobs: left(|limits| limits.running_jobs, |load| load.running_jobs, 1),
            running_chip_milli: left(|limits| limits.running_chips, |load| load.running_chip_milli, 1000),
        }
    }

    /// The limit, nearest to the tenant, that leaves no room for one more running job of so many chips.
    pub fn full(&self, job: JobId, tenant: TenantIx, chip_milli: u64) -> Option<Full> {
        if self.is_lifted {
            return None;
        }
        self.first_full(tenant, |at, load, limits| {
            let kept = self.is_kept_at(at, job).map_or((0, 0), |kept| (1, kept.milli));
            let running = (load.running_jobs.saturating_sub(kept.0), load.running_chip_milli.saturating_sub(kept.1));
            let jobs = (Counted::RunningJobs, limits.running_jobs, running.0, 1, 1);
            let chips = (Counted::RunningChips, limits.running_chips, running.1, chip_milli, 1000);
            [jobs, chips]
        })
    }

    /// The limit, nearest to the tenant, that leaves no room for one more waiting job of so many chips.
    pub fn full_of_waiting(&self, tenant: TenantIx, chip_milli: u64) -> Option<Full> {
        self.first_full(tenant, |_, load, limits| {
            let jobs = (Counted::PendingJobs, limits.pending_jobs, load.pending_jobs, 1, 1);
            let chips = (Counted::PendingChips, limits.pending_chips, load.pending_chip_milli, chip_milli, 1000);
            [jobs, chips]
        })
    }

    fn first_full(
        &self,
        tenant: TenantIx,
        limits: impl Fn(TenantIx, &Load, &Limits) -> [(Counted, Option<u32>, u64, u64, u64); 2],
    ) -> Option<Full> {
        self.path(tenant).find_map(|at| {
            let entry = &self.entries[at.ix()];
            limits(at, &entry.load, &entry.limits).into_iter().find_map(|(counted, limit, now, more, unit)| {
                let limit = limit?;
                (now + more > u64::from(limit) * unit).then_some(Full { tenant: at, counted, limit, now })
            })
        })
    }

    // As data, and recounted.

    /// What cannot be made anew from the work that is there: the past, and the order in which tenants were met.
    pub fn image(&self, fleet: &Fleet) -> Vec<TenantImage> {
        let kinds = fleet.accelerators.len();
        let average = |entry: &Entry, place: usize| entry.own.get(place).map(|holding| holding.average);
        let image = |entry: &Entry| TenantImage {
            name: entry.name.clone(),
            accelerators: fleet
                .accelerators
                .iter()
                .zip(&entry.own)
                .filter(|(_, holding)| holding.average != Average::default())
                .map(|(kind, holding)| (kind.name.clone(), holding.average))
                .collect(),
            cpu: average(entry, kinds).unwrap_or_default(),
            memory: average(entry, kinds + 1).unwrap_or_default(),
        };
        self.entries.iter().skip(1).map(image).collect()
    }

    /// Takes in who was met, in that order; nothing has been declared yet.
    pub fn meet(&mut self, images: &[TenantImage]) {
        for image in images {
            self.number(&image.name);
        }
    }

    /// Takes in the past of an image, after all work is there.
    pub fn recall(&mut self, images: Vec<TenantImage>, fleet: &Fleet) {
        if !self.is_active {
            return;
        }
        let kinds = fleet.accelerators.len();
        for image in images {
            let number = self.number(&image.name);
            let own = &mut self.entries[number.ix()].own;
            for (place, kind) in fleet.accelerators.iter().enumerate() {
                let known = image.accelerators.iter().find(|(name, _)| *name == kind.name);
                own[place].average = known.map_or_else(Average::default, |(_, average)| *average);
            }
            own[kinds].average = image.cpu;
            own[kinds + 1].average = image.memory;
        }
        self.ranked_at = None;
    }

    /// The same tenants with nothing that runs or waits.
    pub fn without_work(&self) -> Self {
        let mut empty = self.clone();
        empty.promise = None;
        for entry in &mut empty.entries {
            entry.load = Load::default();
            entry.quota.iter_mut().for_each(|account| account.used = 0);
            entry.radii.iter_mut().for_each(Radius::clear);
            entry.own.iter_mut().for_each(|holding| holding.held = 0);
        }
        empty
    }

    /// The first tenant whose counts differ from others, or that has more than it may.
    pub fn difference(&self, truth: &Self) -> Option<String> {
        let differs = |(ours, theirs): &(&Entry, &Entry)| {
            let held = |entry: &Entry| entry.own.iter().map(|holding| holding.held).collect::<Vec<_>>();
            ours.load != theirs.load
                || ours.quota != theirs.quota
                || ours.radii != theirs.radii
                || held(ours) != held(theirs)
        };
        let (ours, theirs) = self.entries.iter().zip(&truth.entries).find(differs)?;
        Some(format!("what tenant `{}` has differs: {ours:?}, recounted {theirs:?}", ours.name))
    }
}

const fn changed(before: u64, amount: u64, comes: bool) -> u64 {
    if comes { before + amount } else { before.saturating_sub(amount) }
}

/// What a fleet has of each resource: thousandths of chips by kind and of cores, and MiB.
fn capacity_of(fleet: &Fleet) -> Vec<u64> {
    let kinds = fleet.accelerators.len();
    let mut capacity = vec![0; kinds + 2];
    for node in &fleet.nodes {
        let kind = fleet.kind(*node);
        if let Some(accelerator) = kind.accelerator {
            capacity[accelerator.ix()] += u64::from(kind.chips) * 1000;
        }
        capacity[kinds] += u64::from(kind.cpu.get());
        capacity[kinds + 1] += kind.memory.get();
    }
    capacity
}
