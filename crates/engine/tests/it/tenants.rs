//! Tenants: whose turn it is by share, and what quota and limits let run.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{
    Blocked, Counted, Event, Explanation, Fairness, JobId, Limits, Obstacle, Order, Phase, Policy, Quota, Refusal,
    State, Tenant, TenantTree, TenantView, Waiting,
};
use offtake_fleet::{AcceleratorKindIx, Fleet};
use offtake_units::{Duration, Ppm};
use offtake_workload::{Job, Tier};
use proptest::prelude::*;

use crate::support::{Engine, MIXED, PLAIN, fleet, gang, job, of};

const NONE: Fairness = Fairness { half_life: Duration::ZERO, ageing: None };

fn policy(order: Order, fairness: Fairness, tree: TenantTree) -> Policy {
    let named = Policy::named("backfill", 7).expect("the test's policy exists");
    Policy { order, fairness, tenants: Arc::new(tree), ..named }
}

fn tenant(parent: Option<&str>, weight: u32) -> Tenant {
    Tenant { parent: parent.map(str::to_owned), weight, ..Tenant::default() }
}

fn tree<const N: usize>(tenants: [(&str, Tenant); N]) -> TenantTree {
    let tenants = tenants.into_iter().map(|(name, tenant)| (name.to_owned(), tenant)).collect();
    TenantTree { tenants, ..TenantTree::default() }
}

fn chips(
    kind: &str,
    nominal: u32,
    borrowing_limit: Option<u32>,
    lending_limit: Option<u32>,
) -> BTreeMap<String, Quota> {
    BTreeMap::from([(kind.to_owned(), Quota { nominal, borrowing_limit, lending_limit })])
}

/// One whole node of PLAIN, for so many seconds.
fn node_for(tenant: &str, seconds: i64) -> Job {
    of(tenant, job(vec![gang(1, 4)], Some(seconds)))
}

/// The tenants of jobs in the order in which they were placed, by their first letter.
fn started(engine: &Engine) -> String {
    let spec = |event: &Event| match event {
        Event::JobSubmitted { job, spec } => Some((*job, spec.tenant.chars().next().unwrap_or('?'))),
        _ => None,
    };
    let tenants: BTreeMap<JobId, char> = engine.journal.iter().filter_map(|fact| spec(&fact.event)).collect();
    let placed = engine.journal.iter().filter_map(|fact| match &fact.event {
        Event::JobPlaced { job, .. } => tenants.get(job),
        _ => None,
    });
    placed.collect()
}

fn view<'a>(all: &'a [TenantView], name: &str) -> &'a TenantView {
    all.iter().find(|view| view.name == name).expect("the tenant is known")
}

fn why_it_waits(engine: &mut Engine, job: JobId) -> Waiting {
    let why = match engine.state.explain(job) {
        Some(Explanation::Waiting(why)) => Some(why),
        _ => None,
    };
    why.expect("the job waits")
}

#[test]
fn the_least_share_goes_first() {
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, NONE, TenantTree::default()));
    (0..4).for_each(|_| {
        engine.submit(node_for("a", 60));
    });
    (0..4).for_each(|_| {
        engine.submit(node_for("b", 60));
    });
    engine.decide();
    assert_eq!(started(&engine), "abab", "four nodes, two tenants");
}

#[test]
fn a_job_says_whose_share_is_less() {
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, NONE, TenantTree::default()));
    engine.submit(of("a", job(vec![gang(3, 4)], Some(60))));
    engine.submit(node_for("b", 60));
    engine.decide();
    let ours = engine.submit(node_for("a", 60));
    let theirs = engine.submit(node_for("b", 60));
    engine.decide();
    let why = why_it_waits(&mut engine, ours);
    let (share, own) = (Ppm::new(250_000), Ppm::new(750_000));
    let less = Obstacle::Share { job: theirs, tenant: "b".to_owned(), share, own };
    assert!(why.obstacles.contains(&less), "{:?}", why.obstacles);
}

