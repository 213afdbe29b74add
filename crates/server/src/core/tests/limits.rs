//! Throttling with agents that set power limits, or do not.

use offtake_engine::Event as EngineEvent;
use offtake_protocol::rest::GridEvent;

use super::*;

/// Three nodes of four chips: 900 W idle, 2,900 W at work, 1,900 W throttled, each; behind a connection of 9 kW.
fn three_nodes(limiting: Limiting) -> World {
    let cap = r#"caps.grid = { on = "here", watts = 9000, meter = "facility", kind = "contract" }"#;
    let mut world = World::declared("nodes = { node = 3 }", cap);
    world.limiting = limiting;
    world.settle();
    world
}

const TRAIN: &str = r#"{"tier":"TIER","duration":"1h","requeue":true,"command":["train"],
    "gangs":[{"workers":1,"chips":4,"memory":"1 GiB"}]}"#;

/// On two nodes.
const SCRIPT: &str = r##"{"tier":"spot","duration":"DURATION","requeue":false,"script":"#!/bin/sh\nsleep 1000\n",
    "gangs":[{"workers":2,"chips":4,"memory":"1 GiB"}]}"##;

fn submit(world: &mut World, tier: &str) -> u64 {
    let job = world.submit(&TRAIN.replace("TIER", tier));
    world.settle();
    job
}

/// The connection allows so much for half an hour, ten seconds from now.
fn announce(world: &mut World, watts: u64) {
    let hold = Duration::from_secs(1800);
    let event = GridEvent { cap: "grid".to_owned(), watts: Some(watts), cut_ppm: None, at: None, hold };
    let command = Command::Announce { name: "event".to_owned(), event: Box::new(event) };
    world.ask(&operator(), command).expect("it is announced");
    world.settle();
}

/// Time passes as the server asks for it, with agents that report in time.
fn wait(world: &mut World, ms: i64) {
    let at = world.now + ms;
    while world.now < at {
        let next = world.core.next_timer().map_or(at, Timestamp::as_millis);
        world.now = next.clamp(world.now + 1, at.min(world.now + 10_000).max(world.now + 1));
        world.settle();
    }
}

fn reason(world: &World, job: u64) -> Option<String> {
    world.core.job(&operator(), job).and_then(|detail| detail.job.reason)
}

fn limits_of(world: &World, job: u64) -> Vec<BTreeMap<u16, u32>> {
    let nodes = world.core.job(&operator(), job).expect("a known job").job.nodes;
    nodes.iter().map(|node| world.agents[node].limited.set.clone()).collect()
}

fn load(world: &World) -> i64 {
    world.core.state().capacity().limits()[0].load().get()
}

#[test]
fn agents_limit_the_chips_of_throttled_work_until_its_power_is_back() {
    let mut world = three_nodes(Limiting::Obeys);
    let [spot, reserved] = ["spot", "reserved"].map(|tier| submit(&mut world, tier));
    announce(&mut world, 5900);
    let low = BTreeMap::from([0, 1, 2, 3].map(|chip| (chip, 350)));
    assert_eq!((limits_of(&world, spot), load(&world)), (vec![low.clone()], 5700));
    assert_eq!(limits_of(&world, reserved), [BTreeMap::new()]);
    let words = "throttled to low as power is short: 80 % of its speed";
    assert_eq!((world.state(spot), reason(&world, spot).as_deref()), (JobState::Running, Some(words)));
    world.restart();
    world.settle();
    wait(&mut world, 600_000);
    assert_eq!((limits_of(&world, spot), world.state(spot)), (vec![low], JobState::Running));
    wait(&mut world, 1_300_000);
    assert_eq!((limits_of(&world, spot), reason(&world, spot)), (vec![BTreeMap::new()], None), "the event is over");
    // Thirty minutes at four fifths of its speed took six minutes from it.
    wait(&mut world, 3_600_000 - 1_900_000 + 300_000);
    assert_eq!((world.state(spot), world.state(reserved)), (JobState::Running, JobState::Failed));
    wait(&mut world, 120_000);
    assert_eq!(world.state(spot), JobState::Failed, "its limit of time has moved, and holds");
}

