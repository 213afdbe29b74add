//! Lent quota is taken back for its owner: from whom, and who keeps what is its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use offtake_engine::{
    Event, Explanation, JobId, Obstacle, Order, Phase, Policy, Preemption, Quota, Stage, State, StopReason, Tenant,
    TenantTree,
};
use offtake_fleet::AcceleratorKindIx;
use offtake_units::Duration;
use offtake_workload::{Checkpoint, Job, Strength, Tier};
use proptest::prelude::*;

use crate::support::{Engine, ISLANDS, MIXED, PLAIN, fleet, gang, is_leaving, job, of, within};
use crate::tenants::{orders, trees, used};

const KIND: AcceleratorKindIx = AcceleratorKindIx(0);

fn policy(tree: TenantTree, reclaim: bool) -> Policy {
    let preemption = Preemption {
        restart: Duration::from_secs(100),
        grace: Duration::from_secs(20),
        minimum_run: [Duration::from_secs(60); 4],
        reclaim,
        ..Preemption::default()
    };
    let named = Policy::named("offtake", 7).expect("it has a name");
    Policy { order: Order::FairShare, preemption: Some(preemption), tenants: Arc::new(tree), ..named }
}

fn tenant(parent: Option<&str>, quota: Option<Quota>) -> Tenant {
    let quota = quota.map(|quota| ("chip".to_owned(), quota)).into_iter().collect();
    Tenant { parent: parent.map(str::to_owned), quota, ..Tenant::default() }
}

fn nominal(chips: u32) -> Option<Quota> {
    Some(Quota { nominal: chips, ..Quota::default() })
}

/// Tenants with so many chips each, and nothing beside.
fn tree<const N: usize>(tenants: [(&str, Tenant); N]) -> TenantTree {
    let tenants = tenants.into_iter().map(|(name, tenant)| (name.to_owned(), tenant)).collect();
    let quota = BTreeMap::from([("chip".to_owned(), Quota::default())]);
    TenantTree { tenants, quota, ..TenantTree::default() }
}

/// Work that may be stopped.
fn lending(tenant: &str, workers: u32) -> Job {
    Job { preemptible: true, ..of(tenant, job(vec![gang(workers, 4)], Some(100_000))) }
}

fn reclaimed(engine: &Engine) -> Vec<(JobId, JobId)> {
    let by = |event: &Event| match event {
        Event::JobStopping { job, reason: StopReason::Reclaimed { by }, .. } => Some((*job, *by)),
        _ => None,
    };
    engine.journal.iter().filter_map(|fact| by(&fact.event)).collect()
}

fn leave(engine: &mut Engine) {
    let stops = |phase: &Phase| matches!(phase, Phase::Running { stage: Stage::Stopping(_), .. });
    let leaving: Vec<JobId> =
        engine.state.jobs().into_iter().filter(|(_, work)| stops(&work.phase)).map(|(job, _)| job).collect();
    for job in leaving {
        engine.tell(Event::JobRequeued { job, saved_until: None, held: false });
        engine.decide();
    }
}

#[test]
fn an_owner_takes_back_what_it_lent_and_no_more() {
    let tree = || tree([("a", tenant(None, nominal(8))), ("b", tenant(None, nominal(8)))]);
    let mut engine = Engine::under(fleet(PLAIN), policy(tree(), true));
    let all: Vec<JobId> = (0..4).map(|_| engine.submit(lending("a", 1))).collect();
    engine.pass(0);
    let gang_of_b = engine.submit(of("b", job(vec![gang(2, 4)], Some(1000))));
    engine.pass(30);
    assert!(reclaimed(&engine).is_empty(), "they have just come");
    let why = engine.state.explain(gang_of_b);
    let lent = Obstacle::Lent { accelerator: KIND, to: vec![("a".to_owned(), 8000)], reclaims: true };
    assert!(matches!(&why, Some(Explanation::Waiting(why)) if why.obstacles.contains(&lent)), "{why:?}");
    engine.pass(70);
    let taken = reclaimed(&engine);
    assert_eq!(taken.len(), 2);
    assert!(taken.iter().all(|(victim, by)| all.contains(victim) && *by == gang_of_b));
    let one_more = engine.submit(of("b", job(vec![gang(1, 4)], Some(1000))));
    engine.pass(0);
    leave(&mut engine);
    assert!(engine.runs(gang_of_b), "it has its quota back");
    engine.pass(200);
    assert_eq!(reclaimed(&engine).len(), 2, "a is at its own, and its work that waits would borrow");
    assert!(!engine.runs(one_more));
    engine.restore();
    engine.pass(100);
}