#[test]
fn weights_set_the_parts() {
    let tree = tree([("a", tenant(None, 3)), ("b", tenant(None, 1))]);
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, NONE, tree));
    (0..4).for_each(|_| {
        engine.submit(node_for("b", 60));
    });
    (0..4).for_each(|_| {
        engine.submit(node_for("a", 60));
    });
    engine.decide();
    assert_eq!(started(&engine), "abaa");
}

#[test]
fn siblings_are_compared_before_their_children() {
    let tree = tree([
        ("p", tenant(None, 1)),
        ("q", tenant(None, 1)),
        ("a", tenant(Some("p"), 1)),
        ("b", tenant(Some("p"), 9)),
    ]);
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, NONE, tree));
    for name in ["a", "a", "b", "b", "q", "q"] {
        engine.submit(node_for(name, 60));
    }
    engine.decide();
    assert_eq!(started(&engine), "aqbq", "q has half, whatever the weights below p");
}

#[test]
fn what_was_used_counts_for_a_while() {
    let fairness = Fairness { half_life: Duration::from_secs(600), ageing: None };
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, fairness, TenantTree::default()));
    let hog = of("a", job(vec![gang(4, 4)], Some(600)));
    engine.submit(hog);
    engine.decide();
    for _ in 0..2 {
        engine.submit(node_for("a", 60));
    }
    engine.pass(599);
    for _ in 0..4 {
        engine.submit(node_for("b", 60));
    }
    engine.pass(1);
    assert_eq!(started(&engine), "abbaa"[..1].to_owned() + "bbab", "b may have what a had, to a half");
}

#[test]
fn priority_counts_within_a_tenant_only() {
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, NONE, TenantTree::default()));
    let blocker = engine.submit(of("z", job(vec![gang(4, 4)], Some(10))));
    engine.decide();
    let first = engine.submit(node_for("a", 60));
    let urgent = engine.submit(Job { priority: 5, ..node_for("b", 60) });
    let ordinary = engine.submit(node_for("b", 60));
    let pressing = engine.submit(Job { priority: 9, ..node_for("b", 60) });
    engine.pass(10);
    assert!(!engine.runs(blocker));
    let placed: Vec<JobId> = engine
        .journal
        .iter()
        .filter_map(|fact| match &fact.event {
            Event::JobPlaced { job, .. } => Some(*job),
            _ => None,
        })
        .collect();
    assert_eq!(placed[1..], [first, pressing, urgent, ordinary]);
}

#[test]
fn who_waits_too_long_goes_first() {
    let fairness = Fairness { half_life: Duration::ZERO, ageing: Some(Duration::from_secs(100)) };
    let tree = tree([("a", tenant(None, 1)), ("b", tenant(None, 1_000_000))]);
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, fairness, tree));
    // So much of a runs for good that b, whatever it takes, has the lesser share.
    engine.submit(of("a", job(vec![gang(1, 4)], None)));
    engine.decide();
    let patient = engine.submit(of("a", job(vec![gang(3, 4)], Some(10))));
    engine.submit(of("b", job(vec![gang(3, 4)], Some(50))));
    engine.decide();
    for _ in 0..6 {
        engine.submit(of("b", job(vec![gang(3, 4)], Some(50))));
    }
    engine.pass(50);
    engine.pass(50);
    assert!(!engine.runs(patient), "b has the lesser share, and a has not waited too long");
    engine.pass(50);
    assert!(engine.runs(patient));
}

