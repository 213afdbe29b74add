use proptest::prelude::*;

use super::*;

const LEASE: u64 = 1_000;

fn plan(checkpoint_signal: Option<i32>, checkpoint_grace_ms: u64, grace_ms: u64) -> StopPlan {
    StopPlan { checkpoint: checkpoint_signal.map(|signal| (signal, Whom::Tree)), checkpoint_grace_ms, grace_ms }
}

fn running() -> Core {
    let mut core = Core::new(LEASE);
    assert_eq!(core.step(0, Input::Go), [Action::Spawn]);
    assert_eq!(core.step(0, Input::ChildStarted { pid: 7, since_ms: 70 }), []);
    assert_eq!(*core.phase(), Phase::Running { pid: 7, since_ms: 70 });
    core
}

fn exited(exit: Exit) -> Input {
    Input::ChildExited { exit, out_of_memory: false }
}

fn recorded(exit: Exit, cause: Option<Cause>) -> Vec<Action> {
    vec![Action::Record(Outcome { exit, cause, node_fault: false })]
}

fn term() -> Action {
    Action::Signal { signal: SIGTERM, to: Whom::Tree }
}

#[test]
fn a_worker_that_ends_by_itself_takes_what_it_left_with_it() {
    let mut core = running();
    assert_eq!(core.step(10, exited(Exit::Status(3))), [Action::KillTree]);
    assert_eq!(*core.phase(), Phase::Stopping);
    assert_eq!(core.step(20, Input::Tick), []);
    assert_eq!(core.step(10 + KILL_AGAIN_MS, Input::Tick), [Action::KillTree], "something forked meanwhile");
    assert_eq!(core.step(70, Input::TreeGone), recorded(Exit::Status(3), None));
    assert_eq!(core.deadline(), None);
}

#[test]
fn stopping_goes_from_the_checkpoint_signal_over_sigterm_to_sigkill() {
    let mut core = running();
    assert_eq!(core.deadline(), Some(LEASE));
    let asked = core.step(100, Input::Stop(plan(Some(10), 200, 50)));
    assert_eq!(asked, [Action::Signal { signal: 10, to: Whom::Tree }]);
    assert_eq!(core.deadline(), Some(300));
    assert_eq!(core.step(299, Input::Tick), []);
    assert_eq!(core.step(300, Input::Tick), [term()]);
    assert_eq!(core.step(349, Input::Tick), []);
    assert_eq!(core.step(350, Input::Tick), [Action::KillTree]);
    assert_eq!(core.step(351, exited(Exit::Signal(9))), [Action::KillTree]);
    assert_eq!(core.step(351, Input::TreeGone), recorded(Exit::Signal(9), Some(Cause::Stop)));
}

#[test]
fn without_a_checkpoint_signal_sigterm_comes_at_once() {
    let mut core = running();
    assert_eq!(core.step(5, Input::Stop(plan(None, 500, 50))), [term()]);
    assert_eq!(core.deadline(), Some(55));
}

#[test]
fn a_second_stop_only_hastens() {
    let mut core = running();
    core.step(0, Input::Stop(plan(Some(10), 100, 100)));
    assert_eq!(
        core.step(1, Input::Stop(plan(Some(10), 500, 500))),
        [],
        "the signal is sent once, and nothing gets later"
    );
    assert_eq!(core.deadline(), Some(100));
    assert_eq!(core.step(2, Input::Stop(plan(None, 0, 10))), [term()]);
    assert_eq!(core.step(12, Input::Tick), [Action::KillTree]);
}

#[test]
fn others_may_save_their_work_when_the_shell_dies_of_the_signal() {
    let mut core = running();
    core.step(0, Input::Stop(plan(Some(10), 100, 100)));
    assert_eq!(core.step(1, exited(Exit::Signal(10))), []);
    assert_eq!(core.step(100, Input::Tick), [term()]);
    assert_eq!(core.step(120, Input::TreeGone), recorded(Exit::Signal(10), Some(Cause::Stop)));

    let mut core = running();
    core.step(0, Input::Stop(plan(Some(10), 100, 100)));
    assert_eq!(core.step(1, exited(Exit::Status(0))), [Action::KillTree], "it has saved what there was to save");
}