#[test]
fn who_is_left_alone() {
    let stands = |borrower: Job, owner: Job, reclaim: bool| {
        let tree = tree([("a", tenant(None, nominal(4))), ("b", tenant(None, nominal(12)))]);
        let mut engine = Engine::under(fleet(PLAIN), policy(tree, reclaim));
        engine.submit(borrower);
        engine.pass(0);
        engine.pass(100);
        engine.submit(owner);
        engine.pass(0);
        let leaving = engine.state.jobs().into_iter();
        leaving.filter(|(_, work)| is_leaving(&work.phase)).count() == 0
    };
    let owner = |workers| of("b", job(vec![gang(workers, 4)], Some(1000)));
    let small = || Job { gangs: vec![gang(3, 4)], ..lending("a", 1) };
    assert!(stands(small(), owner(3), true), "without it a would have nothing of its own");
    let two = |tier| Job { tier, ..lending("x", 2) };
    assert!(!stands(two(Tier::Standard), owner(3), true), "x has nothing of its own");
    assert!(stands(two(Tier::Standard), owner(3), false), "the policy says so");
    assert!(stands(two(Tier::Guaranteed), owner(3), true), "it is stronger");
    assert!(stands(Job { preemptible: false, ..two(Tier::Standard) }, owner(3), true), "it may not be stopped");
    assert!(stands(two(Tier::Standard), owner(4), true), "b would borrow itself");
}

#[test]
fn quota_comes_back_where_room_is_not_what_is_missing() {
    // Eight chips are nobody's, so there is room; the quota is used up.
    let tree = tree([("a", tenant(None, nominal(4))), ("b", tenant(None, nominal(4)))]);
    let mut engine = Engine::under(fleet(PLAIN), policy(tree, true));
    let saves = |seconds| Job {
        checkpoint: Some(Checkpoint { interval: Duration::from_secs(seconds), bytes: 0 }),
        ..lending("a", 1)
    };
    let dear = engine.submit(saves(1000));
    let cheap = engine.submit(saves(90));
    engine.pass(0);
    [dear, cheap].iter().for_each(|job| engine.tell(Event::JobStarted { job: *job }));
    engine.pass(100);
    let owner = engine.submit(of("b", job(vec![gang(1, 4)], Some(1000))));
    engine.pass(0);
    assert_eq!(reclaimed(&engine), [(cheap, owner)], "the least is lost");
    leave(&mut engine);
    assert!(engine.runs(owner) && engine.runs(dear) && !engine.runs(cheap));
}

#[test]
fn only_the_branch_that_borrows_gives_back() {
    // c and d hang below p; d has borrowed from c, p as a whole nothing.
    let tree = tree([
        ("p", tenant(None, None)),
        ("c", tenant(Some("p"), nominal(8))),
        ("d", tenant(Some("p"), None)),
        ("q", tenant(None, nominal(8))),
    ]);
    let mut engine = Engine::under(fleet(PLAIN), policy(tree, true));
    let of_d: Vec<JobId> = (0..2).map(|_| engine.submit(lending("d", 1))).collect();
    let of_q: Vec<JobId> = (0..2).map(|_| engine.submit(lending("q", 1))).collect();
    engine.pass(0);
    engine.pass(100);
    let owner = engine.submit(of("c", job(vec![gang(1, 4)], Some(1000))));
    engine.pass(0);
    let taken = reclaimed(&engine);
    assert!(taken.len() == 1 && of_d.contains(&taken[0].0), "{taken:?} of {of_d:?} and {of_q:?}");
    leave(&mut engine);
    assert!(engine.runs(owner));
}

#[test]
fn what_is_taken_back_lies_where_the_gang_needs_it() {
    let tree = tree([("a", tenant(None, nominal(24))), ("b", tenant(None, nominal(24)))]);
    let mut engine = Engine::under(fleet(ISLANDS), policy(tree, true));
    // One rack of work that has saved long ago, one of work that has just saved, but for one node.
    let saves = |seconds| Job {
        checkpoint: Some(Checkpoint { interval: Duration::from_secs(seconds), bytes: 0 }),
        ..lending("a", 1)
    };
    let all: Vec<JobId> = (0..12).map(|place| engine.submit(saves(if place % 2 == 0 { 1000 } else { 90 }))).collect();
    engine.pass(0);
    all.iter().for_each(|job| engine.tell(Event::JobStarted { job: *job }));
    engine.pass(100);
    let owner = engine.submit(of("b", job(vec![within(gang(6, 4), "rack", Strength::Required)], Some(1000))));
    engine.pass(0);
    assert_eq!(reclaimed(&engine).len(), 6);
    leave(&mut engine);
    assert!(engine.runs(owner), "all of one rack, not the cheapest of both");
}

