//! Grid events in a simulated course of events.

use offtake_engine::{ChipTime, Throttle};
use offtake_fleet::{Derating, DomainIx, Hours, Schedule};
use offtake_programmes::Zone;
use offtake_sim::{Cut, GridEvent, Setup, Signal, SignalValue, Touched, with_cap};
use offtake_units::{Duration, Ppm, Timestamp, Watts};
use offtake_workload::{Job, Tier};
use proptest::prelude::*;

use crate::failures::{hours, job, setup_on, throttled, under};

/// What the sixteen nodes draw idle, and one node more at work.
const IDLE: Watts = Watts::new(16 * 900);
const NODE: i64 = 4 * 400;

fn at(hour: i64) -> Timestamp {
    Timestamp::from_secs(hour * 3600)
}

/// An event on the site that is announced so many seconds before `begin`.
#[derive(Clone, Copy, Debug)]
struct Asked {
    begin: i64,
    end: i64,
    notice: i64,
    cut: Cut,
}

const fn asked(begin: i64, end: i64, notice: i64, cut: Cut) -> Asked {
    Asked { begin: begin * 3600, end: end * 3600, notice, cut }
}

/// Work with grid events on its site.
fn with_events(jobs: Vec<Job>, events: &[Asked]) -> Setup {
    with_events_on(4, jobs, events)
}

/// The same with so many racks of sixteen chips.
fn with_events_on(racks: u32, jobs: Vec<Job>, events: &[Asked]) -> Setup {
    events_on_site(setup_on(racks, jobs, None, None), events)
}

fn events_on_site(plain: Setup, events: &[Asked]) -> Setup {
    let (fleet, cap) = with_cap(&plain.fleet, DomainIx(0), "grid");
    let event = |asked: &Asked| GridEvent {
        name: format!("from {}", asked.begin),
        cap,
        announced: Timestamp::from_secs(asked.begin - asked.notice),
        at: Timestamp::from_secs(asked.begin),
        until: Timestamp::from_secs(asked.end),
        cut: asked.cut,
        programme: None,
    };
    Setup { fleet, grid_events: events.iter().map(event).collect(), ..plain }
}

/// Ten jobs of a node each that save every half hour.
fn ten() -> Vec<Job> {
    (0..10).map(|_| job(1, 0, hours(10), Some((Duration::from_secs(1800), 0)))).collect()
}