#[test]
fn the_end_of_the_lease_kills_whatever_is_being_done() {
    let mut core = running();
    assert_eq!(core.step(10, Input::Lease { until_ms: 2_000 }), []);
    assert_eq!(core.step(11, Input::Lease { until_ms: 500 }), [], "what was promised stays");
    assert_eq!(core.step(1_999, Input::Tick), []);
    core.step(1_999, Input::Stop(plan(None, 0, 30_000)));
    assert_eq!(core.step(2_000, Input::Tick), [Action::KillTree]);
    core.step(2_001, exited(Exit::Signal(9)));
    assert_eq!(core.step(2_001, Input::TreeGone), recorded(Exit::Signal(9), Some(Cause::Lease)));
}

#[test]
fn what_was_not_started_never_is() {
    for (input, cause) in [(Input::Kill, Cause::Kill), (Input::Stop(plan(None, 0, 0)), Cause::Stop)] {
        let mut core = Core::new(LEASE);
        let actions = core.step(0, input);
        let exit = Exit::NotStarted(format!("{} before it was started", cause.word()));
        assert_eq!(actions, recorded(exit, Some(cause)));
        assert_eq!(core.step(1, Input::Go), []);
    }
    let mut core = Core::new(LEASE);
    let actions = core.step(LEASE, Input::Go);
    assert_eq!(
        actions,
        recorded(Exit::NotStarted("its lease ended before it was started".to_owned()), Some(Cause::Lease))
    );
}

#[test]
fn memory_that_was_used_up_is_named() {
    let mut core = running();
    core.step(1, Input::ChildExited { exit: Exit::Signal(9), out_of_memory: true });
    assert_eq!(core.step(2, Input::TreeGone), recorded(Exit::Signal(9), Some(Cause::Memory)));
}

#[test]
fn who_stands_still_gets_signals_once_it_goes_on_and_is_killed_at_once() {
    let mut core = running();
    assert_eq!(core.step(1, Input::Pause), [Action::Pause(true)]);
    assert_eq!(core.step(1, Input::Paused(true)), []);
    let signal = |signal| Input::Signal { signal, to: Whom::Worker };
    let sent = |signal| Action::Signal { signal, to: Whom::Worker };
    for number in [SIGTERM, 18, SIGTERM] {
        assert_eq!(core.step(2, signal(number)), [], "it would go on");
    }
    assert_eq!(core.step(3, signal(SIGKILL)), [sent(SIGKILL)]);
    assert_eq!(core.step(4, Input::Resume), [Action::Pause(false)]);
    assert_eq!(core.step(4, Input::Paused(false)), [sent(SIGTERM), sent(18)]);
    assert_eq!(core.step(5, signal(12)), [sent(12)]);
}

