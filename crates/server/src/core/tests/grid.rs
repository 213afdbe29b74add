//! Caps and grid events with agents that do what they are told.

use offtake_protocol::rest::{GridEvent, GridEventState, GridEventView, WhatIfRequest};

use super::*;

/// Three nodes of four chips: 900 W idle and 2,900 W at work, each; behind a connection of 9 kW.
fn three_nodes() -> World {
    let cap = r#"caps.grid = { on = "here", watts = 9000, meter = "facility", kind = "contract" }"#;
    World::declared("nodes = { node = 3 }", cap)
}

#[test]
fn an_operator_lowers_a_cap_and_work_gives_way_until_it_is_reset() {
    let mut world = three_nodes();
    let job = |tier: &str, requeue: bool| {
        format!(
            r#"{{"tier":"{tier}","requeue":{requeue},"command":["train"],"checkpoint_signal":"USR1","checkpoint_grace":"20s",
               "gangs":[{{"workers":1,"chips":4,"memory":"1 GiB"}}]}}"#
        )
    };
    let spot = world.submit(&job("spot", true));
    let reserved = world.submit(&job("reserved", true));
    let once = world.submit(&job("standard", false));
    world.settle();
    let set =
        |world: &mut World, cap: &str, watts| world.ask(&operator(), Command::SetCap { cap: cap.to_owned(), watts });
    let Ok(Answer::Cap(cap)) = set(&mut world, "grid", Some(7500)) else { unreachable!("the cap is set") };
    assert_eq!((cap.watts, cap.declared_w, cap.used_w), (7500, Some(9000), 8700));
    assert_eq!(world.state(spot), JobState::Stopping, "no agent sets a power limit: a lower power level is no way out");
    let reason = world.core.job(&operator(), spot).and_then(|detail| detail.job.reason);
    assert_eq!(reason.as_deref(), Some("gives its power back for a lowered cap"));
    world.now += 5_000;
    world.settle();
    let states = |world: &World| [spot, reserved, once].map(|job| world.state(job));
    assert_eq!(states(&world), [JobState::Pending, JobState::Running, JobState::Running]);
    set(&mut world, "grid", Some(5000)).expect("the cap is set");
    world.settle();
    assert_eq!(
        states(&world),
        [JobState::Pending, JobState::Running, JobState::Failed],
        "it asked for no second start"
    );
    let Ok(Answer::Cap(cap)) = set(&mut world, "grid", None) else { unreachable!("the cap is reset") };
    assert_eq!((cap.watts, cap.declared_w), (9000, None));
    world.settle();
    assert_eq!(states(&world)[0], JobState::Running);
    let code = |answer: Result<Answer, Problem>| answer.expect_err("it is refused").code;
    assert_eq!(code(set(&mut world, "mains", Some(1))), "unknown_cap");
    assert_eq!(code(set(&mut world, "grid", Some(u64::MAX))), "invalid_watts");
    let by_member = Command::SetCap { cap: "grid".to_owned(), watts: None };
    assert_eq!(code(world.ask(&member("web"), by_member)), "forbidden");
}

#[test]
fn times_of_the_clock_are_announced_an_hour_ahead_and_once() {
    // By the clock of a place without summer time.
    let hours =
        r#"{ from = "16:00", until = "21:00", watts = 5000 }, { from = "21:00", until = "22:00", watts = 6000 }"#;
    let cap = format!(
        "caps.grid = {{ on = \"here\", watts = 9000, meter = \"facility\", kind = \"contract\", \
         time_zone = \"Asia/Kolkata\", hours = [{hours}] }}"
    );
    let mut world = World::declared("nodes = { node = 3 }", &cap);
    let mut seen = std::collections::BTreeMap::new();
    let mut withdrawn = None;
    // Five days, half an hour at a time.
    for _ in 0..240 {
        for event in world.core.grid_events() {
            let ahead = event.from_ms - world.now;
            let (first, _) = seen.entry(event.name.clone()).or_insert((ahead, event.watts));
            *first = ahead.max(*first);
            if withdrawn.is_none() && ahead > 0 {
                world.ask(&operator(), Command::Withdraw(event.name.clone())).expect("it is there");
                withdrawn = Some(event.name);
            }
        }
        world.now += 1_800_000;
        world.settle();
        assert!(
            world.core.grid_events().iter().all(|event| Some(&event.name) != withdrawn.as_ref()),
            "it does not come back"
        );
        let Ok(Answer::Cap(cap)) = world.core.cap_answer("grid") else { unreachable!("it is a cap") };
        let active = world.core.grid_events().into_iter().filter(|event| event.state == GridEventState::Active);
        assert_eq!(cap.watts, active.map(|event| event.watts).min().unwrap_or(9000));
    }
    assert!((9..=11).contains(&seen.len()), "two a day: {seen:?}");
    let is_as_said = |(name, (ahead, watts)): (&String, &(i64, u64))| {
        let is_first = name.ends_with("T16:00:00") && *watts == 5000;
        name.starts_with("hours of grid from ")
            && (is_first || name.ends_with("T21:00:00") && *watts == 6000)
            && (3_600_000..=7_200_000).contains(ahead)
    };
    assert!(seen.iter().skip(1).all(is_as_said), "{seen:?}");
}