#[test]
fn quota_is_kept_and_borrowed_and_comes_back() {
    let quota = |nominal, borrowing| Tenant { quota: chips("chip", nominal, borrowing, None), ..Tenant::default() };
    let mut tree = tree([("a", quota(8, Some(4))), ("b", quota(8, None))]);
    tree.quota = chips("chip", 0, None, None);
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, NONE, tree));
    let ours: Vec<JobId> = (0..4).map(|seconds| engine.submit(node_for("a", 100 + seconds))).collect();
    engine.decide();
    assert_eq!(started(&engine), "aaa", "eight of its own and four borrowed");
    let kind = AcceleratorKindIx(0);
    assert_eq!(engine.state.blocked(ours[3]), Some(Blocked::Quota(kind)));
    let why = why_it_waits(&mut engine, ours[3]);
    let short = Obstacle::Quota { tenant: "a".to_owned(), accelerator: kind, available: 0, needed: 4000 };
    assert_eq!(why.obstacles, [short]);
    let theirs = [engine.submit(node_for("b", 500)), engine.submit(node_for("b", 500))];
    engine.decide();
    assert!(engine.runs(theirs[0]) && !engine.runs(theirs[1]), "there is no room beside what a borrowed");
    let lent = Obstacle::Lent { accelerator: kind, to: vec![("a".to_owned(), 4000)], reclaims: false };
    assert!(why_it_waits(&mut engine, theirs[1]).obstacles.contains(&lent));
    let all = engine.state.tenants();
    let entitled = |name: &str| view(&all, name).quota[0].entitled.expect("the kind is under quota");
    assert_eq!((entitled("b").borrowed, entitled("b").lent, entitled("b").available), (0, 4000, 0));
    assert_eq!((entitled("a").borrowed, entitled("a").available), (4000, 0));
    engine.restore();
    engine.pass(100);
    assert!(engine.runs(theirs[1]), "the lesser share takes back what ends");
    engine.pass(1);
    assert!(engine.runs(ours[3]), "a is within its own again");
}

#[test]
fn what_is_not_lent_is_not_borrowed() {
    let keeps = Tenant { quota: chips("chip", 8, None, Some(4)), ..Tenant::default() };
    let mut tree = tree([("a", keeps)]);
    tree.quota = chips("chip", 4, None, None);
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::Turn, NONE, tree));
    (0..4).for_each(|_| {
        engine.submit(node_for("guest", 60));
    });
    engine.decide();
    assert_eq!(started(&engine), "gg", "four of all and four that a lends");
}

#[test]
fn a_job_goes_where_quota_is_left() {
    let tree = tree([("a", Tenant { quota: chips("h100", 0, Some(0), None), ..Tenant::default() })]);
    let mut engine = Engine::under(fleet(MIXED), policy(Order::Turn, NONE, tree));
    let any = engine.submit(of("a", job(vec![gang(1, 2)], Some(60))));
    let only = engine.submit(of(
        "a",
        job(vec![offtake_workload::Gang { accelerators: vec!["h100".to_owned()], ..gang(1, 2) }], Some(60)),
    ));
    engine.decide();
    let state = &engine.state;
    let kind_of = |job: JobId| {
        engine.nodes(job).first().map(|range| state.fleet().kind(state.fleet().nodes[range.first.ix()]).name.clone())
    };
    assert_eq!(kind_of(any).as_deref(), Some("a10-2"));
    assert_eq!(state.blocked(only), Some(Blocked::Quota(AcceleratorKindIx(0))));
}

#[test]
fn limits_bind_a_tenant_and_those_below_it() {
    let limits = Limits { running_jobs: Some(2), pending_jobs: Some(2), ..Limits::default() };
    let tree =
        tree([("p", Tenant { limits, ..Tenant::default() }), ("a", tenant(Some("p"), 1)), ("b", tenant(Some("p"), 1))]);
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, NONE, tree));
    engine.submit(node_for("a", 10));
    let waits = engine.submit(node_for("b", 10));
    let refused = engine.submit(node_for("b", 10));
    assert!(matches!(
        engine.state.job(refused).map(|work| &work.phase),
        Some(Phase::Refused(Refusal::OverLimit { .. }))
    ));
    engine.decide();
    assert!(engine.runs(waits) && engine.state.job(refused).is_none());
    let third = engine.submit(node_for("a", 10));
    engine.decide();
    assert_eq!(engine.state.blocked(third), Some(Blocked::Limit));
    let why = why_it_waits(&mut engine, third);
    let full = Obstacle::Limit { tenant: "p".to_owned(), counted: Counted::RunningJobs, limit: 2 };
    assert_eq!(why.obstacles, [full]);
    engine.restore();
    engine.pass(10);
    assert!(engine.runs(third));
}