#[test]
fn a_borrower_is_told_of_its_risk() {
    let tree = tree([("a", tenant(None, nominal(8))), ("b", tenant(None, nominal(8)))]);
    let mut engine = Engine::under(fleet(PLAIN), policy(tree, true));
    let all: Vec<JobId> = (0..3).map(|_| engine.submit(lending("a", 1))).collect();
    engine.pass(0);
    let risk = engine.state.risk(all[0], Duration::DAY).expect("it runs");
    assert_eq!((risk.borrowed, risk.chosen_by), (4000, vec![]));
    engine.pass(55);
    let owner = engine.submit(of("b", job(vec![gang(2, 4)], Some(1000))));
    engine.pass(0);
    engine.wait(10);
    engine.state.advance(engine.now());
    let chosen = all.iter().filter(|job| {
        let risk = engine.state.risk(**job, Duration::DAY).expect("it runs");
        risk.chosen_by == [owner]
    });
    assert_eq!(chosen.count(), 1);
}

// Whatever is asked.

/// Whether all is as it should be once work is being stopped so that a job has its quota back; `stopped` is just told.
fn is_fair(tree: &TenantTree, state: &State, by: JobId, stopped: &[JobId]) -> Result<(), TestCaseError> {
    let fleet = state.fleet();
    let owner = &state.job(by).expect("it waits").spec;
    let all = used(tree, fleet, state, "h100", |_| true);
    let stays =
        used(tree, fleet, state, "h100", |phase| !matches!(phase, Phase::Running { stage: Stage::Stopping(_), .. }));
    let of = |tenant: &str| all.iter().find(|has| has.tenant == tenant);
    let needs: u64 = owner.gangs.iter().map(|gang| u64::from(gang.workers) * gang.chips.milli()).sum();
    let own = of(&owner.tenant).expect("who owns is in the tree");
    prop_assert!(own.used + needs <= own.subtree, "`{}` would borrow itself", owner.tenant);
    let above: Vec<&str> = tree.path(&owner.tenant).collect();
    for victim in stopped {
        let work = state.job(*victim).expect("it runs");
        prop_assert_eq!(work.spec.tier, owner.tier);
        prop_assert!(work.spec.preemptible || work.spec.tier == Tier::Spot);
        for at in tree.path(&work.spec.tenant).take_while(|at| !above.contains(at)) {
            if let Some(left) = stays.iter().find(|has| has.tenant == at) {
                prop_assert!(left.used >= left.subtree, "`{}` keeps {} of {}", at, left.used, left.subtree);
            }
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Step {
    Submit(usize, u32, u16, usize, bool),
    Pass(i64),
    Cancel(u64),
    Restore,
}

fn steps() -> impl Strategy<Value = Step> {
    let submit = (0usize..7, 1u32..5, 1u16..5, 1usize..4, prop::bool::weighted(0.8));
    prop_oneof![
        8 => submit.prop_map(|(who, workers, chips, tier, stops)| Step::Submit(who, workers, chips, tier, stops)),
        4 => (0i64..60).prop_map(Step::Pass),
        1 => (0u64..60).prop_map(Step::Cancel),
        1 => Just(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn nobody_falls_under_its_own(tree in trees(), order in orders(), steps in prop::collection::vec(steps(), 1..60)) {
        let mut engine = Engine::under(fleet(MIXED), Policy { order, ..policy(tree.clone(), true) });
        for step in steps {
            match step {
                Step::Submit(who, workers, chips, tier, preemptible) => {
                    let gangs = vec![offtake_workload::Gang { accelerators: vec!["h100".to_owned()], ..gang(workers, chips) }];
                    let tier = Tier::ALL[tier];
                    engine.submit(Job { tier, preemptible, ..of(&format!("t{who}"), job(gangs, Some(10_000))) });
                }
                Step::Pass(seconds) => engine.pass(seconds),
                Step::Cancel(job) => engine.tell(Event::JobCancelled { job: JobId(job) }),
                Step::Restore => engine.restore(),
            }
            engine.decide();
        }
        // Each stop, as the journal tells it.
        let mut folded = State::default();
        let mut stopped: BTreeMap<JobId, Vec<JobId>> = BTreeMap::new();
        for fact in &engine.journal {
            folded.apply(fact);
            match &fact.event {
                Event::JobStopping { job, reason: StopReason::Reclaimed { by }, .. } => {
                    stopped.entry(*by).or_default().push(*job);
                }
                Event::HoldPlaced { job, .. } => {
                    if let Some(victims) = stopped.remove(job) {
                        is_fair(&tree, &folded, *job, &victims)?;
                    }
                }
                _ => {}
            }
        }
        prop_assert!(stopped.is_empty(), "whoever takes back has it held: {:?}", stopped);
        prop_assert_eq!(engine.folded().essence(), engine.state.essence());
    }
}