#[test]
fn nothing_is_built_on_agents_that_do_not_say_in_time_that_chips_are_limited() {
    let mut world = three_nodes(Limiting::Obeys);
    let spot = submit(&mut world, "spot");
    let node = world.core.job(&operator(), spot).expect("a known job").job.nodes[0].clone();
    let why = |world: &World| world.core.node(&operator(), &node).expect("a known node").not_throttled;
    world.limiting = Limiting::AreSilent;
    announce(&mut world, 3700);
    wait(&mut world, 4_000);
    assert_eq!((world.state(spot), why(&world), load(&world)), (JobState::Running, None, 3700));
    wait(&mut world, 2_000);
    assert_eq!((world.state(spot), load(&world)), (JobState::Stopping, 4700), "it counts at full power again");
    assert_eq!(why(&world).as_deref(), Some("its agent did not limit them in time"));
    wait(&mut world, 30_000);
    assert_eq!((world.state(spot), load(&world)), (JobState::Pending, 2700), "its lease is over");
    world.limiting = Limiting::Obeys;
    world.settle();
    assert!(why(&world).is_some(), "that it is there again is no proof");
    wait(&mut world, 600_000);
    assert_eq!(why(&world), None, "after a while it is tried again");
}

#[test]
fn work_whose_chips_cannot_be_limited_after_all_is_stopped_at_once() {
    let mut world = three_nodes(Limiting::Fails);
    let spot = submit(&mut world, "spot");
    let node = world.core.job(&operator(), spot).expect("a known job").job.nodes[0].clone();
    announce(&mut world, 3700);
    assert_eq!(world.state(spot), JobState::Pending);
    let why = world.core.node(&operator(), &node).expect("a known node").not_throttled;
    assert_eq!(why.as_deref(), Some("chip 0: no permission"));
}

#[test]
fn a_cap_that_is_in_force_is_kept_when_drivers_refuse() {
    let mut world = three_nodes(Limiting::Fails);
    let [spot, reserved] = ["spot", "reserved"].map(|tier| submit(&mut world, tier));
    let set = Command::SetCap { cap: "grid".to_owned(), watts: Some(5900) };
    world.ask(&operator(), set).expect("the cap is set");
    world.settle();
    assert_eq!((world.state(spot), world.state(reserved), load(&world)), (JobState::Pending, JobState::Running, 4700));
}

#[test]
fn an_agent_that_comes_back_and_cannot_limit_its_chips_is_not_counted_on() {
    let mut world = three_nodes(Limiting::Obeys);
    let spot = submit(&mut world, "spot");
    announce(&mut world, 3700);
    wait(&mut world, 60_000);
    assert_eq!((world.state(spot), load(&world)), (JobState::Running, 3700));
    world.limiting = Limiting::Unable;
    world.settle();
    assert_eq!((world.state(spot), load(&world)), (JobState::Pending, 2700));
}

#[test]
fn a_script_is_limited_on_all_its_nodes_whether_or_not_they_run_a_step() {
    let mut world = three_nodes(Limiting::Obeys);
    let job = world.submit(&SCRIPT.replace("DURATION", "1h"));
    world.settle();
    announce(&mut world, 4700);
    let low = BTreeMap::from([0, 1, 2, 3].map(|chip| (chip, 350)));
    assert_eq!(limits_of(&world, job), [low.clone(), low]);
    wait(&mut world, 20_000);
    assert_eq!((world.state(job), load(&world)), (JobState::Running, 4700));
    wait(&mut world, 3_600_000 + 360_000);
    assert_eq!(world.state(job), JobState::Failed, "its time is over");
    let limited = |agent: &Agent| !agent.limited.set.is_empty();
    assert!(!world.agents.values().any(limited), "its chips are nobody's");
}

#[test]
fn nodes_that_cannot_limit_their_chips_say_so() {
    let world = three_nodes(Limiting::Unable);
    let nodes = world.core.nodes(&operator());
    assert!(nodes.iter().all(|node| node.not_throttled.as_deref() == Some("its agent cannot limit them")));
}

const STANDS_PAUSES: &str = r#"{"tier":"spot","duration":"1h","pause":"PAUSE","requeue":true,"command":["train"],
    "checkpoint_interval":"20m","checkpoint_size":"1GB","gangs":[{"workers":1,"chips":4,"memory":"1 GiB"}]}"#;

fn submit_pausable(world: &mut World, pause: &str) -> u64 {
    let job = world.submit(&STANDS_PAUSES.replace("PAUSE", pause));
    world.settle();
    job
}

/// Whether its agents hold all tasks of a job still.
fn stands_still(world: &World) -> bool {
    let mut tasks = world.agents.values().flat_map(|agent| agent.tasks.keys().map(|task| agent.paused.contains(task)));
    tasks.all(|paused| paused) && world.agents.values().any(|agent| !agent.tasks.is_empty())
}

