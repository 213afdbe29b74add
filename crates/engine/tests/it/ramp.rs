//! Work starts as fast as its site takes it on, and goes nowhere where its sudden stop is too large a step.

use offtake_engine::{
    Admission, Blocked, Curtailment, CurtailmentId, Event, Explanation, JobId, LimitIx, Obstacle, Phase, Policy,
    Refusal, Unborne,
};
use offtake_fleet::{NodeIx, SiteIx};
use offtake_units::{Duration, Ppm, Timestamp, Watts};
use offtake_workload::{Checkpoint, Elastic, Gang, Job, Swing, Tier};

use super::support::{Engine, PLAIN, fleet, gang, job, share};

const HERE: SiteIx = SiteIx(0);
/// What a chip can be made to draw beyond its idle draw.
const CHIP: i64 = 500;

/// Sixteen nodes of four chips, at a site that takes on `step` chips at once and `up` with each second.
fn text(step: i64, up: i64, more: &str) -> String {
    let watts = |chips: i64| format!("{{ watts = {} }}", chips * CHIP);
    let (step, up) = (watts(step), watts(up));
    let site = PLAIN.replace("node = 4 }", "node = 16 }");
    format!("{site}\n[sites.here.ramp]\nmax_step = {step}\nup_per_second = {up}\ndown_per_second = {up}\n{more}\n")
}

fn engine_of(text: &str) -> Engine {
    Engine::under(fleet(text), Policy::named("backfill", 7).expect("it has a name"))
}

fn engine(step: i64, up: i64, more: &str) -> Engine {
    engine_of(&text(step, up, more))
}

/// A second smaller site without a ramp.
const THERE: &str = "\n[sites.there]\npue = 1.0\nnodes = { node = 2 }\n";

/// Lets time pass in which passes are made when the engine asks for them, up to a second; the seconds at which jobs started.
fn starts(engine: &mut Engine, jobs: &[JobId], until: i64) -> Vec<Option<i64>> {
    engine.pass(0);
    while let Some(next) = engine.state.next_rise().filter(|next| *next <= Timestamp::from_secs(until)) {
        let seconds = ((next - engine.now()).as_millis() + 999) / 1000;
        engine.pass(seconds);
    }
    let start = |job: &JobId| {
        let placed =
            engine.journal.iter().find(|fact| matches!(&fact.event, Event::JobPlaced { job: of, .. } if of == job));
        placed.map(|fact| fact.at.as_millis() / 1000)
    };
    jobs.iter().map(start).collect()
}

fn obstacles(engine: &mut Engine, job: JobId) -> Vec<Obstacle> {
    match engine.state.explain(job) {
        Some(Explanation::Waiting(waiting)) => waiting.obstacles,
        _ => Vec::new(),
    }
}