#[test]
fn who_waits_too_long_for_quota_has_it_kept() {
    for (order, limits) in [
        (Order::FairShare, Limits::default()),
        (Order::Turn, Limits::default()),
        (Order::FairShare, Limits { running_chips: Some(8), ..Limits::default() }),
    ] {
        let fairness = Fairness { half_life: Duration::ZERO, ageing: Some(Duration::from_secs(100)) };
        let tree = tree([("a", Tenant { quota: chips("chip", 8, Some(0), None), limits, ..Tenant::default() })]);
        let mut engine = Engine::under(fleet(PLAIN), policy(order, fairness, tree));
        engine.submit(node_for("a", 30));
        engine.decide();
        engine.pass(15);
        engine.submit(node_for("a", 30));
        engine.decide();
        let whole = engine.submit(of("a", job(vec![gang(2, 4)], Some(10))));
        // One small job ends every 15 seconds, and the next is there already.
        for _ in 0..6 {
            engine.submit(node_for("a", 30));
            engine.pass(15);
            assert!(!engine.runs(whole), "it would take all of the quota");
        }
        for _ in 0..4 {
            engine.submit(node_for("a", 30));
            engine.pass(15);
            if engine.runs(whole) {
                break;
            }
            engine.restore();
        }
        assert!(engine.runs(whole), "{order:?}: after 100 seconds the quota is kept for it");
    }
}

#[test]
fn tenants_are_shown_under_any_policy() {
    let mut engine = Engine::new(fleet(PLAIN), "offtake");
    engine.submit(node_for("a", 10));
    engine.decide();
    engine.submit(node_for("b", 10));
    let all = engine.state.tenants();
    assert_eq!(all.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(), ["", "a", "b"]);
    assert_eq!(view(&all, "a").share.parts(), 250_000);
    assert_eq!((view(&all, "a").load.running_chip_milli, view(&all, "b").load.pending_jobs), (4000, 1));
    assert_eq!(all[0].load.running_jobs, 1);
}

#[test]
fn the_reference_orders_go_by_their_factors() {
    let weak = Job { tier: Tier::Spot, ..node_for("a", 60) };
    for (order, expected) in [(Order::Multifactor, "zba"), (Order::Cohort, "zba"), (Order::Turn, "zba")] {
        let mut engine = Engine::under(fleet(PLAIN), policy(order, Fairness::default(), TenantTree::default()));
        engine.submit(of("z", job(vec![gang(4, 4)], Some(10))));
        engine.decide();
        engine.submit(weak.clone());
        engine.submit(node_for("b", 60));
        engine.pass(10);
        assert_eq!(started(&engine), expected, "{order:?}: the stronger tier first");
    }
    // Who stays within its quota goes before who borrows, although it came later and has no priority.
    let mut quotas = tree([("b", Tenant { quota: chips("chip", 4, None, None), ..Tenant::default() })]);
    quotas.quota = chips("chip", 12, None, None);
    let mut engine = Engine::under(fleet(PLAIN), policy(Order::Cohort, Fairness::default(), quotas));
    engine.submit(of("z", job(vec![gang(4, 4)], Some(10))));
    engine.decide();
    engine.submit(Job { priority: 3, ..node_for("a", 60) });
    engine.submit(node_for("b", 60));
    engine.pass(10);
    assert_eq!(started(&engine), "zba");
}

// Whatever is asked.

/// What a tenant of the tree has of a kind, in thousandths of chips.
pub struct Has {
    pub tenant: String,
    /// What it and those below it use, as far as that counts.
    pub used: u64,
    /// What is its own, and what those below it lend.
    pub subtree: u64,
    /// The most that it may use.
    pub most: Option<u64>,
}