#[test]
fn paused_work_stands_still_where_it_is_until_there_is_power_again() {
    let mut world = three_nodes(Limiting::Obeys);
    let job = submit_pausable(&mut world, "31m");
    announce(&mut world, 2700);
    assert_eq!((stands_still(&world), load(&world)), (true, 2700));
    let words = "paused, as power is short";
    assert_eq!((world.state(job), reason(&world, job).as_deref()), (JobState::Running, Some(words)));
    world.restart();
    world.settle();
    wait(&mut world, 1_809_000);
    assert_eq!((world.state(job), stands_still(&world)), (JobState::Running, true));
    wait(&mut world, 1_000);
    assert_eq!((stands_still(&world), reason(&world, job), load(&world)), (false, None, 4700), "the event is over");
    // An hour, and the half hour and ten seconds for which it stood still.
    wait(&mut world, 3_599_000);
    assert_eq!(world.state(job), JobState::Running);
    wait(&mut world, 2_000);
    assert_eq!(world.state(job), JobState::Failed, "its limit of time has moved, and holds");
}

#[test]
fn work_that_does_not_stand_still_in_time_is_killed() {
    let mut world = three_nodes(Limiting::Unable);
    let job = submit_pausable(&mut world, "31m");
    announce(&mut world, 2700);
    wait(&mut world, 4_000);
    assert_eq!((world.state(job), stands_still(&world)), (JobState::Running, false));
    wait(&mut world, 2_000);
    assert_eq!(world.state(job), JobState::Pending);
}

#[test]
fn work_that_begins_in_its_pause_and_does_not_stand_still_is_killed() {
    let mut world = three_nodes(Limiting::Unable);
    let job = world.submit(&STANDS_PAUSES.replace("PAUSE", "31m"));
    let hold = Duration::from_secs(1800);
    let event = GridEvent { cap: "grid".to_owned(), watts: Some(2700), cut_ppm: None, at: None, hold };
    let command = Command::Announce { name: "event".to_owned(), event: Box::new(event) };
    world.ask(&operator(), command).expect("it is announced");
    assert!(world.core.is_paused(job), "before it has begun");
    world.now += 10_000;
    world.core.pass(Timestamp::from_millis(world.now));
    world.settle();
    wait(&mut world, 4_000);
    assert_eq!((world.state(job), stands_still(&world)), (JobState::Running, false));
    wait(&mut world, 2_000);
    assert_eq!(world.state(job), JobState::Pending);
}

#[test]
fn work_that_somebody_lets_go_on_in_its_pause_is_killed() {
    let mut world = three_nodes(Limiting::Obeys);
    let job = submit_pausable(&mut world, "31m");
    announce(&mut world, 2700);
    wait(&mut world, 60_000);
    assert!(stands_still(&world));
    world.limiting = Limiting::Unable;
    world.agents.values_mut().for_each(|agent| agent.paused.clear());
    world.settle();
    wait(&mut world, 4_000);
    assert_eq!((world.state(job), stands_still(&world)), (JobState::Running, false));
    wait(&mut world, 2_000);
    assert_eq!(world.state(job), JobState::Pending);
}

#[test]
fn work_that_is_stopped_in_a_pause_is_killed_and_has_saved_nothing_in_it() {
    let mut world = three_nodes(Limiting::Obeys);
    let job = submit_pausable(&mut world, "2h");
    wait(&mut world, 1_900_000);
    // Nobody says until when.
    let set = |watts| Command::SetCap { cap: "grid".to_owned(), watts: Some(watts) };
    world.ask(&operator(), set(2700)).expect("the cap is set");
    world.settle();
    assert!(stands_still(&world));
    wait(&mut world, 7_199_000);
    assert_eq!((world.state(job), stands_still(&world)), (JobState::Running, true));
    world.stubborn = true;
    wait(&mut world, 1_000);
    assert_eq!(world.state(job), JobState::Pending, "no stop would have helped");
    let saved = world.journal.iter().rev().find_map(|fact| match &fact.event {
        crate::fact::Event::Engine(EngineEvent::JobRequeued { saved_until, .. }) => *saved_until,
        _ => None,
    });
    let started = world.core.job(&operator(), job).expect("known").attempts[0].started_ms.expect("it ran");
    assert_eq!(saved.map(|saved| saved.as_millis() - started), Some(1_200_000), "of 1,900 s before the pause");
}