/// What may come from outside, and from the worker.
#[derive(Clone, Debug)]
enum Happening {
    Told(Input),
    WorkerEnds(Exit),
    /// What the worker left ends too.
    RestEnds,
    TimePasses(u64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let told = prop_oneof![
        Just(Input::Go),
        (0_u64..4_000).prop_map(|until_ms| Input::Lease { until_ms }),
        Just(Input::Signal { signal: 12, to: Whom::Worker }),
        Just(Input::Signal { signal: SIGTERM, to: Whom::Tree }),
        Just(Input::Signal { signal: SIGKILL, to: Whom::Worker }),
        (proptest::option::of(Just(10)), 0_u64..300, 0_u64..300)
            .prop_map(|(signal, a, b)| Input::Stop(plan(signal, a, b))),
        Just(Input::Pause),
        Just(Input::Resume),
        Just(Input::Kill),
        Just(Input::Tick),
    ];
    let exit = prop_oneof![Just(Exit::Status(0)), Just(Exit::Status(1)), Just(Exit::Signal(15))];
    let happening = prop_oneof![
        4 => told.prop_map(Happening::Told),
        1 => exit.prop_map(Happening::WorkerEnds),
        1 => Just(Happening::RestEnds),
        3 => (0_u64..400).prop_map(Happening::TimePasses),
    ];
    proptest::collection::vec(happening, 0..60)
}

/// A worker and its tree that end only when they like to, or are killed.
#[derive(Debug, Default)]
struct World {
    now_ms: u64,
    spawned: usize,
    records: usize,
    worker_lives: bool,
    rest_lives: bool,
    stands_still: bool,
    /// Told to end for good, or the lease was seen to be over.
    doomed: bool,
}

impl World {
    fn feed(&mut self, core: &mut Core, input: Input, start_works: bool) {
        let mut inputs = std::collections::VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for action in core.step(self.now_ms, input) {
                assert_eq!(self.records, 0, "the record is the last thing");
                match action {
                    Action::Spawn => {
                        assert!(!self.doomed, "nothing starts after its end was ordered");
                        self.spawned += 1;
                        inputs.push_front(if start_works {
                            (self.worker_lives, self.rest_lives) = (true, true);
                            Input::ChildStarted { pid: 1, since_ms: 0 }
                        } else {
                            Input::StartFailed { reason: "no".to_owned(), node_fault: true }
                        });
                    }
                    Action::Signal { signal, .. } => {
                        assert!(self.worker_lives || self.rest_lives);
                        assert!(signal == SIGKILL || !self.stands_still, "it would wake up, or not hear it");
                    }
                    Action::Pause(pause) => {
                        assert!(self.worker_lives && pause != self.stands_still);
                        self.stands_still = pause;
                        inputs.push_front(Input::Paused(pause));
                    }
                    Action::KillTree => {
                        self.rest_lives = false;
                        if std::mem::take(&mut self.worker_lives) {
                            inputs.push_back(exited(Exit::Signal(9)));
                        }
                    }
                    Action::Record(outcome) => {
                        assert!(!self.worker_lives && !self.rest_lives, "the record tells the truth");
                        let never = matches!(outcome.exit, Exit::NotStarted(_));
                        assert_eq!(never, self.spawned == 0 || !start_works);
                        self.records += 1;
                    }
                }
            }
            let gone = !self.worker_lives && !self.rest_lives && inputs.is_empty();
            if gone && matches!(core.phase(), Phase::Running { .. } | Phase::Stopping) {
                inputs.push_back(Input::TreeGone);
            }
        }
    }
}

proptest! {
    #[test]
    fn it_starts_once_and_ends_once(happenings in happenings(), start_works in proptest::bool::weighted(0.9)) {
        let mut core = Core::new(LEASE);
        let mut world = World::default();
        for happening in happenings {
            match happening {
                Happening::Told(input) => {
                    world.doomed |= matches!(input, Input::Stop(_) | Input::Kill);
                    world.feed(&mut core, input, start_works);
                }
                Happening::WorkerEnds(exit) => {
                    if std::mem::take(&mut world.worker_lives) {
                        world.feed(&mut core, exited(exit), start_works);
                    }
                }
                Happening::RestEnds => {
                    if !world.worker_lives && std::mem::take(&mut world.rest_lives) {
                        world.feed(&mut core, Input::TreeGone, start_works);
                    }
                }
                Happening::TimePasses(ms) => world.now_ms += ms,
            }
            prop_assert!(world.spawned <= 1);
            prop_assert_eq!(world.records == 1, *core.phase() == Phase::Ended);
        }
        // Whatever happened, it ends when time goes on: the shell comes back at each deadline.
        while let Some(deadline) = core.deadline() {
            world.now_ms = world.now_ms.max(deadline);
            world.feed(&mut core, Input::Tick, start_works);
            world.doomed = true;
        }
        prop_assert_eq!(world.records, 1);
        world.feed(&mut core, Input::Go, start_works);
        prop_assert!(world.spawned <= 1);
    }
}