/// What the tenants of a tree have of a kind, worked out from some of what runs.
pub fn used(tree: &TenantTree, fleet: &Fleet, state: &State, kind: &str, counts: fn(&Phase) -> bool) -> Vec<Has> {
    let own = |tenant: &str| -> u64 {
        state
            .jobs()
            .into_iter()
            .filter(|(_, work)| work.spec.tenant == tenant && counts(&work.phase))
            .filter_map(|(_, work)| match &work.phase {
                Phase::Running { placement, .. } => Some((work, placement)),
                _ => None,
            })
            .flat_map(|(work, placement)| work.spec.gangs.iter().zip(&placement.gangs))
            .flat_map(|(gang, slots)| slots.iter().map(move |slot| (gang, slot)))
            .flat_map(|(gang, slot)| slot.nodes.numbers().map(move |node| (gang, slot, fleet.nodes[node as usize])))
            .filter(|(_, _, node)| fleet.accelerator(fleet.kind(*node)).is_some_and(|chip| chip.name == kind))
            .map(|(gang, slot, _)| u64::from(slot.workers) * gang.chips.milli())
            .sum()
    };
    let declared =
        |tenant: &str| tree.tenants.get(tenant).and_then(|tenant| tenant.quota.get(kind)).copied().unwrap_or_default();
    // From the leaves up; names of parents come before those of their children.
    let mut found: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut all = Vec::new();
    let mut root = (0, 0);
    for name in tree.tenants.keys().rev().map(String::as_str) {
        let below = found.remove(name).unwrap_or_default();
        let quota = declared(name);
        let subtree = below.0 + u64::from(quota.nominal) * 1000;
        let used = below.1 + own(name);
        let guaranteed = quota.lending_limit.map_or(0, |limit| subtree.saturating_sub(u64::from(limit) * 1000));
        let most = quota.borrowing_limit.map(|limit| subtree + u64::from(limit) * 1000);
        all.push(Has { tenant: name.to_owned(), used, subtree, most });
        let parent = tree.tenants[name].parent.as_deref();
        let above = parent.map_or(&mut root, |parent| found.entry(parent).or_default());
        above.0 += subtree - guaranteed;
        above.1 += used.saturating_sub(guaranteed);
    }
    let strangers: std::collections::BTreeSet<String> =
        state.jobs().into_iter().map(|(_, work)| work.spec.tenant.clone()).collect();
    root.1 += strangers.iter().filter(|name| !tree.tenants.contains_key(*name)).map(|name| own(name)).sum::<u64>();
    let capacity: u64 = fleet
        .nodes
        .iter()
        .map(|node| fleet.kind(*node))
        .filter(|node| fleet.accelerator(node).is_some_and(|chip| chip.name == kind))
        .map(|node| u64::from(node.chips) * 1000)
        .sum();
    let named: u64 = tree.tenants.keys().map(|name| u64::from(declared(name).nominal) * 1000).sum();
    let spare = tree.quota.get(kind).map_or(capacity.saturating_sub(named), |quota| u64::from(quota.nominal) * 1000);
    all.push(Has { tenant: String::new(), used: root.1, subtree: root.0 + spare, most: Some(root.0 + spare) });
    all
}

fn quotas() -> impl Strategy<Value = BTreeMap<String, Quota>> {
    let one = (0u32..20, prop::option::of(0u32..12), prop::option::of(0u32..12));
    let one =
        one.prop_map(|(nominal, borrowing_limit, lending_limit)| Quota { nominal, borrowing_limit, lending_limit });
    prop_oneof![
        1 => Just(BTreeMap::new()),
        3 => one.prop_map(|quota| BTreeMap::from([("h100".to_owned(), quota)])),
    ]
}

/// Up to five tenants; each hangs below the root or one before it.
pub fn trees() -> impl Strategy<Value = TenantTree> {
    let tenants = prop::collection::vec((quotas(), 0usize..6, 1u32..5, prop::option::of(1u32..6)), 1..6);
    (tenants, quotas()).prop_map(|(tenants, quota)| {
        let mut tree = TenantTree { quota, ..TenantTree::default() };
        for (place, (quota, parent, weight, running_jobs)) in tenants.into_iter().enumerate() {
            let parent = (parent < place).then(|| format!("t{parent}"));
            let limits = Limits { running_jobs, ..Limits::default() };
            tree.tenants.insert(format!("t{place}"), Tenant { parent, weight, quota, limits, ..Tenant::default() });
        }
        tree
    })
}

#[derive(Clone, Debug)]
enum Step {
    Submit(usize, u32, u16, Option<i64>, usize, i32),
    Pass(i64),
    Cancel(u64),
    Requeue(u64),
    Restore,
    Explain,
}