#[test]
fn times_of_the_clock_that_begin_together_are_all_announced_and_go_with_the_fleet_file() {
    let site = "nodes = { node = 3 }";
    let cap = |hours: &str| {
        format!(
            "caps.grid = {{ on = \"here\", watts = 9000, meter = \"facility\", kind = \"contract\", \
             time_zone = \"Asia/Kolkata\", hours = [{hours}] }}"
        )
    };
    let two = r#"{ from = "20:30", until = "22:00", watts = 5000 }, { from = "20:30", until = "21:00", watts = 4000 }"#;
    // It is 19:43 there.
    let mut world = World::declared(site, &cap(two));
    let told = |world: &World| {
        let events = world.core.grid_events().into_iter();
        let mut told: Vec<(String, u64, i64)> =
            events.map(|event| (event.name, event.watts, (event.until_ms - event.from_ms) / 60_000)).collect();
        told.sort();
        told
    };
    let name = "hours of grid from 2026-09-21T20:30:00";
    let hours = |watts, minutes| (name.to_owned(), watts, minutes);
    assert_eq!(told(&world), [hours(4000, 30), hours(5000, 90)]);
    announce(&mut world, "peak", event(5000, None, 86_400)).expect("it is announced");
    let peak = ("peak".to_owned(), 5000, 1440);
    world.restart();
    assert_eq!(told(&world), [hours(4000, 30), hours(5000, 90), peak.clone()], "each once");
    let other =
        r#"{ from = "20:30", until = "22:00", watts = 3000 }, { from = "20:30", until = "21:00", watts = 4000 }"#;
    world.declared = Some(World::fleet(site, &cap(other)));
    world.restart();
    assert_eq!(told(&world), [hours(3000, 90), hours(4000, 30), peak.clone()]);
    world.now += 3_600_000;
    world.settle();
    let none = r#"caps.grid = { on = "here", watts = 9000, meter = "facility", kind = "contract" }"#;
    world.declared = Some(World::fleet(site, none));
    world.restart();
    assert_eq!(told(&world), [peak], "also one that has begun");
}

fn announce(world: &mut World, name: &str, event: GridEvent) -> Result<GridEventView, Problem> {
    let command = Command::Announce { name: name.to_owned(), event: Box::new(event) };
    match world.ask(&operator(), command)? {
        Answer::GridEvent(view) => Ok(*view),
        other => unreachable!("{other:?}"),
    }
}

fn event(watts: u64, at: Option<i64>, hold_s: i64) -> GridEvent {
    let (at, hold) = (at.map(Timestamp::from_millis), Duration::from_secs(hold_s));
    GridEvent { cap: "grid".to_owned(), watts: Some(watts), cut_ppm: None, at, hold }
}

const TRAIN: &str = r#"{"tier":"TIER","requeue":true,"command":["train"],"checkpoint_signal":"USR1","checkpoint_grace":"20s",
    "gangs":[{"workers":1,"chips":4,"memory":"1 GiB"}]}"#;

/// Time passes as the server asks for it, with agents that report in time.
fn wait_until(world: &mut World, at: i64) {
    while world.now < at {
        let next = world.core.next_timer().map_or(at, Timestamp::as_millis);
        world.now = next.clamp(world.now + 1, at.min(world.now + 10_000).max(world.now + 1));
        world.settle();
    }
}

#[test]
fn work_gives_way_in_time_to_an_event_that_is_announced() {
    let mut world = three_nodes();
    let [spot, reserved] = ["spot", "reserved"].map(|tier| world.submit(&TRAIN.replace("TIER", tier)));
    world.settle();
    let begin = world.now + 1_800_000;
    let told = announce(&mut world, "peak", event(5000, Some(begin), 3600)).expect("it is announced");
    assert_eq!((told.state, told.from_ms, told.used_w, told.least_w), (GridEventState::Announced, begin, 6700, None));
    let again = announce(&mut world, "peak", event(5000, Some(begin), 3600)).expect("it is known");
    assert_eq!((again, world.core.grid_events().len()), (told, 1));
    let other = announce(&mut world, "peak", event(4000, Some(begin), 3600)).expect_err("it contradicts");
    assert_eq!(other.code, "grid_event_exists");
    world.restart();
    world.settle();
    let states = |world: &World| [spot, reserved].map(|job| world.state(job));
    // The checkpoint may take twenty seconds, and the end thirty.
    wait_until(&mut world, begin - 60_000);
    assert_eq!(states(&world), [JobState::Running, JobState::Running]);
    wait_until(&mut world, begin);
    assert_eq!(states(&world), [JobState::Pending, JobState::Running]);
    let [active] = world.core.grid_events().try_into().expect("there is one");
    assert_eq!((active.state, active.used_w), (GridEventState::Active, 4700));
    wait_until(&mut world, begin + 3_600_000);
    assert_eq!(states(&world), [JobState::Running, JobState::Running]);
    assert!(world.core.grid_events().is_empty());
}