#[test]
fn gangs_start_one_after_the_other_as_their_site_takes_them_on() {
    let mut engine = engine(12, 2, "");
    // Twelve chips at once; of what is left after eight, two more a second.
    let jobs: Vec<JobId> = [2, 2, 3, 1].map(|nodes| engine.submit(job(vec![gang(nodes, 4)], None))).to_vec();
    assert_eq!(starts(&mut engine, &jobs[..1], 0), [Some(0)]);
    assert_eq!(engine.state.blocked(jobs[1]), Some(Blocked::Ramp(HERE)));
    let ready = Timestamp::from_secs(2);
    let (needed, left) = (Watts::new(8 * CHIP), Watts::new(4 * CHIP));
    assert_eq!(obstacles(&mut engine, jobs[1]), [Obstacle::Ramp { site: HERE, needed, left, ready }]);
    // Four are there: the last could go, but comes after two that are waited for.
    assert_eq!(engine.state.next_rise(), Some(ready));
    engine.restore();
    assert_eq!(starts(&mut engine, &jobs, 100), [Some(0), Some(2), Some(8), Some(10)]);
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn what_ends_makes_no_room_for_what_starts_at_the_same_instant() {
    let mut engine = engine(8, 1, "");
    engine.submit(job(vec![gang(2, 4)], Some(3)));
    engine.pass(0);
    let next = engine.submit(job(vec![gang(2, 4)], None));
    engine.pass(3);
    assert!(!engine.runs(next), "a step down and one up of eight chips are two steps");
    assert_eq!(starts(&mut engine, &[next], 100), [Some(8)]);
}

#[test]
fn a_gang_too_large_is_refused_with_what_its_site_stands() {
    let smoothing = "smoothing = { watts = 1000, source = \"a test\" }";
    let judge = Admission::new(fleet(&text(12, 2, smoothing)));
    assert_eq!(judge.placeable(&[gang(7, 2)]), Ok(()), "fourteen chips: two of them are smoothed");
    let refusal = judge.placeable(&[gang(15, 1)]).expect_err("fifteen are too many");
    let site = "here".to_owned();
    let (step, most) = (Watts::new(15 * CHIP), Watts::new(14 * CHIP));
    assert_eq!(refusal, Refusal::TooSteep { site, step, most });
    assert_eq!(
        refusal.to_string(),
        "its sudden stop is a step of 7.50 kW, and site here stands 7.00 kW, the `max_step` of its ramp with what its \
         hardware smooths; ask for fewer chips"
    );
    // Gangs of one job stop together.
    assert!(judge.placeable(&[gang(8, 1), gang(7, 1)]).is_err());
    assert_eq!(judge.placeable(&[gang(8, 1), gang(6, 1)]), Ok(()));
    let mut engine = engine(12, 2, "");
    let job = engine.submit(job(vec![gang(13, 1)], None));
    engine.pass(0);
    assert!(engine.state.job(job).is_none(), "it is rejected");
}

#[test]
fn a_gang_goes_where_its_stop_is_no_step_too_large() {
    let mut engine = engine_of(&(text(4, 1, "") + THERE));
    let large = engine.submit(job(vec![gang(2, 4)], Some(100)));
    engine.pass(0);
    assert_eq!(engine.nodes(large)[0].first, NodeIx(16), "eight chips stop at once only there");
    let next = engine.submit(job(vec![gang(2, 4)], None));
    engine.pass(0);
    assert!(!engine.runs(next));
    let what = Unborne::Step { step: Watts::new(8 * CHIP), most: Watts::new(4 * CHIP) };
    assert!(obstacles(&mut engine, next).contains(&Obstacle::Unborne { site: HERE, what }));
    let small = engine.submit(job(vec![gang(1, 4)], None));
    engine.pass(0);
    assert_eq!(engine.nodes(small)[0].first, NodeIx(0));
    engine.pass(100);
    assert!(engine.runs(next), "it has been waiting for that site");
}

#[test]
fn who_need_not_wait_elsewhere_goes_there() {
    let mut engine = engine_of(&(text(4, 1, "") + THERE));
    let jobs: Vec<JobId> = (0..4).map(|_| engine.submit(job(vec![gang(1, 4)], None))).collect();
    assert_eq!(starts(&mut engine, &jobs, 100), [Some(0), Some(0), Some(0), Some(4)]);
}

#[test]
fn hardware_takes_up_what_is_more_and_is_given_time() {
    let mut engine = engine(8, 2, "smoothing = { watts = 2000, source = \"a test\" }");
    // Twelve at once, of which four are smoothed: two seconds for these, and two for the four after them.
    let jobs = [3, 1].map(|nodes| engine.submit(job(vec![gang(nodes, 4)], None)));
    assert_eq!(starts(&mut engine, &jobs, 100), [Some(0), Some(4)]);
    let large = engine.submit(job(vec![gang(3, 4)], None));
    assert_eq!(starts(&mut engine, &[large], 100), [Some(8)], "once the allowance is full");
}

#[test]
fn throttled_work_gets_its_power_back_as_fast_and_before_anybody_starts() {
    let levels = "peak_watts = 600\npower_levels = [{ name = \"low\", power = 0.5, speed = 0.7, basis = \"assumed\", \
                  source = \"a test\" }]";
    let cap = "[caps.grid]\non = \"here\"\nwatts = 60000\nmeter = \"it\"\nkind = \"breaker\"";
    let mut engine = engine_of(&(text(16, 1, "").replace("peak_watts = 600", levels) + cap));
    let running = engine.submit(job(vec![gang(4, 4)], None));
    engine.pass(0);
    // 300 W a chip at half its peak, 200 more than idle: 300 are given back.
    engine.tell(Event::CapSet { cap: LimitIx(0), watts: Watts::new(16 * 900 + 16 * 200) });
    engine.decide();
    let throttle = |engine: &Engine| match &engine.state.job(running).expect("it runs").phase {
        Phase::Running { placement, .. } => placement.throttle.0,
        _ => u8::MAX,
    };
    assert_eq!(throttle(&engine), 1);
    let next = engine.submit(Job { tier: Tier::Reserved, ..job(vec![gang(1, 1)], None) });
    engine.wait(6);
    engine.tell(Event::CapSet { cap: LimitIx(0), watts: Watts::new(60_000) });
    engine.decide();
    // Sixteen chips at 300 W are 4,800 W: nine and a half seconds of 500 W.
    assert_eq!((throttle(&engine), engine.runs(next)), (1, false));
    assert_eq!(engine.state.next_rise(), Some(Timestamp::from_millis(9_600)));
    engine.restore();
    engine.pass(4);
    assert_eq!((throttle(&engine), engine.runs(next)), (0, false), "400 W of 500 are left");
    engine.pass(1);
    assert!(engine.runs(next));
    assert_eq!(engine.folded().essence(), engine.state.essence());
}

#[test]
fn a_swing_has_to_fit_the_rates() {
    // Sixteen chips, half of what they draw, each two seconds: 4 kW, where 1 kW may rise in that time.
    let swinging = |workers, seconds| Gang {
        swing: Some(Swing { share: Ppm::new(500_000), period: Duration::from_secs(seconds) }),
        ..gang(workers, 4)
    };
    let judge = |more| Admission::new(fleet(&text(16, 1, more)));
    let refusal = judge("").placeable(&[swinging(4, 2)]).expect_err("it swings too far");
    assert_eq!(
        refusal.to_string(),
        "its draw swings by 4.00 kW every 2 s, and site here stands 1.00 kW in that time, by the rates of its ramp with \
         what its hardware smooths; ask for fewer chips, or smooth its swing"
    );
    assert_eq!(judge("").placeable(&[swinging(4, 8)]), Ok(()), "slow enough");
    assert_eq!(judge("").placeable(&[swinging(1, 2)]), Ok(()), "small enough");
    assert_eq!(judge("smoothing = { watts = 3000, source = \"a test\" }").placeable(&[swinging(4, 2)]), Ok(()));
    assert!(judge("smoothing = { watts = 2999, source = \"a test\" }").placeable(&[swinging(4, 2)]).is_err());
}

#[test]
fn an_elastic_gang_starts_no_smaller_for_the_sake_of_a_ramp() {
    let mut engine = engine(8, 2, "");
    engine.submit(job(vec![gang(1, 4)], None));
    engine.pass(0);
    let elastic = Elastic { minimum: 1, maximum: 2, speedup: Vec::new() };
    let grown = engine.submit(job(vec![Gang { elastic: Some(elastic), ..gang(2, 4) }], None));
    assert_eq!(starts(&mut engine, &[grown], 100), [Some(2)]);
    assert_eq!(engine.nodes(grown).iter().map(|range| range.count).sum::<u32>(), 2);
}

#[test]
fn work_without_chips_waits_for_no_ramp() {
    let mut engine = engine(1, 1, "");
    let jobs = [gang(1, 1), gang(3, 0), share(500)].map(|gang| engine.submit(job(vec![gang], None)));
    assert_eq!(starts(&mut engine, &jobs, 100), [Some(0), Some(0), Some(1)], "a part of a chip counts as all of it");
}

/// All work has to stop in ten minutes: how many seconds before it is told, or is gone where it saves its work.
fn given_before(ramp: &str, jobs: u32, saves: bool) -> Vec<i64> {
    let cap = "[caps.grid]\non = \"here\"\nwatts = 60000\nmeter = \"it\"\nkind = \"breaker\"";
    let site = PLAIN.replace("node = 4 }", "node = 16 }");
    let mut engine = engine_of(&format!("{site}\n{cap}\n{ramp}\n"));
    let checkpoint = saves.then_some(Checkpoint { interval: Duration::from_secs(60), bytes: 0 });
    (0..jobs).for_each(|_| _ = engine.submit(Job { checkpoint, ..job(vec![gang(1, 4)], None) }));
    engine.pass(0);
    // The ramp lets half of them start at once.
    (0..2).for_each(|_| engine.pass(1));
    let from = Timestamp::from_secs(602);
    let spec = Curtailment {
        name: "cut".to_owned(),
        cap: LimitIx(0),
        watts: Watts::new(16 * 900),
        from,
        until: from + Duration::HOUR,
    };
    engine.tell(Event::CurtailmentAnnounced { curtailment: CurtailmentId(0), spec });
    engine.decide();
    while let Some(next) = engine.state.next_curtailment().filter(|next| *next < from) {
        engine.wait((next - engine.now()).as_millis() / 1000);
        engine.decide();
    }
    let stops = engine.journal.iter().filter_map(|fact| match &fact.event {
        Event::JobStopping { by: Some(by), .. } => Some((from - if saves { *by } else { fact.at }).as_millis() / 1000),
        _ => None,
    });
    stops.collect()
}

#[test]
fn what_a_curtailment_takes_falls_as_fast_as_its_site_stands() {
    assert_eq!(given_before("", 4, false), [10, 10, 10, 10], "all at the last moment");
    // Two kilowatts a job: two of them are a step, and one more each twenty seconds.
    let ramp = "[sites.here.ramp]\nmax_step = { kilowatts = 4 }\nup_per_second = { kilowatts = 10 }\n\
                down_per_second = { watts = 100 }";
    assert_eq!(given_before(ramp, 4, false), [50, 30, 10, 10]);
    assert_eq!(given_before(ramp, 4, true), [40, 20, 0, 0], "who saves its work is gone by then");
    let slow = ramp.replace("100", "10");
    assert_eq!(given_before(&slow, 6, false), [600, 600, 410, 210, 10, 10], "what is too late already goes at once");
}