fn steps() -> impl Strategy<Value = Step> {
    let submit = (0usize..7, 1u32..5, 1u16..5, prop::option::weighted(0.8, 1i64..100), 0usize..4, -2i32..3);
    prop_oneof![
        8 => submit.prop_map(|(who, workers, chips, seconds, tier, priority)| Step::Submit(who, workers, chips, seconds, tier, priority)),
        3 => (0i64..60).prop_map(Step::Pass),
        1 => (0u64..60).prop_map(Step::Cancel),
        1 => (0u64..60).prop_map(Step::Requeue),
        1 => Just(Step::Restore),
        1 => Just(Step::Explain),
    ]
}

pub fn orders() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::FairShare), Just(Order::Turn), Just(Order::Cohort), Just(Order::Multifactor)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn quotas_hold_at_every_instant(tree in trees(), order in orders(), steps in prop::collection::vec(steps(), 1..60)) {
        let fairness = Fairness { half_life: Duration::from_secs(30), ageing: Some(Duration::from_secs(90)) };
        let fleet = fleet(MIXED);
        let mut engine = Engine::under(Arc::clone(&fleet), policy(order, fairness, tree.clone()));
        for step in steps {
            match step {
                Step::Submit(who, workers, chips, seconds, tier, priority) => {
                    let tier = Tier::ALL[tier];
                    engine.submit(Job { tier, priority, ..of(&format!("t{who}"), job(vec![gang(workers, chips)], seconds)) });
                }
                Step::Pass(seconds) => engine.pass(seconds),
                Step::Cancel(job) => engine.tell(Event::JobCancelled { job: JobId(job) }),
                Step::Requeue(job) => engine.tell(Event::JobRequeued { job: JobId(job), saved_until: None, held: false }),
                Step::Restore => engine.restore(),
                Step::Explain => engine.explain_all(),
            }
            let before = engine.journal.len();
            engine.decide();
            prop_assert!(engine.journal.len() >= before);
            for Has { tenant, used, most, .. } in used(&tree, &fleet, &engine.state, "h100", |_| true) {
                let is_under_quota = tree.quotas().next().is_some();
                prop_assert!(!is_under_quota || most.is_none_or(|most| used <= most), "`{}` has {} of {:?}", tenant, used, most);
            }
            for view in engine.state.tenants() {
                let most = view.limits.running_jobs.map_or(u64::MAX, u64::from);
                prop_assert!(view.load.running_jobs <= most, "`{}` runs {} jobs", view.name, view.load.running_jobs);
            }
        }
        prop_assert_eq!(engine.folded().essence(), engine.state.essence());
    }

    /// What runs first is what a plain reckoning over all waiting jobs puts first.
    #[test]
    fn the_order_is_that_of_a_plain_reckoning(
        parents in prop::collection::vec((0usize..5, 1u32..4), 1..5),
        jobs in prop::collection::vec((0usize..5, 1u16..5, 0usize..4, -2i32..3), 1..30),
    ) {
        let mut tree = TenantTree::default();
        for (place, (parent, weight)) in parents.iter().enumerate() {
            let parent = (*parent < place).then(|| format!("t{parent}"));
            tree.tenants.insert(format!("t{place}"), Tenant { parent, weight: *weight, ..Tenant::default() });
        }
        // Jobs that never end, of tenants that have none below them.
        let is_leaf = |name: &str| tree.tenants.values().all(|tenant| tenant.parent.as_deref() != Some(name));
        let mut engine = Engine::under(fleet(MIXED), policy(Order::FairShare, NONE, tree.clone()));
        let mut waiting: Vec<(JobId, String, u16, usize, i32)> = Vec::new();
        for (who, chips, tier, priority) in jobs {
            let name = format!("t{who}");
            if is_leaf(&name) {
                let gangs = vec![offtake_workload::Gang { accelerators: vec!["h100".to_owned()], ..gang(1, chips) }];
                let job = engine.submit(Job { tier: Tier::ALL[tier], priority, ..of(&name, job(gangs, None)) });
                waiting.push((job, name, chips, tier, priority));
            }
        }
        engine.decide();
        let fleet = Arc::clone(engine.state.fleet());
        let all = |unit: fn(&offtake_fleet::NodeKind) -> u64| fleet.nodes.iter().map(|node| unit(fleet.kind(*node))).sum::<u64>();
        let h100 = fleet.nodes.iter().map(|node| fleet.kind(*node)).filter(|kind| kind.chips == 4).count() as u64 * 4;
        let (cpu, memory) = (all(|kind| u64::from(kind.cpu.get())), all(|kind| kind.memory.get()));
        let path = |name: &str| -> Vec<String> {
            let mut path: Vec<String> = tree.path(name).map(str::to_owned).collect();
            path.reverse();
            path
        };
        let mut had: BTreeMap<String, u64> = BTreeMap::new();
        // A chip comes with 4 cores and 1 GiB: the dominant resource is the same for all.
        let dominant = [(1, h100), (4000, cpu), (1024, memory)].into_iter().map(|(each, all)| each as f64 / all as f64).fold(0.0, f64::max);
        for fact in engine.journal.iter() {
            let Event::JobPlaced { job, .. } = &fact.event else { continue };
            let share = |name: &String| {
                let weight = tree.tenants.get(name).map_or(1, |tenant| tenant.weight);
                let share = had.get(name).copied().unwrap_or(0) as f64 * dominant / f64::from(weight);
                (share * 1e9) as u64
            };
            let shares = |name: &str| {
                let mut shares: Vec<u64> = path(name).iter().map(share).collect();
                shares.resize(8, 0);
                shares
            };
            let placed = waiting.iter().position(|(other, ..)| other == job).expect("it waited");
            let (_, name, chips, tier, priority) = waiting[placed].clone();
            for (other, theirs, more, their_tier, their_priority) in &waiting {
                let stronger = *their_tier < tier;
                let poorer = *their_tier == tier && theirs != &name && shares(theirs) < shares(&name);
                let more_urgent = *their_tier == tier && *theirs == name && (-their_priority, *other) < (-priority, *job);
                // Who asks for no more would have fitted too.
                prop_assert!(*more > chips || !(stronger || poorer || more_urgent), "job {} went before job {}", job.0, other.0);
            }
            waiting.remove(placed);
            for at in path(&name) {
                *had.entry(at).or_default() += u64::from(chips);
            }
        }
    }

    /// The bound: of one tier, nobody who asks for the same goes before a job that has waited longer than is allowed and
    /// came earlier.
    #[test]
    fn nobody_waits_too_long_behind_who_came_later(
        weights in prop::collection::vec(1u32..1000, 3),
        jobs in prop::collection::vec((0usize..3, 1i64..60, 0i64..12, -2i32..3), 1..60),
    ) {
        let ageing = Duration::from_secs(40);
        let tenants = [("t0", tenant(None, weights[0])), ("t1", tenant(None, weights[1])), ("t2", tenant(None, weights[2]))];
        let fairness = Fairness { half_life: Duration::from_secs(30), ageing: Some(ageing) };
        let mut engine = Engine::under(fleet(PLAIN), policy(Order::FairShare, fairness, tree(tenants)));
        for (who, seconds, then, priority) in jobs {
            engine.submit(Job { priority, ..node_for(&format!("t{who}"), seconds) });
            engine.pass(0);
            (0..then).for_each(|_| engine.pass(1));
        }
        (0..600).for_each(|_| engine.pass(1));
        prop_assert_eq!(engine.state.queue().jobs(), 0);
        let mut waiting: BTreeMap<JobId, offtake_units::Timestamp> = BTreeMap::new();
        for fact in &engine.journal {
            match &fact.event {
                Event::JobSubmitted { job, .. } => drop(waiting.insert(*job, fact.at)),
                Event::JobPlaced { job, .. } => {
                    let late = waiting.iter().find(|(other, asked)| **other < *job && fact.at - **asked > ageing);
                    prop_assert!(late.is_none(), "job {} went before {:?}", job.0, late);
                    waiting.remove(job);
                }
                _ => {}
            }
        }
    }

    /// See [`no_tier_starves`].
    #[test]
    fn no_tier_starves_under_its_quota(
        order in orders(),
        holds in 1u32..4,
        tiers in prop::collection::vec(0usize..4, 2),
        jobs in prop::collection::vec((0usize..3, 1u32..4, 1i64..60, 0i64..12), 1..80),
    ) {
        no_tier_starves(order, holds, [tiers[0], tiers[1]], &jobs)?;
    }
}