#[test]
fn work_gives_way_in_time_and_for_as_long_as_an_event_lasts() {
    let setup = with_events(ten(), &[asked(2, 5, 1800, Cut::By(Ppm::new(250_000)))]);
    let outcome = under(&setup, "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    assert_eq!(came.before, IDLE + Watts::new(10 * NODE));
    // A quarter of 30.4 kW is 7.6 kW: five of the ten, which draw 8 kW more than idle nodes.
    assert_eq!((came.target, came.stopped, came.least), (Watts::new(22_800), 5, None));
    assert_eq!(came.met, Some(at(2)), "they work for as long as they can, and are gone in time");
    assert_eq!((came.over, came.drawn), (Duration::ZERO, IDLE + Watts::new(5 * NODE)));
    let late = outcome.jobs.iter().filter(|record| record.finished > Some(at(10))).count();
    assert_eq!(late, 5);
    let ended = |record: &offtake_sim::JobOutcome| record.finished.expect("it ended") - at(0);
    let last = outcome.jobs.iter().map(ended).max().expect("there are some");
    assert_eq!(last, hours(13) + Duration::MINUTE, "the last minute goes to saving what they have done");
}

#[test]
fn where_chips_have_power_levels_work_goes_on_slower() {
    let asks = asked(2, 5, 1800, Cut::To(IDLE + Watts::new(10 * 4 * 300)));
    let outcome = under(&events_on_site(throttled(ten()), &[asks]), "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    assert_eq!((came.throttled, came.stopped, came.over), (10, 0, Duration::ZERO));
    let throttled_at = at(2) - Duration::from_secs(10);
    assert_eq!((came.met, came.drawn), (Some(throttled_at), came.target), "at the last moment");
    // A tenth of three hours and ten seconds.
    let lost_ms = (at(5) - throttled_at).as_millis() / 10;
    let late = at(10) + Duration::from_millis(lost_ms);
    assert!(outcome.jobs.iter().all(|record| record.finished == Some(late)), "{:?}", outcome.jobs);
    let chips_ms = |chips: i64, ms: i64| ChipTime(i128::from(chips * 1000) * i128::from(ms));
    let each = |touched: &Touched| (touched.throttle, touched.stops, touched.lost);
    assert_eq!(came.touched.len(), 10);
    let is_alike = |touched| each(touched) == (Throttle(1), 0, chips_ms(4, lost_ms));
    assert!(came.touched.values().all(is_alike), "{:?}", came.touched);
    let tenth = chips_ms(40, lost_ms * 9 / 10);
    assert_eq!(came.if_levels_are_off, (tenth, tenth), "nine hundredths of the speed");
    assert_eq!(outcome.spent.slowness, chips_ms(40, lost_ms));
    assert_eq!(came.given_back.as_mwh(), 0.012, "four kilowatts for three hours");
}

/// A cut of 20 minutes that leaves power to nobody, and two jobs of four nodes of four chips that save their work every
/// half hour.
#[test]
fn who_stands_a_pause_loses_the_time_and_who_does_not_loses_its_work_too() {
    let minutes = |minutes: i64| Duration::from_secs(60 * minutes);
    let saves = Some((minutes(30), 0));
    let stopped = job(4, 0, hours(10), saves);
    let paused = Job { pause: Some(minutes(21)), ..stopped.clone() };
    let cut = Asked { begin: 2 * 3600 + 600, end: 2 * 3600 + 1800, notice: 10, cut: Cut::To(IDLE) };
    let outcome = under(&with_events(vec![paused, stopped], &[cut]), "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    assert_eq!((came.throttled, came.paused, came.stopped, came.over), (0, 1, 1, Duration::ZERO));
    assert_eq!((came.drawn, came.least, came.reserved_stopped), (IDLE, None, 0));
    let [paused, stopped] = outcome.jobs.as_slice() else { unreachable!("there are two") };
    // It stands still ten seconds before its power has to be gone.
    assert_eq!((paused.restarts, paused.finished), (0, Some(at(10) + minutes(20) + Duration::from_secs(10))));
    // What it did in the last 9 minutes and 50 seconds is done again.
    assert_eq!((stopped.restarts, stopped.finished), (1, Some(at(10) + minutes(30))));
    let mut lost: Vec<ChipTime> = came.touched.values().map(|touched| touched.lost).collect();
    lost.sort_unstable_by_key(|lost| lost.0);
    let chips_s = |chips: i128, seconds: i128| ChipTime(chips * 1000 * seconds * 1000);
    assert_eq!(lost, [chips_s(16, 1210), chips_s(16, 1210 + 590)]);
    assert_eq!((outcome.spent.slowness, outcome.spent.rework), (chips_s(16, 1210), chips_s(16, 590)));
}

#[test]
fn nobody_is_paused_for_longer_than_it_stands() {
    let pauses = |seconds| Job { pause: Some(Duration::from_secs(seconds)), ..ten().remove(0) };
    let cut = asked(2, 3, 60, Cut::To(IDLE));
    let outcome = under(&with_events(vec![pauses(3610), pauses(3609)], &[cut]), "offtake");
    let came = &outcome.grid[0];
    assert_eq!((came.paused, came.stopped), (1, 1), "an hour, and ten seconds before");
    // A second event right after the first asks for more than was known when it was paused.
    let events = [cut, asked(3, 4, 60, Cut::To(IDLE))];
    let outcome = under(&with_events(vec![pauses(3610)], &events), "offtake");
    let counts = |place: usize| (outcome.grid[place].paused, outcome.grid[place].stopped, outcome.grid[place].over);
    assert_eq!((counts(0), counts(1)), ((1, 0, Duration::ZERO), (0, 1, Duration::ZERO)));
    // It had saved 90 minutes, and had done 119 minutes and 50 seconds.
    assert_eq!(outcome.jobs[0].finished, Some(at(4) + hours(8) + Duration::from_secs(1800)));
}

#[test]
fn a_cap_that_falls_with_heat_slows_work_down_for_as_long() {
    let mut setup = throttled(ten());
    let (fleet, cap) = with_cap(&setup.fleet, DomainIx(0), "cooling");
    let mut fleet = (*fleet).clone();
    let cooling = &mut fleet.caps[cap.ix()];
    cooling.watts = IDLE + Watts::new(10 * 4 * 400);
    let share = |watts: i64| Ppm::new((watts * 1_000_000 / cooling.watts.get()) as u32 + 1);
    cooling.derating = vec![
        Derating { wet_bulb_mc: 24_000, share: Ppm::ONE },
        Derating { wet_bulb_mc: 30_000, share: share(IDLE.get() + 10 * 4 * 200) },
    ];
    setup.fleet = fleet.into();
    let hour_of = |hour: i64, milli_celsius| {
        let value = SignalValue::WetBulb { from: at(hour), milli_celsius };
        Signal { at: at((hour - 1).max(0)), zone: "here".to_owned(), value }
    };
    let degrees = [22_000, 22_000, 27_000, 27_000, 35_000, 35_000, 24_000];
    setup.signals = (0..).zip(degrees).map(|(hour, degrees)| hour_of(hour, degrees)).collect();
    let outcome = under(&setup, "offtake");
    // Half way, a chip has 300 W more than idle: two hours at nine tenths, then two at seven tenths, each ten seconds early.
    let late = at(10) + Duration::from_secs(2 * 360 + 2 * 1080 + 1 + 2);
    assert!(outcome.jobs.iter().all(|record| record.finished == Some(late)), "{:?}", outcome.jobs);
    assert_eq!(outcome.cap_breaches, 0);
}

#[test]
fn a_cap_that_follows_the_clock_allows_less_in_its_hours() {
    let mut setup = throttled(ten());
    let (fleet, cap) = with_cap(&setup.fleet, DomainIx(0), "tariff");
    let mut fleet = (*fleet).clone();
    let tariff = &mut fleet.caps[cap.ix()];
    tariff.watts = IDLE + Watts::new(10 * 4 * 400);
    // Half of what work draws from two hours after the beginning until four; the run begins in Chicago at six in the evening
    // of Wednesday, the last day of 1969.
    let zone = Zone::named("America/Chicago").expect("it is a zone");
    let hours = |from: u16, day| Hours {
        from,
        until: from + 120,
        days: vec![day],
        months: vec![12],
        watts: IDLE + Watts::new(NODE * 5),
    };
    tariff.schedule = Some(Schedule { zone, hours: vec![hours(20 * 60, 2), hours(22 * 60, 3)] });
    setup.fleet = fleet.into();
    let outcome = under(&setup, "offtake");
    // Two hours at seven tenths, ten seconds early, and a second to start in.
    let late = at(10) + Duration::from_secs(2 * 1080 + 3);
    assert!(outcome.jobs.iter().all(|record| record.finished == Some(late)), "{:?}", outcome.jobs);
    assert_eq!(outcome.cap_breaches, 0);
}

#[test]
fn without_time_to_save_their_work_the_ones_that_saved_last_lose_it() {
    let setup = with_events(ten(), &[Asked { notice: 10, ..asked(2, 5, 0, Cut::By(Ppm::new(250_000))) }]);
    let outcome = under(&setup, "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    assert_eq!((came.stopped, came.over), (5, Duration::ZERO));
    let ended = |record: &offtake_sim::JobOutcome| record.finished.expect("it ended") - at(0);
    let last = outcome.jobs.iter().map(ended).max().expect("there are some");
    // What they did since half past one is done again.
    assert_eq!(last, hours(13) + Duration::from_secs(1800));
}

#[test]
fn checkpoints_go_one_after_the_other_over_the_storage_of_the_site() {
    // A gigabyte a second: each of five checkpoints takes five minutes.
    let jobs = (0..10).map(|_| job(1, 0, hours(10), Some((hours(9), 300_000_000_000)))).collect();
    let outcome = under(&with_events(jobs, &[asked(2, 5, 3600, Cut::By(Ppm::new(250_000)))]), "offtake");
    let ended = |record: &offtake_sim::JobOutcome| record.finished.expect("it ended") - at(0);
    let mut ends: Vec<Duration> = outcome.jobs.iter().map(ended).collect();
    ends.sort_unstable();
    assert_eq!(ends[5..], [hours(13) + Duration::from_secs(1500); 5], "they begin 25 minutes before");
}

#[test]
fn who_would_miss_its_deadline_gives_way_after_its_equals() {
    let by = |hour| Job { deadline: Some(at(hour)), ..ten().remove(0) };
    // Of equals the last to come would give way.
    let jobs = vec![by(20), by(11), by(12)];
    let outcome = under(&with_events(jobs, &[asked(2, 5, 1800, Cut::To(IDLE + Watts::new(2 * NODE)))]), "offtake");
    let restarts: Vec<u32> = outcome.jobs.iter().map(|record| record.restarts).collect();
    assert_eq!(restarts, [1, 0, 0]);
    assert!(outcome.jobs[1..].iter().all(|record| record.finished == Some(at(10))));
}

#[test]
fn nothing_starts_that_would_have_to_stop() {
    let mut jobs = vec![job(5, 0, hours(10), None)];
    // After the announcement one comes that is done in time, and one that is not.
    jobs.extend([job(4, 5000, Duration::from_secs(1800), None), job(4, 5000, hours(3), None)]);
    let target = IDLE + Watts::new(5 * NODE);
    let outcome = under(&with_events(jobs, &[asked(2, 5, 3600, Cut::To(target))]), "offtake");
    // The short one has ended by then.
    assert_eq!((outcome.grid[0].stopped, outcome.grid[0].met), (0, Some(Timestamp::from_secs(6800))));
    let starts: Vec<Option<Timestamp>> = outcome.jobs.iter().map(|record| record.started).collect();
    assert_eq!(starts, [Some(at(0)), Some(Timestamp::from_secs(5000)), Some(at(5))]);
}

#[test]
fn an_event_that_idle_nodes_exceed_is_declared_at_once_with_what_can_be_had() {
    let outcome = under(&with_events(ten(), &[asked(2, 5, 3600, Cut::To(Watts::new(10_000)))]), "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    assert_eq!((came.least, came.stopped), (Some((IDLE, at(1))), 10));
    assert_eq!((came.over, came.drawn), (Duration::ZERO, IDLE), "it is kept as far as it goes");
    assert!(outcome.jobs.iter().all(|record| record.finished.is_some()), "it is over some day");
}

#[test]
fn events_one_after_the_other_are_each_met() {
    let events = [
        asked(1, 2, 600, Cut::To(Watts::new(25_000))),
        asked(2, 3, 600, Cut::To(Watts::new(20_000))),
        asked(4, 6, 10, Cut::By(Ppm::new(1))),
    ];
    let outcome = under(&with_events(ten(), &events), "offtake");
    assert!(outcome.grid.iter().all(|came| came.over == Duration::ZERO && came.drawn <= came.target));
    assert_eq!(outcome.grid.len(), 3);
    assert_eq!(outcome.cap_breaches, 0, "nothing is added to what is over a cap");
}

/// Work of all tiers, so that all of some nodes are busy for a day: a quarter each, in gangs of a node or two that save
/// every ten minutes.
fn a_busy_day(nodes: u32) -> Vec<Job> {
    let gangs = (0..nodes * 2 / 3).map(|number| {
        let saves = Some((Duration::from_secs(600), 0));
        let plain = job(1 + number % 2, 0, hours(24), saves);
        Job { tier: Tier::ALL[(number / 2) as usize % 4], ..plain }
    });
    gangs.collect()
}

/// A field test on 256 GPUs cut a quarter of the power for three hours while work that may not wait kept its pace (Colangelo
/// et al., "Turning AI Data Centers into Grid-Interactive Assets", arXiv:2507.00909).
#[test]
fn a_quarter_of_256_gpus_for_three_hours_at_the_cost_of_those_that_may_wait() {
    let jobs = a_busy_day(64);
    let outcome = under(&with_events_on(16, jobs.clone(), &[asked(6, 9, 900, Cut::By(Ppm::new(250_000)))]), "offtake");
    let [came] = outcome.grid.as_slice() else { unreachable!("one event is announced") };
    assert!(
        came.stopped > 0
            && came.over == Duration::ZERO
            && came.drawn <= came.before - came.before.share_up(Ppm::new(250_000))
    );
    for (job, record) in jobs.iter().zip(&outcome.jobs).filter(|(job, _)| job.tier <= Tier::Guaranteed) {
        assert_eq!((record.restarts, record.finished), (0, Some(at(24))), "{:?}", job.tier);
    }
    let lost: i128 = outcome.spent.rework.0;
    assert_eq!(lost, 0, "all that gave way had time to save its work");
}

/// A trial in London in December 2025 on 96 GPUs: 30 % within 30 seconds, cuts of 40 %, and ten hours long.
#[test]
fn a_third_of_96_gpus_within_30_seconds_and_two_fifths_for_ten_hours() {
    let jobs = a_busy_day(24);
    let events = [
        Asked { notice: 30, ..asked(2, 3, 0, Cut::By(Ppm::new(300_000))) },
        asked(6, 16, 1800, Cut::By(Ppm::new(400_000))),
    ];
    let outcome = under(&with_events_on(6, jobs, &events), "offtake");
    for (came, share) in outcome.grid.iter().zip([300_000, 400_000]) {
        assert!(came.stopped > 0 && came.over == Duration::ZERO && came.least.is_none(), "{came:?}");
        assert!(came.drawn <= came.before - came.before.share_up(Ppm::new(share)), "{came:?}");
    }
    assert!(outcome.jobs.iter().all(|record| record.finished.is_some()));
}

fn work() -> impl Strategy<Value = Job> {
    let saves = prop::option::of((300..7200_i64, 0..400_000_000_000_u64));
    let pause = prop::option::of((60..10_000_i64).prop_map(Duration::from_secs));
    (1..6_u32, 0..40_000_i64, 300..40_000_i64, 0..4_usize, saves, any::<bool>(), pause).prop_map(
        |(nodes, at, seconds, tier, saves, deadline, pause)| {
            let saves = saves.map(|(interval, bytes)| (Duration::from_secs(interval), bytes));
            let plain = job(nodes, at, Duration::from_secs(seconds), saves);
            let deadline = deadline.then(|| plain.submitted + Duration::from_secs(10 * seconds));
            Job { tier: Tier::ALL[tier], deadline, pause, ..plain }
        },
    )
}

/// One event after the other, from the notice of each to its end.
fn events() -> impl Strategy<Value = Vec<Asked>> {
    let cut = prop_oneof![
        3 => (50_000..700_000_u32).prop_map(|share| Cut::By(Ppm::new(share))),
        1 => (8_000..40_000_i64).prop_map(|watts| Cut::To(Watts::new(watts))),
    ];
    let event = (0..7200_i64, prop_oneof![Just(10), 10..7200_i64], 60..9000_i64, cut);
    prop::collection::vec(event, 1..5).prop_map(|drawn| {
        let mut now = 0;
        let place = |(pause, notice, hold, cut): (i64, i64, i64, Cut)| {
            let begin = now + pause + notice;
            now = begin + hold;
            Asked { begin, end: now, notice, cut }
        };
        drawn.into_iter().map(place).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(19),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_event_is_met_or_declared(
        jobs in prop::collection::vec(work(), 1..14),
        events in events(),
        levels in any::<bool>(),
    ) {
        let mut jobs = jobs;
        jobs.sort_by_key(|job| job.submitted);
        let plain = if levels { throttled(jobs) } else { setup_on(4, jobs, None, None) };
        let outcome = under(&events_on_site(plain, &events), "offtake");
        prop_assert_eq!(outcome.cap_breaches, 0);
        for (asked, came) in events.iter().zip(&outcome.grid) {
            prop_assert_eq!(came.over, Duration::ZERO, "{:?} {:?}", asked, came);
            prop_assert!(came.drawn <= came.goal(), "{:?} {:?}", asked, came);
            prop_assert_eq!(came.reserved_stopped, 0, "{:?} {:?}", asked, came);
            let declared = (came.target < IDLE).then(|| (IDLE, Timestamp::from_secs(asked.begin - asked.notice)));
            prop_assert_eq!(came.least, declared);
        }
        prop_assert!(outcome.jobs.iter().all(|record| record.finished.is_some()), "all work is done some day");
    }
}