#[test]
fn who_waits_for_an_event_to_be_over_is_told_so() {
    let mut world = three_nodes();
    let begin = world.now + 1_800_000;
    announce(&mut world, "peak", event(3000, Some(begin), 3600)).expect("it is announced");
    let job = |time: &str| TRAIN.replace("TIER", "standard").replacen('{', &format!(r#"{{"duration":"{time}","#), 1);
    let [short, long] = ["20m", "2h"].map(|time| world.submit(&job(time)));
    world.settle();
    assert_eq!((world.state(short), world.state(long)), (JobState::Running, JobState::Pending));
    let why = world.core.why(&operator(), long, false).expect("it is known");
    let words = "it would still run when the grid event peak leaves 3.00 kW under grid, from ";
    assert!(why.blockers[0].starts_with(words), "{:?}", why.blockers);
}

#[test]
fn who_does_not_end_in_time_is_killed() {
    let mut world = three_nodes();
    let spot = world.submit(&TRAIN.replace("TIER", "spot"));
    world.settle();
    world.stubborn = true;
    let told = announce(&mut world, "now", event(3000, None, 600)).expect("it is announced");
    assert_eq!(told.from_ms, world.now + 10_000, "what comes without notice has ten seconds");
    wait_until(&mut world, told.from_ms - 4000);
    assert_eq!(world.state(spot), JobState::Stopping);
    wait_until(&mut world, told.from_ms - 2000);
    assert_eq!(world.state(spot), JobState::Pending);
    world.ask(&operator(), Command::Withdraw("now".to_owned())).expect("it is there");
    world.settle();
    assert_eq!(world.state(spot), JobState::Running, "a withdrawn event is over");
}

#[test]
fn what_cannot_be_had_is_said_at_once_and_what_makes_no_sense_is_refused() {
    let mut world = three_nodes();
    let soon = Some(world.now + 60_000);
    let told = announce(&mut world, "too deep", event(1000, soon, 60)).expect("it is announced");
    assert_eq!(told.least_w, Some(2700), "idle nodes draw that");
    let cut = GridEvent { watts: None, cut_ppm: Some(100_000), ..event(0, None, 60) };
    assert_eq!(announce(&mut world, "a tenth", cut.clone()).expect("it is announced").watts, 2430);
    let now = world.now;
    let refused = [
        ("at", event(5000, Some(now - 3_600_000), 60)),
        ("hold", event(5000, None, 0)),
        ("watts", GridEvent { watts: None, ..event(0, None, 60) }),
        ("watts", GridEvent { cut_ppm: Some(1), ..event(5000, None, 60) }),
        ("watts", event(u64::MAX, None, 60)),
        ("cut_ppm", GridEvent { cut_ppm: Some(1_000_001), ..cut }),
    ];
    for (field, event) in refused {
        let problem = announce(&mut world, "wrong", event).expect_err("it makes no sense");
        assert_eq!((problem.status, problem.field.as_deref()), (422, Some(field)), "{}", problem.detail);
    }
    let unknown = GridEvent { cap: "mains".to_owned(), ..event(5000, None, 60) };
    assert_eq!(announce(&mut world, "wrong", unknown).expect_err("no such cap").code, "unknown_cap");
    assert_eq!(announce(&mut world, " ", event(5000, None, 60)).expect_err("no name").field.as_deref(), Some("name"));
    let withdrawn = world.ask(&operator(), Command::Withdraw("wrong".to_owned()));
    assert_eq!(withdrawn.expect_err("there is none").code, "unknown_grid_event");
    let by_member = Command::Withdraw("too deep".to_owned());
    assert_eq!(world.ask(&member("web"), by_member).expect_err("it is forbidden").code, "forbidden");
}

#[test]
fn what_an_event_would_do_is_told_before_it_is_announced() {
    let mut world = three_nodes();
    let [spot, reserved] = ["spot", "reserved"].map(|tier| {
        let limited = TRAIN.replace("TIER", tier).replacen('{', r#"{"duration":"10h","#, 1);
        world.submit(&limited)
    });
    world.settle();
    let asked = GridEvent { watts: None, cut_ppm: Some(250_000), ..event(0, Some(world.now + 1_800_000), 3600) };
    let request = WhatIfRequest { grid_events: vec![asked.clone()], ..WhatIfRequest::default() };
    let told = world.core.fork().what_if(request).expect("it can be meant");
    let [change] = told.jobs.as_slice() else { unreachable!("{told:#?}") };
    // Four chips stand still while the work is saved, for the fifty seconds that it may take.
    assert_eq!((change.id, told.then.restarted, told.then.lost_chip_ms), (spot, 1, 200_000), "{told:#?}");
    let later = change.end_then_ms.zip(change.end_otherwise_ms).map(|(then, otherwise)| then - otherwise);
    // The hour, and what saving takes.
    assert!(later.is_some_and(|later| (3_600_000..3_700_000).contains(&later)), "{change:?}");
    assert_ne!(reserved, change.id);
    for job in [spot, reserved] {
        world.ask(&operator(), Command::Cancel { job, signal: None, now: true }).expect("it can be cancelled");
    }
    let endless = world.submit(&TRAIN.replace("TIER", "spot"));
    world.settle();
    let none = GridEvent { watts: Some(2700), cut_ppm: None, ..asked.clone() };
    let request = WhatIfRequest { grid_events: vec![none], ..WhatIfRequest::default() };
    let told = world.core.fork().what_if(request).expect("it can be meant");
    assert_eq!((told.then.restarted, told.jobs[0].id), (1, endless), "work without an end has to stop as well");
    let before = world.core.state().essence();
    let unknown = GridEvent { cap: "mains".to_owned(), ..asked };
    let request = WhatIfRequest { grid_events: vec![unknown], ..WhatIfRequest::default() };
    let refused = world.core.fork().what_if(request).expect_err("no such cap");
    assert_eq!((refused.code.as_str(), refused.index), ("unknown_cap", Some(0)));
    assert_eq!(world.core.state().essence(), before);
}

#[test]
fn a_cap_that_is_lowered_during_an_event_gives_work_its_grace() {
    let mut world = three_nodes();
    let [first, second] = ["spot", "standard"].map(|tier| world.submit(&TRAIN.replace("TIER", tier)));
    world.settle();
    let told = announce(&mut world, "mild", event(6800, None, 3600)).expect("it is announced");
    announce(&mut world, "tomorrow", event(2700, Some(told.from_ms + 86_400_000), 3600)).expect("it is announced");
    wait_until(&mut world, told.from_ms + 60_000);
    world.stubborn = true;
    let set = Command::SetCap { cap: "grid".to_owned(), watts: Some(4700) };
    world.ask(&operator(), set).expect("the cap is set");
    wait_until(&mut world, told.from_ms + 70_000);
    assert_eq!((world.state(first), world.state(second)), (JobState::Stopping, JobState::Running), "nobody kills it");
    let Some(Phase::Running { ends, .. }) = world.core.state().job(JobId(first)).map(|work| work.phase.clone()) else {
        unreachable!("it has its nodes")
    };
    assert_eq!(ends.as_millis(), told.from_ms + 60_000 + 50_000, "its own grace");
}

#[test]
fn who_is_asked_for_an_event_that_is_withdrawn_keeps_its_grace() {
    let caps = r#"
        caps.grid = { on = "here", watts = 9000, meter = "facility", kind = "contract" }
        sites.there = { pue = 1.0, nodes = { node = 1 } }
        caps.there = { on = "there", watts = 3000, meter = "facility", kind = "contract" }
        "#;
    let mut world = World::declared("nodes = { node = 3 }", caps);
    // One of them may be elsewhere.
    let jobs = [0, 1].map(|_| world.submit(&TRAIN.replace("TIER", "spot")));
    world.settle();
    let is_here = |job: &u64| world.core.job(&operator(), *job).is_some_and(|it| it.job.nodes[0].starts_with("here"));
    let spot = jobs.into_iter().find(is_here).expect("there is a single node there");
    world.stubborn = true;
    let told = announce(&mut world, "now", event(3000, None, 600)).expect("it is announced");
    // Neither asks for its power now: one comes long after, and it draws nothing under the cap of the other.
    announce(&mut world, "tomorrow", event(3000, Some(told.from_ms + 86_400_000), 600)).expect("it is announced");
    let elsewhere = GridEvent { cap: "there".to_owned(), ..event(900, Some(told.from_ms), 600) };
    announce(&mut world, "elsewhere", elsewhere).expect("it is announced");
    wait_until(&mut world, told.from_ms - 6000);
    world.ask(&operator(), Command::Withdraw("now".to_owned())).expect("it is there");
    wait_until(&mut world, told.from_ms + 5000);
    assert_eq!(world.state(spot), JobState::Stopping, "nobody kills it");
}