#[test]
fn who_waited_too_long_comes_before_larger_ones_that_came_later() {
    let jobs = [(0, 2, 53, 4), (1, 1, 1, 6), (0, 2, 1, 0), (0, 3, 58, 0), (0, 3, 7, 0), (0, 3, 54, 0)];
    no_tier_starves(Order::Multifactor, 1, [0, 0], &jobs).expect("the bound holds");
    let jobs = [
        (0, 1, 7, 0),
        (0, 3, 29, 3),
        (1, 1, 1, 1),
        (0, 3, 32, 7),
        (0, 2, 1, 3),
        (0, 3, 44, 3),
        (0, 2, 1, 8),
        (1, 1, 1, 9),
        (0, 2, 1, 9),
        (1, 1, 1, 11),
        (0, 3, 12, 0),
        (0, 3, 49, 0),
    ];
    no_tier_starves(Order::Multifactor, 1, [0, 0], &jobs).expect("the bound holds");
}

/// The bound that `docs/policy-file.md` states: work within quotas that are not lent waits no longer than `ageing`, and the
/// longest run once for itself and once for each job that came before it, by tier and turn, and waited as long. Jobs are
/// whose they are, workers, seconds that they take, and seconds until the next comes.
fn no_tier_starves(
    order: Order,
    holds: u32,
    tiers: [usize; 2],
    jobs: &[(usize, u32, i64, i64)],
) -> Result<(), TestCaseError> {
    let (ageing, longest) = (100, 60);
    let own = |nominal| Tenant { quota: chips("chip", nominal, None, Some(0)), ..Tenant::default() };
    let mut tree = tree([("t0", own(12)), ("t1", own(4))]);
    tree.quota = chips("chip", 0, None, None);
    let fairness = Fairness { half_life: Duration::from_secs(30), ageing: Some(Duration::from_secs(ageing)) };
    let mut engine = Engine::under(fleet(PLAIN), policy(order, fairness, tree));
    engine.keep(holds);
    // When each was asked for and started, by tier and turn.
    let mut asked: BTreeMap<(Tier, JobId), i64> = BTreeMap::new();
    for (who, workers, seconds, then) in jobs.iter().copied() {
        // Whoever has no quota is in nobody's way.
        let (tier, workers) = match who {
            0 => (Tier::ALL[tiers[0]], workers),
            1 => (Tier::ALL[tiers[1]], 1),
            _ => (Tier::Reserved, workers),
        };
        let spec = of(&format!("t{who}"), job(vec![gang(workers, 4)], Some(seconds)));
        let job = engine.submit(Job { tier, ..spec });
        if who < 2 {
            asked.insert((tier, job), engine.now().as_millis() / 1000);
        }
        engine.pass(0);
        (0..then).for_each(|_| engine.pass(1));
    }
    (0..asked.len() as i64 * longest + ageing).for_each(|_| engine.pass(1));
    let started: BTreeMap<JobId, i64> = engine
        .journal
        .iter()
        .filter_map(|fact| match &fact.event {
            Event::JobPlaced { job, .. } => Some((*job, fact.at.as_millis() / 1000)),
            _ => None,
        })
        .collect();
    let mut late_before = 0;
    for ((tier, job), asked) in &asked {
        let start = started.get(job).copied().unwrap_or(i64::MAX);
        let most = asked + ageing + (late_before + 1) * (longest + 1);
        prop_assert!(start <= most, "job {} of {tier:?}, asked for at {asked} s, starts at {start} s", job.0);
        late_before += i64::from(start > asked + ageing);
    }
    Ok(())
}
